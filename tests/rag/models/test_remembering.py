"""An encoder that remembers queries."""

import numpy as np
import pytest

from rag.models.remembering import Remembering
from rag.protocols import Encoder


def test_each_query_is_encoded_once_and_passages_every_time(encoder):
    remembering = Remembering(encoder)
    assert isinstance(remembering, Encoder)
    first = remembering.encode_queries(["a", "b", "a"])
    again = remembering.encode_queries(["b", "c"])
    assert encoder.texts == ["a", "b", "c"]
    np.testing.assert_array_equal(first, encoder.encode(["a", "b", "a"]))
    np.testing.assert_array_equal(again[0], first[1])
    assert remembering.encode_queries([]).shape == (0, encoder.dim)
    assert (remembering.name, remembering.fingerprint) == (encoder.name, encoder.fingerprint)
    del encoder.texts[:]
    remembering.encode(["a"])
    remembering.encode(["a"])
    assert encoder.texts == ["a", "a"]


def test_those_of_the_last_calls_are_kept(encoder):
    remembering = Remembering(encoder, most=2)
    remembering.encode_queries(["a", "b"])
    remembering.encode_queries(["a"])
    remembering.encode_queries(["c"])  # b was asked longest ago
    del encoder.texts[:]
    remembering.encode_queries(["a", "c"])
    assert encoder.texts == []
    found = remembering.encode_queries(["b", "d", "e", "b"])
    assert encoder.texts == ["b", "d", "e"]
    np.testing.assert_array_equal(found, encoder.encode(["b", "d", "e", "b"]))


def test_what_is_returned_can_be_written_to(encoder):
    remembering = Remembering(encoder)
    first = remembering.encode_queries(["a"])
    wanted = first.copy()
    first[:] = 0.0
    np.testing.assert_array_equal(remembering.encode_queries(["a"]), wanted)


def test_refuses_to_remember_less_than_one(encoder):
    with pytest.raises(ValueError, match="most must be at least 1, got 0"):
        Remembering(encoder, most=0)

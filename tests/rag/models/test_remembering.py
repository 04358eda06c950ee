"""An encoder that remembers queries."""

import numpy as np

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

"""Relevant passages: the threshold, the order, and what is kept whatever its cosine."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruners import RelevantPassages
from rag.records import Passage, Query, Span

QUERY = Query("0")


class Compass:
    """Encodes the angle, in degrees, that a text is."""

    name = fingerprint = "compass"
    dim = 2

    def __init__(self):
        self.calls = 0

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        self.calls += 1
        turned = np.radians(np.array([[float(text)] for text in texts]))
        return np.hstack([np.cos(turned), np.sin(turned)]).astype(np.float32)


def passages(*angles):
    return [
        Passage(f"p{n}", "doc", str(a), Span(0, 3), (Span(0, 3),)) for n, a in enumerate(angles)
    ]


def kept(angles, **options):
    return [p.text for p in RelevantPassages(Compass(), **options)(QUERY, passages(*angles))]


def test_keeps_what_reaches_the_threshold_in_the_order_given():
    assert kept([80, 10, 180, 59, 61], threshold=0.5) == ["10", "59"]


def test_a_cosine_at_the_threshold_stays():
    assert kept([0, 90], threshold=1.0, min_keep=0) == ["0"]


def test_the_closest_stay_whatever_their_cosine_ties_to_the_earlier():
    assert kept([180, 100, 100, 90], threshold=0.5) == ["90"]
    assert [p.id for p in RelevantPassages(Compass())(QUERY, passages(180, 100, 100))] == ["p1"]
    assert kept([180, 100, 100, 90], threshold=0.5, min_keep=2) == ["100", "90"]
    assert kept([180, 100], threshold=0.5, min_keep=0) == []


def test_passages_come_back_unchanged_and_none_from_none():
    given_passages = passages(10, 20)
    assert RelevantPassages(Compass())(QUERY, given_passages) == given_passages
    assert kept([]) == []


@settings(max_examples=40)
@given(st.lists(st.integers(0, 180), max_size=6), st.integers(0, 7))
def test_a_lower_threshold_or_more_to_keep_only_adds(angles, keep):
    strict = kept(angles, threshold=0.7, min_keep=keep)
    assert set(strict) <= set(kept(angles, threshold=0.2, min_keep=keep))
    assert set(strict) <= set(kept(angles, threshold=0.7, min_keep=keep + 1))
    assert len(strict) >= min(keep, len(angles))
    assert kept(angles, threshold=-1.0) == [str(a) for a in angles]


def test_a_batch_equals_a_loop_and_encodes_each_side_once():
    encoder = Compass()
    found = [passages(10, 120), [], passages(70)]
    batch = RelevantPassages(encoder).batch(query=[QUERY] * 3, passages=found)
    assert encoder.calls == 2, "one call for the queries, one for the passages"
    assert batch == [RelevantPassages(Compass())(QUERY, one) for one in found]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.1}, r"threshold must be in \[-1, 1\], got 1.1"),
        ({"threshold": float("nan")}, "got nan"),
        ({"min_keep": -1}, "min_keep must be at least 0, got -1"),
    ],
)
def test_rejects_options_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        RelevantPassages(Compass(), **options)

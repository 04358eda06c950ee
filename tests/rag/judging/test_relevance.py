"""Relevance: corrective RAG's three verdicts from the best cosine."""

import numpy as np
import pytest

from rag.judging import Relevance
from rag.records import Query
from rag.similarity import passage_cosines

QUERY = Query("query")


class Compass:
    """Encodes the angle, in degrees, that a text holds; the query points to 0."""

    name = fingerprint = "compass"
    dim = 2

    def __init__(self):
        self.calls = []

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        self.calls.append(list(texts))
        angles = [float("".join(c for c in t if c in "-0123456789") or 0) for t in texts]
        turned = np.radians(np.array(angles).reshape(-1, 1))
        return np.hstack([np.cos(turned), np.sin(turned)]).astype(np.float32)


def test_cosines_follow_the_order_of_queries_and_passages(passage):
    encoder = Compass()
    found = [
        [passage("a", "60"), passage("b", "90")],
        [],
        [passage("a", "60"), passage("c", "180")],
    ]
    cosines = passage_cosines(encoder, [QUERY, Query("unread"), Query("60 too")], found)
    assert cosines == [
        pytest.approx([0.5, 0.0], abs=1e-6),
        [],
        pytest.approx([1.0, -0.5], abs=1e-6),
    ]
    assert encoder.calls == [["query", "60 too"], ["60", "90", "180"]]


def test_a_passage_stands_with_its_title(passage):
    assert passage_cosines(Compass(), [QUERY], [[passage("a", "0", title="9")]])[0][0] < 0.01


def test_cosines_of_nothing_ask_nothing():
    encoder = Compass()
    assert passage_cosines(encoder, [QUERY], [[]]) == [[]]
    assert encoder.calls == []
    with pytest.raises(ValueError, match="must be as long, got 1 and 0"):
        passage_cosines(encoder, [QUERY], [])


@pytest.mark.parametrize(
    ("angles", "passed", "verdict"),
    [
        (["80", "10", "70"], True, "correct: best cosine is 0.98"),
        (["80", "60"], False, "ambiguous: best cosine is 0.50"),
        (["80", "120"], False, "incorrect: best cosine is 0.17"),
    ],
)
def test_the_best_passage_decides(passage, angles, passed, verdict):
    judge = Relevance(Compass(), lower=0.3, upper=0.7)
    found = judge(QUERY, [passage(a, a) for a in angles])
    assert (found.passed, found.reason) == (passed, verdict)


def test_both_thresholds_belong_to_the_better_verdict(passage):
    here = [passage("a", "0")]
    assert Relevance(Compass(), lower=1.0, upper=1.0)(QUERY, here).reason.startswith("correct")
    there = [passage("a", "90")]
    low = float(np.float32(np.cos(np.radians(90.0))))
    assert Relevance(Compass(), lower=low)(QUERY, there).reason.startswith("ambiguous")


def test_without_passages_the_retrieval_is_incorrect():
    found = Relevance(Compass())(QUERY, [])
    assert (found.passed, found.score, found.reason) == (False, -1.0, "incorrect: no passages")


def test_a_batch_equals_a_loop_and_encodes_each_side_once(passage):
    encoder = Compass()
    found = [[passage("a", "10")], [], [passage("b", "80"), passage("c", "50")]]
    batch = Relevance(encoder).batch(query=[QUERY] * 3, passages=found)
    assert encoder.calls == [["query"], ["10", "80", "50"]]
    assert batch == [Relevance(encoder)(QUERY, one) for one in found]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lower": -1.1}, r"lower must be in \[-1, 1\], got -1.1"),
        ({"lower": 0.6, "upper": 0.5}, r"upper must be in \[0.6, 1\], got 0.5"),
        ({"upper": 1.1}, r"upper must be in \[0.\d+, 1\], got 1.1"),
    ],
)
def test_rejects_thresholds_out_of_order(options, message):
    with pytest.raises(ValueError, match=message):
        Relevance(Compass(), **options)

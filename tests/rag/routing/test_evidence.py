"""Routing by evidence: the best passage of each corpus, the router's guess, and who keeps what."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.records import Hit, Query, Route
from rag.routing.evidence import CorpusSearch, EvidenceRouter


class Found:
    """A corpus whose best passages are known."""

    def __init__(self, cosine=None, score=None):
        self.cosine, self.score = cosine, score

    def search_vectors(self, vectors, top_k, *, within=None):
        assert top_k == 1
        return [[] if self.cosine is None else [Hit("a", self.cosine)] for _ in vectors]

    def search_batch(self, queries, top_k, *, within=None):
        assert top_k == 1
        return [[] if self.score is None else [Hit("a", self.score)] for _ in queries]


def corpus(cosine=None, score=None):
    found = Found(cosine, score)
    return CorpusSearch(found, found, lambda text: len(text.split()))


def router(words, corpora, **changes):
    return EvidenceRouter(corpora, words, **changes)


def test_a_hand_worked_correction(words):
    corpora = {"paragraph": corpus(0.5, 8.0), "table": corpus(0.6, 4.0)}
    route = Route(("paragraph",), {"paragraph": 0.6, "table": 0.2, "none": 0.2}, "guess")
    one = router(words, corpora, cosine_weight=10, term_weight=1, prior_weight=1)
    found = one(Query("cat dog sun sea"), route)
    # 0.6 * e^(10 * 0.5 + 8 / 4) against 0.2 * e^(10 * 0.6 + 4 / 4): equal evidence
    assert found.probs == pytest.approx({"paragraph": 0.6, "table": 0.2, "none": 0.2})
    stronger = router(words, corpora, cosine_weight=30, term_weight=1, prior_weight=1)
    found = stronger(Query("cat dog sun sea"), route)
    odds = math.log(0.2 / 0.6) + 30 * 0.1 - 1
    assert found.probs["table"] == pytest.approx(0.8 / (1 + math.exp(-odds)))
    assert (found.labels, found.source, found.fallback) == (("table",), "guess, evidence", False)


def test_labels_without_a_corpus_keep_their_probability(words):
    route = Route(("none",), {"none": 0.7, "image": 0.1, "paragraph": 0.1, "table": 0.1})
    found = router(words, {"paragraph": corpus(0.9), "table": corpus(0.1)})(Query("cat"), route)
    assert (found.probs["none"], found.probs["image"]) == (0.7, 0.1)
    assert found.probs["paragraph"] + found.probs["table"] == pytest.approx(0.2)
    assert found.labels == ("none",)


def test_without_a_prior_the_corpora_decide_alone(words):
    one = router(words, {"paragraph": corpus(0.2), "table": corpus(0.9)}, prior_weight=0)
    found = one(Query("cat"), Route(("paragraph",), {"paragraph": 1.0, "table": 0.0}))
    assert found.labels == ("table",)


def test_a_label_that_the_router_excludes_stays_excluded(words):
    route = Route(("paragraph",), {"paragraph": 1.0, "table": 0.0})
    found = router(words, {"paragraph": corpus(0.2), "table": corpus(0.9)})(Query("cat"), route)
    assert found.probs == {"paragraph": 1.0, "table": 0.0}


def test_a_route_without_labels_is_left_to_the_corpora(words):
    corpora = {"paragraph": corpus(0.2), "table": corpus(0.9)}
    found = router(words, corpora)(Query("cat"), Route(()))
    assert found.labels == ("table",)
    assert sum(found.probs.values()) == pytest.approx(1.0)
    # and one to a label that no corpus has stays, for the step after to mend
    elsewhere = Route(("image",), {"image": 1.0})
    assert router(words, corpora)(Query("cat"), elsewhere) == elsewhere


def test_a_corpus_that_finds_nothing_is_the_worst(words):
    found = router(words, {"paragraph": corpus(), "table": corpus(0.0, 0.1)}, prior_weight=0)(
        Query("cat"), Route((), {})
    )
    assert found.labels == ("table",)


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 30)), min_size=2, max_size=4),
    st.floats(0, 40),
    st.floats(0, 9),
    st.floats(0, 2),
)
def test_the_probabilities_are_the_formula_read_literally(found, cosine, term, prior):
    class Encoder:
        def encode_queries(self, texts):
            return np.ones((len(texts), 2), np.float32)

    labels = [f"label{n}" for n in range(len(found))]
    corpora = {label: corpus(*of) for label, of in zip(labels, found, strict=True)}
    probs = {label: (n + 1) / 20 for n, label in enumerate(labels)}
    one = EvidenceRouter(corpora, Encoder(), cosine, term, prior)
    got = one(Query("two words"), Route((labels[0],), probs))
    logs = [
        prior * math.log(probs[label]) + cosine * c + term * b / 2
        for label, (c, b) in zip(labels, found, strict=True)
    ]
    weights = [math.exp(log - max(logs)) for log in logs]
    for label, weight in zip(labels, weights, strict=True):
        assert got.probs[label] == pytest.approx(sum(probs.values()) * weight / sum(weights))


def test_a_batch_is_the_calls_and_encodes_once(words):
    one = router(words, {"paragraph": corpus(0.3, 1.0), "table": corpus(0.4, 2.0)})
    queries = [Query("cat"), Query("dog sea")]
    routes = [Route((), {"paragraph": 0.5, "table": 0.5}), Route((), {"paragraph": 1.0})]
    alone = [one(q, r) for q, r in zip(queries, routes, strict=True)]
    words.calls = 0
    assert one.batch(query=queries, route=routes) == alone
    assert words.calls == 1
    assert one.batch(query=[], route=[]) == []


@pytest.mark.parametrize(
    ("corpora", "changes", "message"),
    [
        ({}, {}, "corpora must hold at least one with passages, got none"),
        ({"a": corpus()}, {"term_weight": -1}, "term_weight must be at least 0, got -1"),
        ({"a": corpus()}, {"cosine_weight": float("nan")}, "cosine_weight must be at least 0"),
    ],
)
def test_what_is_not_allowed(words, corpora, changes, message):
    with pytest.raises(ValueError, match=message):
        router(words, corpora, **changes)

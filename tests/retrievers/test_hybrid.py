"""Hybrid retrieval: both legs, one leg, fixed depth, and mistakes by name."""

import numpy as np
import pytest

from rag.records import Passage, Query, Span
from rag.text.terms import terms
from retrievers import BM25Index, DenseIndex, Hybrid, minmax_fusion

TEXTS = {
    "a": "red cat",
    "b": "a dog and a red cat",
    "c": "the sun",
    "d": "green dog",
    "e": "red sun and red sea",
}


class LetterEncoder:
    """Counts letters: alike words, alike vectors."""

    name = "letters"
    fingerprint = "letters"
    dim = 26

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        counts = [[t.lower().count(chr(97 + i)) + 0.1 for i in range(26)] for t in texts]
        vectors = np.array(counts, np.float32).reshape(-1, 26)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Unused:
    """Stands for a leg that must not be touched."""

    dim = 26
    name = fingerprint = "unused"
    ids = tuple(TEXTS)

    def search(self, query, top_k):
        raise AssertionError("searched the unused leg")

    search_vector = encode = search


PASSAGES = {i: Passage(i, "doc", t, Span(0, len(t)), (Span(0, len(t)),)) for i, t in TEXTS.items()}
SPARSE = BM25Index.build(list(TEXTS), [terms(t) for t in TEXTS.values()])
DENSE = DenseIndex.build(list(TEXTS), LetterEncoder().encode(list(TEXTS.values())))
QUERY = Query("red cats")


def hybrid(**fields):
    legs = {"sparse": SPARSE, "dense": DENSE, "encoder": LetterEncoder(), "passages": PASSAGES}
    return Hybrid(**legs | fields)


def ids(passages):
    return [passage.id for passage in passages]


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_returns_the_fusion_of_both_legs(weight):
    vector = LetterEncoder().encode([QUERY.text])[0]
    legs = [SPARSE.search(QUERY, 1000), DENSE.search_vector(vector, 1000)]
    expected = minmax_fusion(legs, [weight, 1 - weight])[:4]
    found = hybrid(sparse_weight=weight, top_k=4)(QUERY)
    assert [(p.id, p.score) for p in found] == [(hit.id, hit.score) for hit in expected]
    assert [p.text for p in found] == [TEXTS[p.id] for p in found]


def test_scores_fall_from_one_and_ids_are_unique():
    found = hybrid(top_k=5)(QUERY)
    scores = [p.score for p in found]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] <= 1.0
    assert scores[-1] >= 0.0
    assert len(set(ids(found))) == len(found) == 5


def test_more_results_only_append():
    assert ids(hybrid(top_k=2)(QUERY)) == ids(hybrid(top_k=5)(QUERY))[:2]


def test_weight_one_leaves_the_dense_leg_alone():
    found = hybrid(dense=Unused(), encoder=Unused(), sparse_weight=1.0)(QUERY)
    assert ids(found) == [hit.id for hit in SPARSE.search(QUERY, 3)]


def test_weight_zero_leaves_the_sparse_leg_alone():
    vector = LetterEncoder().encode([QUERY.text])[0]
    found = hybrid(sparse=Unused(), sparse_weight=0.0)(QUERY)
    assert ids(found) == [hit.id for hit in DENSE.search_vector(vector, 3)]


def test_no_shared_word_leaves_the_dense_order():
    found = hybrid(top_k=5)(Query("zebra"))
    assert ids(found) == ids(hybrid(top_k=5, sparse_weight=0.0)(Query("zebra")))


def test_depth_cuts_both_legs():
    found = hybrid(depth=1, top_k=1, sparse_weight=0.9)(QUERY)
    assert ids(found) == [SPARSE.search(QUERY, 1)[0].id]
    assert found[0].score >= 0.9


def test_the_corpus_passages_stay_as_they_were():
    hybrid()(QUERY)
    assert all(p.score is None for p in PASSAGES.values())


def test_hands_back_vectors():
    assert hybrid().vectors(["c", "a"]).tolist() == DENSE.vectors(["c", "a"]).tolist()
    with pytest.raises(KeyError, match="nobody"):
        hybrid().vectors(["nobody"])


def test_an_empty_corpus_finds_nothing():
    empty = hybrid(
        sparse=BM25Index.build([], []),
        dense=DenseIndex.build([], np.zeros((0, 26), np.float32)),
        passages={},
    )
    assert empty(QUERY) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"depth": 2}, "depth must be at least top_k = 3, got 2"),
        ({"sparse_weight": 1.1}, r"sparse_weight must be in \[0, 1\], got 1.1"),
        ({"sparse_weight": float("nan")}, "got nan"),
        ({"sparse": BM25Index.build(["z"], [["z"]])}, "sparse and dense must index the same"),
        (
            {"dense": DenseIndex.build(list(TEXTS), np.eye(5, dtype=np.float32))},
            "encoder must give vectors as wide as dense, 5, got 26 from 'letters'",
        ),
    ],
)
def test_rejects_parts_that_do_not_fit(fields, message):
    with pytest.raises(ValueError, match=message):
        hybrid(**fields)


def test_returns_one_of_several_passages_with_the_same_text():
    texts = {"a": "red cat", "b": "red cat", "c": "red dog"}
    index = {
        "sparse": BM25Index.build(list(texts), [terms(t) for t in texts.values()]),
        "dense": DenseIndex.build(list(texts), LetterEncoder().encode(list(texts.values()))),
        "passages": {
            i: Passage(i, i, t, Span(0, len(t)), (Span(0, len(t)),)) for i, t in texts.items()
        },
    }
    assert ids(hybrid(**index, top_k=2)(QUERY)) == ["a", "c"]
    assert ids(hybrid(**index, top_k=3)(QUERY)) == ["a", "c"]

"""Retrieval by one index, and what all retrievers share: tails, batches, no copies."""

import numpy as np
import pytest

from rag.ranking import Ranking
from rag.records import Passage, Query, Span
from retrievers.dense.index import DenseIndex
from retrievers.hybrid import Hybrid
from retrievers.single import Dense, Sparse
from retrievers.sparse.index import SparseIndex

TEXTS = {
    "a": "red cat",
    "b": "a dog and a red cat",
    "c": "the sun",
    "d": "green dog",
    "e": "red cat",
    "f": "red sun and red sea",
}
QUERIES = [Query("red cats"), Query("zebra"), Query("the sun and the sea")]


class LetterEncoder:
    """Counts letters; keeps the texts of each call."""

    name = fingerprint = "letters"
    dim = 26

    def __init__(self):
        self.calls = []

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        self.calls.append(list(texts))
        counts = [[t.lower().count(chr(97 + i)) + 0.1 for i in range(26)] for t in texts]
        vectors = np.array(counts, np.float32).reshape(-1, 26)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


PASSAGES = {i: Passage(i, "doc", t, Span(0, len(t)), (Span(0, len(t)),)) for i, t in TEXTS.items()}
SPARSE = SparseIndex()
SPARSE.add(list(TEXTS), list(TEXTS.values()))
DENSE = DenseIndex.build(list(TEXTS), LetterEncoder().encode(list(TEXTS.values())))


def sparse(**options):
    return Sparse(SPARSE, PASSAGES, **options)


def dense(encoder=None, **options):
    return Dense(DENSE, encoder or LetterEncoder(), PASSAGES, **options)


def hybrid(encoder=None, **options):
    return Hybrid(SPARSE, DENSE, encoder or LetterEncoder(), PASSAGES, **options)


ALL = [sparse, dense, hybrid]


def ids(hits):
    return [hit.id for hit in hits]


def test_sparse_returns_the_index_order_without_copies():
    found = sparse(top_k=2)(QUERIES[0])
    hits = SPARSE.search(QUERIES[0], 9)
    assert ids(hits) == ["a", "e", "b", "f"]
    assert [(p.id, p.score) for p in found] == [(h.id, h.score) for h in (hits[0], hits[2])]
    assert found.tail == (hits[3],)


def test_sparse_finds_nothing_where_no_term_is_shared():
    assert sparse()(QUERIES[1]) == []


def test_dense_returns_the_index_order_without_copies():
    encoder = LetterEncoder()
    found = dense(encoder, top_k=3)(QUERIES[0])
    hits = [h for h in DENSE.search_vector(encoder.encode([QUERIES[0].text])[0], 9) if h.id != "e"]
    assert [(p.id, p.score) for p in found] == [(h.id, h.score) for h in hits[:3]]
    assert found.tail == tuple(hits[3:])


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("query", QUERIES)
def test_scores_never_rise_ids_and_texts_are_unique(make, query):
    found = make(top_k=3)(query)
    assert isinstance(found, Ranking)
    keys = [(-hit.score, hit.id) for hit in found.hits]
    assert keys == sorted(set(keys))
    assert len({p.text for p in found}) == len(found) == len(set(ids(found)))
    assert all(p.text == TEXTS[p.id] for p in found)


@pytest.mark.parametrize("make", ALL)
def test_a_larger_top_k_turns_the_tail_into_passages(make):
    few, many = make(top_k=1)(QUERIES[2]), make(top_k=9)(QUERIES[2])
    assert ids(few) == ids(many)[:1]
    assert [h.id for h in few.hits if h.id != "e"] == [h.id for h in many.hits if h.id != "e"]
    assert many.tail == ()


@pytest.mark.parametrize("make", [dense, hybrid])
def test_a_batch_equals_a_loop_and_encodes_once(make):
    encoder = LetterEncoder()
    batch = make(encoder, top_k=2).batch(query=QUERIES)
    assert encoder.calls == [[query.text for query in QUERIES]]
    loop = [make(top_k=2)(query) for query in QUERIES]
    assert batch == loop
    assert [found.tail for found in batch] == [found.tail for found in loop]
    assert make(top_k=2).batch(query=[]) == []


def test_a_hybrid_batch_without_its_dense_leg_encodes_nothing():
    encoder = LetterEncoder()
    found = hybrid(encoder, sparse_weight=1.0).batch(query=QUERIES)
    assert encoder.calls == []
    assert found[1] == []


def test_dense_hands_back_vectors_and_sparse_has_none():
    assert dense().vectors(["c"]).tolist() == DENSE.vectors(["c"]).tolist()
    assert sparse().vectors([]).shape == (0, 0)
    with pytest.raises(KeyError, match="no vector for passage 'c': sparse retrieval keeps none"):
        sparse().vectors(["c"])


@pytest.mark.parametrize("make", ALL)
def test_the_corpus_stays_as_it_was_and_options_are_checked(make):
    make()(QUERIES[0])
    assert all(p.score is None for p in PASSAGES.values())
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        make(top_k=0)


def test_dense_rejects_an_encoder_of_another_width():
    narrow = DenseIndex.build(list(TEXTS), np.eye(6, dtype=np.float32))
    with pytest.raises(ValueError, match="as wide as dense, 6, got 26 from 'letters'"):
        Dense(narrow, LetterEncoder(), PASSAGES)

"""Learned sparse retrieval over postings, by an encoder that a test wrote down."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.records import Hit, Query
from retrievers.sparse.index import SparseIndex
from retrievers.sparse.learned import LearnedSparse
from retrievers.sparse.weighting import Impact

TERMS = "abcde"


class Weigher:
    """A term a letter: passages weigh it by its count, queries twice that, and `e` never counts."""

    def __init__(self):
        self.calls = []

    def _weights(self, texts, factor):
        self.calls.append(list(texts))
        return [{c: factor * t.count(c) for c in sorted(set(t) & set("abcd"))} for t in texts]

    def encode(self, texts, *, progress=None):
        return self._weights(texts, 1.0)

    def encode_queries(self, texts):
        return self._weights(texts, 2.0)


def dense(text):
    return np.array([float(text.count(c)) for c in "abcd"])


texts = st.text(TERMS, max_size=6)


def test_scores_by_hand():
    search = LearnedSparse.build(["q", "p", "r"], ["ab", "aab", "cd"], Weigher())
    assert search.search(Query("ab"), 5) == [Hit("p", 6.0), Hit("q", 4.0)]
    assert search.scores_of(Query("ab"), ["r", "q"]).tolist() == [0.0, 4.0]
    assert search.ids == ("p", "q", "r")


@given(
    corpus=st.lists(texts, max_size=8),
    queries=st.lists(texts.filter(str.strip), max_size=3),
    top_k=st.integers(1, 10),
    allowed=st.none() | st.frozensets(st.sampled_from(["p0", "p1", "p5", "unknown"])),
)
def test_ranks_by_the_dot_product(corpus, queries, top_k, allowed):
    ids = [f"p{row}" for row in range(len(corpus))]
    search = LearnedSparse.build(ids, corpus, Weigher())
    asked = [Query(text) for text in queries]
    batch = search.search_batch(asked, top_k, within=allowed)
    for query, found in zip(asked, batch, strict=True):
        scores = {
            id_: float(2 * dense(query.text) @ dense(text))
            for id_, text in zip(ids, corpus, strict=True)
        }
        hits = [Hit(i, s) for i, s in scores.items() if s > 0 and (allowed is None or i in allowed)]
        assert found == sorted(hits, key=lambda hit: (-hit.score, hit.id))[:top_k]
        assert found == search.search(query, top_k, within=allowed)
        assert search.scores_of(query, ids).tolist() == list(scores.values())


def test_a_batch_is_encoded_in_one_call():
    encoder = Weigher()
    search = LearnedSparse.build(["p"], ["ab"], encoder)
    search.search_batch([Query("a"), Query("b")], 1)
    assert encoder.calls == [["ab"], ["a", "b"]]


def test_a_query_without_terms_finds_nothing():
    search = LearnedSparse.build(["p"], ["ab"], Weigher())
    assert search.search(Query("e"), 3) == []
    assert search.scores_of(Query("e"), ["p"]).tolist() == [0.0]


def test_what_is_added_to_the_index_or_deleted_counts_at_once():
    search = LearnedSparse.build(["p"], ["ab"], Weigher())
    search.index.add_vectors(["n"], [{"a": 9.0}])
    assert [hit.id for hit in search.search(Query("a"), 3)] == ["n", "p"]
    search.index.delete(["p"])
    assert [hit.id for hit in search.search(Query("a"), 3)] == ["n"]


def test_refuses_counts_unknown_ids_and_no_results():
    with pytest.raises(ValueError, match=r"index must have weighting=Impact\(\), got BM25"):
        LearnedSparse(SparseIndex(), Weigher())
    search = LearnedSparse(SparseIndex(Impact()), Weigher())
    assert search.search(Query("a"), 3) == []
    with pytest.raises(KeyError, match="p"):
        search.scores_of(Query("a"), ["p"])
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        search.search(Query("a"), 0)
    with pytest.raises(ValueError, match="ids and vectors must be as long, got 1 and 0"):
        LearnedSparse.build(["p"], [], Weigher())

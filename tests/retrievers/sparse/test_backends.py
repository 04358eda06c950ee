"""The frozen backends rank-bm25 and bm25s: scores and rankings beside those of `SparseIndex`."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag.errors import MissingExtraError
from rag.records import Query
from rag.text.analyser import Analyser
from retrievers.sparse import bm25s as backend
from retrievers.sparse.bm25s import BM25S
from retrievers.sparse.index import SparseIndex
from retrievers.sparse.rank_bm25 import RankBM25
from retrievers.sparse.weighting import BM25

WORDS = ["red", "green", "blue", "cat", "dog", "sun", "moon"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join), max_size=12)
QUERIES = st.lists(st.sampled_from([*WORDS, "unseen"]), min_size=1, max_size=5).map(" ".join)
BACKENDS = [RankBM25, BM25S]


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.__name__)
def make(request):
    pytest.importorskip({RankBM25: "rank_bm25", BM25S: "bm25s"}[request.param])
    return request.param


def indexes(texts, weighting, make, **options):
    """The same passages, given last first, in both."""
    ids = [f"p{row:02}" for row in range(len(texts))][::-1]
    index = SparseIndex(weighting)
    index.add(ids, texts[::-1])
    return index, make(ids, texts[::-1], **options)


@given(texts=TEXTS, query=QUERIES, k1=st.floats(0, 3), b=st.floats(0, 1))
@example(texts=["", "red", "red sun sun"], query="red sun", k1=1.0, b=1.0)
@example(texts=["", "red", "red sun sun"], query="red sun", k1=0.0, b=0.5)
def test_rank_bm25_scores_as_okapi_to_nine_digits(texts, query, k1, b):
    pytest.importorskip("rank_bm25")
    ours, theirs = indexes(texts, BM25("okapi", k1=k1, b=b), RankBM25, k1=k1, b=b)
    asked = Query(query)
    expected = theirs.scores_of(asked, ours.ids)
    np.testing.assert_allclose(ours.scores_of(asked, ours.ids), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variant", ["lucene", "robertson", "atire"])
@settings(max_examples=30)
@given(texts=TEXTS, query=QUERIES, k1=st.floats(0.1, 3), b=st.floats(0, 1))
def test_bm25s_scores_as_the_same_variant_to_single_precision(variant, texts, query, k1, b):
    pytest.importorskip("bm25s")
    ours, theirs = indexes(texts, BM25(variant, k1=k1, b=b), BM25S, method=variant, k1=k1, b=b)
    asked = Query(query)
    expected = theirs.scores_of(asked, ours.ids)
    np.testing.assert_allclose(ours.scores_of(asked, ours.ids), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("method", "variant"), [("bm25l", "l"), ("bm25+", "plus")])
def test_bm25s_gives_the_delta_of_l_and_plus_to_every_passage_and_we_do_not(method, variant):
    """Scores of passages that hold the term agree; of the others ours are 0, as in the papers."""
    pytest.importorskip("bm25s")
    texts = ["cat cat dog", "cat", "sun sun sun moon", "", "dog red"]
    ours, theirs = indexes(texts, BM25(variant, delta=0.5), BM25S, method=method)
    asked = Query("cat")
    own, other = (each.scores_of(asked, ours.ids) for each in (ours, theirs))
    np.testing.assert_allclose(own[:2], other[:2], rtol=1e-5)
    assert own[2:].tolist() == [0.0] * 3
    assert (other[2:] > 0.0).all()
    assert [h.id for h in ours.search(asked, 2)] == [h.id for h in theirs.search(asked, 2)]


@pytest.mark.parametrize("method", ["robertson", "lucene", "atire", "bm25l", "bm25+"])
def test_every_method_of_bm25s_ranks_what_holds_more_terms_first(method):
    pytest.importorskip("bm25s")
    texts = ["cat", "cat dog", "sun", "moon", "red", "blue", "green"]
    search = BM25S([f"p{row}" for row in range(7)], texts, method=method)
    assert [hit.id for hit in search.search(Query("cat dog"), 2)] == ["p1", "p0"]


@settings(max_examples=50)
@given(texts=TEXTS, query=QUERIES, top_k=st.integers(1, 6), data=st.data())
@pytest.mark.parametrize("make", BACKENDS)
def test_a_filter_comes_before_the_ranking_and_a_batch_is_a_loop(make, texts, query, top_k, data):
    pytest.importorskip({RankBM25: "rank_bm25", BM25S: "bm25s"}[make])
    ids = [f"p{row:02}" for row in range(len(texts))]
    search, asked = make(ids, texts), Query(query)
    every = search.search(asked, 99)
    assert every == sorted(every, key=lambda hit: (-hit.score, hit.id))
    assert search.search(asked, top_k) == every[:top_k]
    within = data.draw(st.frozensets(st.sampled_from([*ids, "nobody"])))
    allowed = [hit for hit in every if hit.id in within]
    assert search.search(asked, top_k, within=within) == allowed[:top_k]
    scores = search.scores_of(asked, [hit.id for hit in every]).tolist()
    assert scores == [hit.score for hit in every]
    left_out = [id_ for id_ in ids if id_ not in {hit.id for hit in every}]
    assert search.scores_of(asked, left_out).tolist() == [0.0] * len(left_out)
    queries = [asked, Query("sun"), Query("unseen")]
    assert search.search_batch(queries, top_k, within=within) == [
        search.search(one, top_k, within=within) for one in queries
    ]


def test_ids_ascend_and_ties_go_by_them(make):
    search = make(["c", "a", "z", "b", "y"], ["cat", "cat", "dog", "cat", "sun"])
    assert search.ids == ("a", "b", "c", "y", "z")
    assert [hit.id for hit in search.search(Query("cat"), 2)] == ["a", "b"]


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_a_corpus_without_terms_finds_nothing(make, texts):
    search = make([f"p{row}" for row in range(len(texts))], texts)
    assert search.search(Query("cat"), 3) == []
    assert search.scores_of(Query("cat"), search.ids).tolist() == [0.0] * len(texts)


def test_an_analyser_of_ones_own_makes_the_terms(make):
    texts = ["cats", "cat", "dog", "sun", "moon"]
    ids = [f"p{row}" for row in range(5)]
    plain = make(ids, texts, analyser=Analyser("none"))
    assert [hit.id for hit in plain.search(Query("cats"), 9)] == ["p0"]
    assert [hit.id for hit in make(ids, texts).search(Query("cats"), 9)] == ["p0", "p1"]


def test_mistakes_are_named(make):
    with pytest.raises(ValueError, match="ids and texts must be as long, got 1 and 0"):
        make(["a"], [])
    with pytest.raises(ValueError, match="ids must be unique, got 'a' twice"):
        make(["a", "b", "a"], ["", "", ""])
    search = make(["a", "b"], ["cat", "dog"])
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        search.search(Query("cat"), 0)
    with pytest.raises(KeyError, match="no passage 'nobody' in the index"):
        search.scores_of(Query("cat"), ["a", "nobody"])


def test_without_bm25s_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr(backend, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'dovetail-rag\[bm25s\]'"):
        BM25S(["a"], ["cat"])

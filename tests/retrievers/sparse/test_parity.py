"""Scores of terms: parity with rank-bm25 and bm25s, and each formula read literally."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.records import Query
from retrievers.sparse.index import SparseIndex
from retrievers.sparse.rank_bm25 import RankBM25
from retrievers.sparse.weighting import BM25, Impact

WORDS = [f"w{n}" for n in range(12)]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=9), min_size=1, max_size=14)
queries = st.lists(st.sampled_from([*WORDS, "unknown"]), min_size=1, max_size=6)


def named(found):
    return {f"p{row:02}": terms for row, terms in enumerate(found)}


def index_of(passages, weighting=None):
    index = SparseIndex(weighting)
    index.add_terms(list(passages), list(passages.values()))
    return index


def counted(terms):
    return {term: float(terms.count(term)) for term in terms}


@given(texts=texts, query=queries)
def test_okapi_scores_are_those_of_rank_bm25(texts, query):
    """Whatever the corpus: one passage, empty passages, terms that most passages hold."""
    if not any(texts):
        return
    from rank_bm25 import BM25Okapi

    passages = named(texts)
    expected = BM25Okapi(list(passages.values())).get_scores(query)
    index = index_of(passages, BM25("okapi", k1=1.5, b=0.75))
    found = index.scores_of_terms(counted(query), list(passages))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def literal(variant, f, n, total, length, mean, k1, b, delta):
    """One term's score by the table of formulas."""
    norm = 1 - b + b * length / mean
    c, bound = f / norm, k1 * norm
    return {
        "robertson": lambda: math.log(max(1, (total - n + 0.5) / (n + 0.5))) * f / (f + bound),
        "lucene": lambda: math.log(1 + (total - n + 0.5) / (n + 0.5)) * f / (f + bound),
        "atire": lambda: math.log(total / n) * f * (k1 + 1) / (f + bound),
        "l": lambda: math.log((total + 1) / (n + 0.5)) * (k1 + 1) * (c + delta) / (k1 + c + delta),
        "plus": lambda: math.log((total + 1) / n) * (f * (k1 + 1) / (f + bound) + delta),
    }[variant]()


@pytest.mark.parametrize("variant", ["robertson", "lucene", "atire", "l", "plus"])
@given(texts=texts, query=queries)
def test_each_variant_is_its_formula(variant, texts, query):
    passages = named(texts)
    k1, b, delta = 1.2, 0.6, 0.7
    mean = sum(map(len, texts)) / len(texts)
    index = index_of(passages, BM25(variant, k1=k1, b=b, delta=delta))
    found = index.scores_of_terms(counted(query), list(passages))
    for terms, score in zip(passages.values(), found, strict=True):
        expected = sum(
            literal(
                variant, terms.count(t), sum(t in other for other in texts), len(texts),
                len(terms), mean, k1, b, delta,
            )
            for t in query
            if t in terms
        )  # fmt: skip
        assert score == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("variant", ["lucene", "robertson", "atire"])
def test_bm25s_agrees_to_single_precision(variant):
    pytest.importorskip("bm25s", reason="needs the extra 'bm25s'")
    from retrievers.sparse.bm25s import BM25S

    rng = np.random.default_rng(0)
    words = [f"w{n}" for n in range(200)]
    texts = {f"p{n:03}": " ".join(rng.choice(words, rng.integers(0, 30))) for n in range(300)}
    other = BM25S(list(texts), list(texts.values()), method=variant, k1=0.9, b=0.4)
    index = SparseIndex(BM25(variant))
    index.add(list(texts), list(texts.values()))
    for asked in ("w1 w5 w5 w77 unknown", "w199", "nothing known"):
        query = Query(asked)
        ours, theirs = (one.scores_of(query, list(texts)) for one in (index, other))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        assert [h.id for h in index.search(query, 20)] == [h.id for h in other.search(query, 20)]
    assert BM25S([], []).search(Query("w1"), 3) == []


def test_the_reference_backend_ranks_and_filters_alike():
    texts = {"b": "red cat", "a": "red cat", "c": "blue dog dog", "d": ""}
    reference = RankBM25(list(texts), list(texts.values()))
    index = SparseIndex(BM25("okapi", k1=1.5, b=0.75))
    index.add(list(texts), list(texts.values()))
    assert reference.ids == index.ids == ("a", "b", "c", "d")
    for asked in ("red cats", "dog", "red dog", "zebra"):
        query = Query(asked)
        for within in (None, frozenset({"b", "c", "gone"})):
            found = reference.search(query, 9, within=within)
            expected = index.search(query, 9, within=within)
            assert [hit.id for hit in found] == [hit.id for hit in expected]
            scores = [hit.score for hit in expected]
            assert [hit.score for hit in found] == pytest.approx(scores, rel=1e-9)
    assert reference.search_batch([Query("dog")], 1) == [reference.search(Query("dog"), 1)]
    with pytest.raises(KeyError, match="no passage 'x'"):
        reference.scores_of(Query("dog"), ["x"])
    assert RankBM25(["a"], [""]).search(Query("dog"), 1) == []
    with pytest.raises(ValueError, match="as long, got 1 and 2"):
        RankBM25(["a"], ["x", "y"])


@given(
    vectors=st.lists(
        st.dictionaries(st.sampled_from(WORDS), st.floats(0.125, 9, width=32), max_size=6),
        min_size=1,
        max_size=8,
    ),
    query=st.dictionaries(st.sampled_from(WORDS), st.floats(-3, 9), min_size=1, max_size=6),
)
def test_impacts_score_by_the_dot_product(vectors, query):
    ids = [f"p{row}" for row in range(len(vectors))]
    index = SparseIndex(Impact())
    index.add_vectors(ids, vectors)
    expected = [sum(w * v.get(t, 0.0) for t, w in query.items()) for v in vectors]
    np.testing.assert_allclose(index.scores_of_terms(query, ids), expected, rtol=1e-6, atol=1e-9)
    hits = index.search_terms(query, 99)
    keys = [(-hit.score, hit.id) for hit in hits]
    assert keys == sorted(keys)
    assert {hit.id for hit in hits} <= set(ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "bm11"}, "variant must be one of .*, got 'bm11'"),
        ({"k1": -1.0}, "k1 must be at least 0 and finite, got -1.0"),
        ({"k1": math.nan}, "k1 must be at least 0 and finite, got nan"),
        ({"b": 1.5}, r"b must be in \[0, 1\], got 1.5"),
        ({"delta": -0.1}, "delta must be at least 0"),
    ],
)
def test_rejects_parameters_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        BM25(**options)

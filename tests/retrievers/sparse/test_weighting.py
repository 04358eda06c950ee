"""Weightings: okapi by hand and by rank-bm25 in tiny corpora, formulas of one term, records."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.records import Hit, Query
from rag.text.bm25 import bm25_scores
from retrievers.sparse.index import SparseIndex
from retrievers.sparse.weighting import (
    BM25,
    Impact,
    weighting_from_json,
    weighting_to_json,
)

WORDS = ["red", "green", "blue", "cat", "dog", "sun"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=8), max_size=12)
QUERIES = st.lists(st.sampled_from([*WORDS, "unseen"]), min_size=1, max_size=5)
VARIANTS = ["okapi", "robertson", "lucene", "atire", "l", "plus"]


def index_of(texts, weighting):
    index = SparseIndex(weighting)
    index.add_terms([f"p{row:03}" for row in range(len(texts))], texts)
    return index


def scores(index, query):
    weights = {term: float(query.count(term)) for term in query}
    return index.scores_of_terms(weights, index.ids)


def okapi(texts, query, k1, b, epsilon):
    """Okapi with the floor of rank-bm25, read literally, one passage and term after the other."""
    n = {term: sum(term in text for text in texts) for text in texts for term in text}
    raw = {t: math.log(len(texts) - df + 0.5) - math.log(df + 0.5) for t, df in n.items()}
    mean_idf = sum(raw.values()) / len(raw) if raw else 0.0
    idf = {t: w if w >= 0 else epsilon * mean_idf for t, w in raw.items()}
    mean = sum(map(len, texts)) / len(texts) if texts else 0.0
    return [
        sum(
            idf[t] * text.count(t) * (k1 + 1)
            / (text.count(t) + k1 * (1 - b + b * len(text) / mean))
            for t in query
            if t in text
        )
        for text in texts
    ]  # fmt: skip


def test_two_passages_by_hand():
    # N = 2, n = 1: idf = ln 2; b = 0, k1 = 1: f / (f + 1) with f = 2.
    found = index_of([["cat", "cat"], ["dog"]], BM25(k1=1.0, b=0.0)).search(Query("cat"), 5)
    assert found == [Hit("p000", pytest.approx(math.log(2) * 2 / 3))]


@given(
    texts=TEXTS, query=QUERIES, k1=st.floats(0, 3), b=st.floats(0, 1), epsilon=st.floats(0, 1)
)  # fmt: skip
def test_okapi_is_its_formula_with_any_parameters(texts, query, k1, b, epsilon):
    found = scores(index_of(texts, BM25("okapi", k1=k1, b=b, epsilon=epsilon)), query)
    np.testing.assert_allclose(
        found, okapi(texts, query, k1, b, epsilon), rtol=1e-9, atol=1e-12
    )  # fmt: skip


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
@given(texts=TEXTS, query=QUERIES)
def test_each_other_variant_is_its_formula(variant, texts, query):
    k1, b, delta = 1.2, 0.6, 0.7
    mean = sum(map(len, texts)) / len(texts) if texts else 0.0
    found = scores(index_of(texts, BM25(variant, k1=k1, b=b, delta=delta)), query)
    for text, score in zip(texts, found, strict=True):
        expected = sum(
            literal(
                variant, text.count(t), sum(t in other for other in texts), len(texts),
                len(text), mean, k1, b, delta,
            )
            for t in query
            if t in text
        )  # fmt: skip
        assert score == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("passages", [1, 2, 3])
def test_okapi_matches_rank_bm25_in_every_corpus_of_up_to_three_passages(passages):
    """Where the mean idf itself falls below 0, so that matching passages score below 0."""
    rank_bm25 = pytest.importorskip("rank_bm25")
    kinds = [[], ["cat"], ["cat", "cat"], ["dog"], ["cat", "dog"], ["cat", "dog", "sun"]]
    query = ["cat", "cat", "dog", "unseen"]
    for texts in itertools.product(kinds, repeat=passages):
        if not any(texts):  # rank-bm25 divides by the number of terms
            continue
        expected = rank_bm25.BM25Okapi(list(texts)).get_scores(query)
        found = scores(index_of(texts, BM25("okapi", k1=1.5, b=0.75)), query)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_okapi_ranks_passages_that_score_below_zero():
    index = index_of([["cat", "dog"], ["cat"]], BM25("okapi", k1=1.5, b=0.75))
    hits = index.search(Query("cat"), 5)
    assert [hit.id for hit in hits] == ["p000", "p001"]
    assert 0 > hits[0].score > hits[1].score


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (2.0, 0.0), (1.2, 1.0)])
def test_okapi_matches_rank_bm25_where_words_are_as_common_as_in_language(k1, b):
    rank_bm25 = pytest.importorskip("rank_bm25")
    rng = np.random.default_rng(0)
    # Word w0 stands in nearly every text, so its idf would be negative and takes the floor.
    texts = [[f"w{w}" for w in rng.zipf(1.3, rng.integers(1, 30)) % 50] for _ in range(200)]
    reference = rank_bm25.BM25Okapi(texts, k1=k1, b=b)
    index = index_of(texts, BM25("okapi", k1=k1, b=b))
    assert index.df("w1") > 100
    assert index.idf("w1") == pytest.approx(0.25 * reference.average_idf, rel=1e-9)
    for query in (["w1"], ["w1", "w2", "w2"], [f"w{w}" for w in range(50)], ["unseen"]):
        np.testing.assert_allclose(scores(index, query), reference.get_scores(query), rtol=1e-9)


@given(texts=TEXTS, query=QUERIES)
def test_lucene_matches_the_pure_function(texts, query):
    found = scores(index_of(texts, BM25()), query)
    np.testing.assert_allclose(found, bm25_scores(query, texts), rtol=1e-12)


def test_the_idf_of_every_variant_by_hand():
    # N = 4; cat stands in 3 passages, dog in 1. Okapi's raw idfs are -ln(7/3) and ln(7/3).
    texts = [["cat", "dog"], ["cat"], ["cat"], []]
    ln = math.log
    expected = {
        "okapi": (0.0, ln(3.5 / 1.5)),
        "robertson": (0.0, ln(3.5 / 1.5)),
        "lucene": (ln(1 + 1.5 / 3.5), ln(1 + 3.5 / 1.5)),
        "atire": (ln(4 / 3), ln(4)),
        "l": (ln(5 / 3.5), ln(5 / 1.5)),
        "plus": (ln(5 / 3), ln(5)),
    }
    for variant, idfs in expected.items():
        index = index_of(texts, BM25(variant))
        assert (index.idf("cat"), index.idf("dog")) == pytest.approx(idfs, abs=1e-12), variant
        assert index.idf("unseen") == 0.0


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("texts", [[], [[]], [[], []]])
def test_a_corpus_without_terms_finds_nothing(variant, texts):
    index = index_of(texts, BM25(variant))
    assert index.search(Query("cat"), 3) == []
    assert scores(index, ["cat"]).tolist() == [0.0] * len(texts)


@pytest.mark.parametrize(("variant", "delta"), [("l", 0.5), ("plus", 1.0)])
def test_the_default_delta_is_that_of_the_papers(variant, delta):
    texts = [["cat", "cat", "dog"], ["cat"], ["sun"], []]
    plain, given_ = (index_of(texts, BM25(variant, delta=d)) for d in (None, delta))
    assert scores(plain, ["cat", "dog"]).tolist() == scores(given_, ["cat", "dog"]).tolist()
    other = index_of(texts, BM25(variant, delta=0.0))
    assert (scores(other, ["cat"])[:2] < scores(plain, ["cat"])[:2]).all()
    assert scores(plain, ["cat"])[2:].tolist() == [0.0, 0.0], "delta is for passages with the term"


@pytest.mark.parametrize("variant", ["robertson", "lucene", "atire", "okapi"])
def test_other_variants_ignore_delta(variant):
    texts = [["cat", "cat", "dog"], ["cat"], ["sun"]]
    found = [scores(index_of(texts, BM25(variant, delta=d)), ["cat"]).tolist() for d in (None, 9.0)]
    assert found[0] == found[1]


@given(texts=TEXTS, data=st.data())
def test_the_floor_of_okapi_is_the_same_in_any_order_to_the_last_bit(texts, data):
    frequencies = np.array([1, 1, 2, 3, *map(len, texts)], np.int64) + 1
    order = data.draw(st.permutations(range(len(frequencies))))
    weighting, most = BM25("okapi"), int(frequencies.max())
    floors = {
        weighting.idf(most, most, lambda given_=given_: given_)
        for given_ in (frequencies, frequencies[order])
    }
    assert len(floors) == 1


def test_impact_takes_values_as_they_are():
    weighting = Impact()
    values = np.array([0.5, 3.0], np.float32)
    inside = weighting.inside(values, weighting.norms(np.array([1, 2]), 1.5))
    assert inside.dtype == np.float64
    assert inside.tolist() == [0.5, 3.0]
    assert weighting.idf(3, 9, lambda: values) == 1.0


@pytest.mark.parametrize(
    "weighting",
    [*(BM25(variant) for variant in VARIANTS), BM25("l", k1=0.1, b=1.0, delta=0.25), Impact()],
)
def test_a_record_describes_its_weighting(weighting):
    assert weighting_from_json(weighting_to_json(weighting)) == weighting


@pytest.mark.parametrize(
    ("record", "error", "message"),
    [
        ({}, ValueError, "weighting must be bm25 or impact, got None"),
        ({"name": "tfidf"}, ValueError, "weighting must be bm25 or impact, got 'tfidf'"),
        ({"name": "bm25", "k1": -1.0}, ValueError, "k1 must be at least 0 and finite, got -1"),
        ({"name": "bm25", "k1": None}, ValueError, "k1 must be at least 0 and finite, got None"),
        ({"name": "bm25", "k3": 1.0}, TypeError, "k3"),
        ({"name": "impact", "k1": 1.0}, TypeError, "argument"),
    ],
)
def test_a_record_of_no_weighting_is_refused(record, error, message):
    with pytest.raises(error, match=message):
        weighting_from_json(record)


def test_a_weighting_that_no_record_can_describe_is_refused():
    class Halved(Impact):
        pass

    class Foreign:
        over = "any"

    assert weighting_to_json(Impact()) == {"name": "impact"}
    for weighting in (Foreign(), Halved()):
        with pytest.raises(ValueError, match=r"weighting must be BM25 or Impact to be saved, got"):
            weighting_to_json(weighting)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k1": -1.0}, "k1 must be at least 0 and finite, got -1.0"),
        ({"b": 1.5}, r"b must be in \[0, 1\], got 1.5"),
        ({"delta": -0.1}, "delta must be at least 0 and finite, got -0.1"),
        ({"k1": math.inf}, "k1 must be at least 0 and finite, got inf"),
        ({"b": math.nan}, r"b must be in \[0, 1\], got nan"),
        ({"epsilon": math.nan}, "epsilon must be at least 0 and finite, got nan"),
        ({"epsilon": None}, "epsilon must be at least 0 and finite, got None"),
        ({"variant": "Lucene"}, "variant must be one of .*, got 'Lucene'"),
    ],
)
def test_rejects_parameters_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        BM25(**options)

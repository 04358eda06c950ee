"""BM25 of a handful of texts: by hand, by the formula, and against rank_bm25."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.text.bm25 import bm25_scores

WORDS = st.lists(st.sampled_from("abcde"), max_size=8)


def by_definition(query, texts, k1, b):
    mean = sum(len(text) for text in texts) / len(texts)
    total = []
    for text in texts:
        score = 0.0
        for term in query:
            n = len([1 for other in texts if term in other])
            idf = math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
            f = text.count(term)
            score += idf * f / (f + k1 * (1 - b + b * len(text) / mean)) if f else 0.0
        total.append(score)
    return total


def test_two_texts_by_hand():
    # N = 2, n = 1: idf = ln(1 + 1.5 / 1.5) = ln 2; lengths 1 and 3, mean 2; b = 0: f / (f + k1).
    assert bm25_scores(["x"], [["x"], ["y", "z", "y"]], k1=1.0, b=0.0) == pytest.approx(
        [math.log(2) / 2, 0.0]
    )


@given(query=WORDS, texts=st.lists(WORDS, min_size=1, max_size=5).filter(any))
def test_matches_the_definition(query, texts):
    assert bm25_scores(query, texts, k1=1.2, b=0.75) == pytest.approx(
        by_definition(query, texts, 1.2, 0.75), rel=1e-12
    )


@given(query=WORDS, texts=st.lists(WORDS, max_size=5), data=st.data())
def test_order_of_texts_makes_no_difference(query, texts, data):
    order = data.draw(st.permutations(range(len(texts))))
    scores = bm25_scores(query, texts)
    assert bm25_scores(query, [texts[row] for row in order]) == [scores[row] for row in order]


def test_matches_rank_bm25_with_its_idf():
    rank_bm25 = pytest.importorskip("rank_bm25")
    texts = [list("aabc"), list("bcd"), list("ddde"), list("ef"), list("g")]
    reference = rank_bm25.BM25Okapi(texts, k1=1.5, b=0.75)
    ours = bm25_scores(list("aadx"), texts, k1=1.5, b=0.75, idf=reference.idf)
    expected = [score / 2.5 for score in reference.get_scores(list("aadx"))]
    assert ours == pytest.approx(expected, rel=1e-9)


def test_a_repeated_query_term_counts_again():
    once, twice = bm25_scores(["a"], [["a"], ["b"]])[0], bm25_scores(["a", "a"], [["a"], ["b"]])[0]
    assert twice == pytest.approx(2 * once)


def test_given_idf_rules_and_a_missing_term_counts_nothing():
    assert bm25_scores(["a", "b"], [["a"], ["b"]], k1=0.0, idf={"a": 3.0}) == [3.0, 0.0]


@pytest.mark.parametrize("texts", [[], [[]], [[], []]])
def test_no_words_no_score(texts):
    assert bm25_scores(["a"], texts) == [0.0] * len(texts)


def test_no_query_no_score():
    assert bm25_scores([], [["a"]]) == [0.0]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"k1": -0.1}, r"k1 must be at least 0 and finite, got -0.1"),
        ({"k1": math.nan}, "got nan"),
        ({"b": 1.1}, r"b must be in \[0, 1\], got 1.1"),
        ({"b": math.nan}, "got nan"),
    ],
)
def test_rejects_parameters_out_of_range(parameters, message):
    with pytest.raises(ValueError, match=message):
        bm25_scores(["a"], [["a"]], **parameters)

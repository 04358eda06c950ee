"""Hashed n-grams: counts against sets of strings, weights by hand, what does not matter."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.routing.ngrams import HashedNGrams, WeightedNGrams

MANY_ROWS = 1 << 16
MANY = 1 << 40  # so many buckets that no two n-grams of a test share one


def strings(text, low, high):
    padded = f" {' '.join(text.casefold().split())} "
    return Counter(
        padded[start : start + size]
        for size in range(low, high + 1)
        for start in range(len(padded) - size + 1)
    )


@given(text=st.text(alphabet="abc ABC\n", max_size=30), low=st.integers(1, 3))
def test_characters_are_counted_like_the_substrings(text, low):
    filled, counts = HashedNGrams("characters", low, 4, MANY)(text)
    expected = strings(text, low, 4) if text.strip() else Counter()
    assert sorted(counts) == sorted(expected.values())
    assert (np.diff(filled) > 0).all()


def test_words_are_counted_alone_and_in_pairs():
    filled, counts = HashedNGrams("words", 1, 2, MANY)("The cat, the CAT!")
    assert sorted(counts.tolist()) == [1, 2, 2, 2]  # "cat the"; the, cat, "the cat"
    assert len(filled) == 4


def test_order_counts_in_pairs_only():
    alone, pairs = HashedNGrams("words", 1, 1, MANY), HashedNGrams("words", 2, 2, MANY)
    assert alone("cat dog")[0].tolist() == alone("dog cat")[0].tolist()
    assert pairs("cat dog")[0].tolist() != pairs("dog cat")[0].tolist()


@pytest.mark.parametrize("unit", ["words", "characters"])
def test_case_width_and_white_space_do_not_matter_and_buckets_hold(unit):
    ngrams = HashedNGrams(unit, 1, 2, 50)
    filled, counts = ngrams("A  bigger\nCAT")
    again, _ = ngrams(" \uff21 bigger cat ")
    assert filled.tolist() == again.tolist()
    assert filled.min() >= 0
    assert filled.max() < 50
    assert ngrams(" ")[0].size == ngrams("")[1].size == 0
    assert counts.sum() == (5 if unit == "words" else 14 + 13)


def test_hashes_are_the_same_on_every_machine():
    assert HashedNGrams("words", 1, 2, 1000)("red cats")[0].tolist() == [34, 240, 455]
    assert HashedNGrams("characters", 2, 2, 1000)("red")[0].tolist() == [393, 544, 696, 831]


def test_weights_by_hand():
    ngrams = HashedNGrams("words", 1, 1, MANY_ROWS)
    texts = ["cat cat dog", "cat", "bird"]
    weighted = WeightedNGrams.fitted(ngrams, [ngrams(text) for text in texts])
    cat, rare = 1 + np.log(4 / 3), 1 + np.log(4)
    assert len(weighted.kept) == 1
    features, weights = weighted("cat cat dog fish")
    first = (1 + np.log(2)) * cat
    assert features.tolist() == [0]
    np.testing.assert_allclose(weights, [first / np.sqrt(first**2 + 2 * rare**2)], rtol=1e-6)
    assert weighted("fish")[0].size == 0
    np.testing.assert_allclose(weighted("cat")[1], [1.0])


def test_without_a_common_ngram_there_is_no_feature():
    ngrams = HashedNGrams("words", 1, 1, MANY_ROWS)
    weighted = WeightedNGrams.fitted(ngrams, [ngrams("cat"), ngrams("dog")])
    assert weighted("cat dog")[0].size == weighted("")[1].size == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("lines", 1, 2, 9), "unit must be one of .*, got 'lines'"),
        (("words", 0, 2, 9), "low and high must be 1 or more, low first, got 0 and 2"),
        (("words", 3, 2, 9), "got 3 and 2"),
        (("words", 1, 2, 0), "buckets must be at least 1, got 0"),
    ],
)
def test_fields_out_of_range_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        HashedNGrams(*fields)

"""A shared token budget: worked by hand, monotone, and fair to every modality."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrievers.corpora.token_budget import within_budget

lengths = st.lists(st.lists(st.integers(0, 300), max_size=6), min_size=1, max_size=4)
parts = lengths.flatmap(
    lambda tokens: st.tuples(
        st.just(tokens),
        st.lists(st.floats(0, 1), min_size=len(tokens), max_size=len(tokens)),
    )
)


def spent(tokens, kept):
    return sum(sum(of[:n]) for of, n in zip(tokens, kept, strict=True))


def test_shares_by_probability():
    tokens = [[10] * 8, [10] * 8]
    # Prices of the first: 0, 25, 37.5, 50, 62.5 … (share 0.8); of the second: 20, 100, 150 …
    assert within_budget(tokens, [0.8, 0.2], 10) == (1, 0)
    assert within_budget(tokens, [0.8, 0.2], 20) == (1, 1)
    assert within_budget(tokens, [0.8, 0.2], 30) == (2, 1)
    assert within_budget(tokens, [0.8, 0.2], 80) == (7, 1)
    assert within_budget(tokens, [0.8, 0.2], 100) == (8, 2)
    assert within_budget(tokens, [0.5, 0.5], 80) == (4, 4)


def test_what_one_does_not_use_goes_to_the_others():
    assert within_budget([[10], [10] * 9], [0.9, 0.1], 60) == (1, 5)
    assert within_budget([[], [10] * 9], [0.9, 0.1], 60) == (0, 6)
    assert within_budget([[10] * 9, []], [0.1, 0.9], 60) == (6, 0)


def test_stops_at_the_first_that_does_not_fit():
    assert within_budget([[10, 50, 1]], [1.0], 59) == (1,)
    assert within_budget([[10, 50, 1]], [1.0], 60) == (2,)
    assert within_budget([[10, 50, 1]], [1.0], 61) == (3,)


def test_the_very_first_passage_is_kept_even_if_it_is_longer_than_the_budget():
    assert within_budget([[500, 1], [1]], [0.9, 0.1], 20) == (1, 0)
    assert within_budget([[], [500, 1]], [0.9, 0.1], 20) == (0, 1)


def test_a_long_first_passage_of_a_less_probable_modality_waits():
    tokens = [[100] * 9, [400]]
    assert within_budget(tokens, [0.8, 0.2], 700) == (6, 0)
    assert within_budget(tokens, [0.8, 0.2], 1100) == (7, 1)


def test_probabilities_of_zero_share_alike():
    assert within_budget([[10] * 9, [10] * 9], [0.0, 0.0], 60) == (3, 3)
    assert within_budget([[10] * 9, [10] * 9], [1.0, 0.0], 60) == (5, 1)


def test_nothing_found_is_nothing_kept():
    assert within_budget([], [], 5) == ()
    assert within_budget([[], []], [0.5, 0.5], 5) == (0, 0)


@given(parts, st.integers(1, 2000))
def test_only_the_very_first_passage_may_exceed_the_budget(given_parts, budget):
    tokens, probs = given_parts
    kept = within_budget(tokens, probs, budget)
    assert spent(tokens, kept) <= budget or sum(kept) == 1
    assert any(kept) == any(tokens)


@given(parts, st.integers(1, 2000), st.integers(0, 500))
def test_a_larger_budget_only_adds(given_parts, budget, more):
    tokens, probs = given_parts
    few = within_budget(tokens, probs, budget)
    many = within_budget(tokens, probs, budget + more)
    assert all(a <= b for a, b in zip(few, many, strict=True))


@given(parts)
def test_a_budget_for_all_keeps_all(given_parts):
    tokens, probs = given_parts
    whole = max(1, sum(map(sum, tokens)))
    assert within_budget(tokens, probs, whole) == tuple(map(len, tokens))


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(1, 90), st.integers(1, 6),
    st.integers(0, 200),
)  # fmt: skip
def test_nobody_starves_among_passages_of_one_length(probs, length, each, more):
    kept = within_budget([[length] * each] * len(probs), probs, length * len(probs) + more)
    assert all(kept)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([[1]], [1.0], 0), "budget must be at least 1, got 0"),
        (([[1]], [0.5, 0.5], 5), "probs must be one a modality, 1, got 2"),
        (([[1], [1]], [0.5, -0.5], 5), "probs must be at least 0, got -0.5"),
    ],
)
def test_refuses_numbers_outside_their_range(arguments, said):
    with pytest.raises(ValueError, match=said):
        within_budget(*arguments)

"""Rounding: hand-worked scores, and parity of `score > T` with each rule read literally."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners.provence import sentence_score

# Sixteenths are exact in binary, so that a literal reading has no rounding of its own.
probability = st.integers(0, 16).map(lambda n: n / 16)
probabilities = st.lists(probability, min_size=1, max_size=16)
thresholds = st.integers(1, 31).map(lambda n: n / 32)


def kept_by_definition(found, rule, threshold):
    above = Fraction(sum(p > threshold for p in found), len(found))
    if rule == "mean":
        return sum(map(Fraction, found)) / len(found) > Fraction(threshold)
    return above > (Fraction(1, 2) if rule == "majority" else Fraction(threshold))


@pytest.mark.parametrize(("rule", "score"), [("mean", 0.5), ("majority", 0.25), ("same_t", 0.5)])
def test_hand_worked(rule, score):
    # Falling: 1, .75, .25, 0. Shares: .25, .5, .75, 1. Smaller of both: .25, .5, .25, 0.
    assert sentence_score([np.array([0.25, 1.0, 0.0, 0.75])], rule) == score


@pytest.mark.parametrize("rule", ["mean", "majority", "same_t"])
@given(found=probabilities, threshold=thresholds)
def test_a_score_above_the_threshold_is_the_rule(rule, found, threshold):
    score = sentence_score([np.array(found)], rule)
    assert (score > threshold) == kept_by_definition(found, rule, threshold)


@pytest.mark.parametrize("rule", ["mean", "majority", "same_t"])
def test_half_of_the_tokens_is_no_majority(rule):
    score = sentence_score([np.array([0.75, 0.25])], rule)
    assert score == {"mean": 0.5, "majority": 0.25, "same_t": 0.5}[rule]


@pytest.mark.parametrize("rule", ["mean", "majority", "same_t"])
@given(cuts=st.lists(probabilities, min_size=1, max_size=4))
def test_fragments_count_by_their_tokens(rule, cuts):
    together = sum(sentence_score([np.array(cut)], rule) * len(cut) for cut in cuts)
    expected = together / sum(len(cut) for cut in cuts)
    assert sentence_score([np.array(cut) for cut in cuts], rule) == pytest.approx(
        expected, abs=1e-5
    )


@given(p=st.floats(1e-6, 1.0), tokens=st.integers(1, 50), parts=st.integers(1, 4))
def test_equal_probabilities_give_exactly_that_score(p, tokens, parts):
    assert sentence_score([np.full(tokens + part, p) for part in range(parts)]) == p


@pytest.mark.parametrize("fragments", [[], [np.empty(0)]])
def test_a_sentence_without_tokens_scores_one(fragments):
    assert sentence_score(fragments) == 1.0


@pytest.mark.parametrize("rule", ["mean", "majority", "same_t"])
def test_the_least_score_is_above_zero(rule):
    assert sentence_score([np.zeros(3)], rule) == 1e-6


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match=r"rounding must be one of .*'same_t'.*, got 'max'"):
        sentence_score([np.ones(1)], "max")

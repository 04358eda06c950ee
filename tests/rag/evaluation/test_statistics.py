"""Statistics: literal loops, exact enumeration and hand-worked corrections."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.evaluation import statistics
from rag.evaluation.statistics import (
    bootstrap_interval,
    holm,
    paired_t_p,
    randomisation_p,
    robustness_index,
)


def test_bootstrap_equals_a_literal_loop():
    values = [0.0, 1.0, 0.25, 0.5, 0.9]
    rng = np.random.default_rng(7)
    means = []
    for _ in range(500):
        drawn = [values[row] for row in rng.integers(len(values), size=len(values))]
        means.append(sum(drawn) / len(drawn))
    found = bootstrap_interval(values, seed=7, resamples=500)
    assert found.mean == pytest.approx(sum(values) / 5)
    assert [found.low, found.high] == pytest.approx(np.percentile(means, [2.5, 97.5]))
    assert found.n == 5


def test_drawing_in_chunks_changes_nothing(monkeypatch):
    values = list(np.random.default_rng(0).random(7))
    whole = bootstrap_interval(values, resamples=100), randomisation_p(values, resamples=50)
    monkeypatch.setattr(statistics, "_CELLS", 21)
    assert bootstrap_interval(values, resamples=100) == whole[0]


def test_the_interval_is_about_two_standard_errors():
    values = np.random.default_rng(1).normal(size=400)
    found = bootstrap_interval(values.tolist())
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)
    wide = bootstrap_interval(values.tolist(), level=0.99)
    assert wide.low < found.low < found.mean < found.high < wide.high


def test_one_value_and_equal_values_have_no_width():
    for values in ([0.5], [0.25] * 4):
        found = bootstrap_interval(values)
        assert found.low == found.mean == found.high == values[0]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, r"values must be a list of at least one, got shape \(0,\)"),
        ([1.0], {"resamples": 0}, "resamples must be at least 1, got 0"),
        ([float("nan")], {}, "values must be finite"),
        ([1.0], {"level": 1.0}, r"level must be in \(0, 1\), got 1.0"),
    ],
)
def test_bootstrap_refuses(values, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, **options)


def by_enumeration(differences):
    """Try all signs literally."""
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return sum(total >= observed - 1e-9 for total in sums) / len(sums)


@pytest.mark.parametrize(
    "differences", [[0.3, 0.1, -0.2, 0.5, 0.4], [1, 1, 1, 1, 1, 1], [0.0, 1.0, 0.0], [0.1, -0.1]]
)
def test_few_differences_are_enumerated_exactly(differences):
    assert randomisation_p(differences) == pytest.approx(by_enumeration(differences))


def test_drawn_signs_come_close_to_the_enumeration():
    differences = [0.3, 0.1, -0.2, 0.5, 0.4, -0.1, 0.2, 0.3, -0.4, 0.2, 0.15, 0.05]
    exact = by_enumeration(differences)
    drawn = randomisation_p(differences, resamples=4000)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=0.03)


def test_p_is_one_without_a_difference_and_never_zero():
    assert randomisation_p([0.0] * 30) == 1.0
    assert randomisation_p([1.0] * 60, resamples=999) == 1 / 1000


@given(
    st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=1, max_size=8),
)
def test_p_does_not_depend_on_which_run_is_first_and_counts_ties(differences):
    p = randomisation_p(differences)
    assert p == randomisation_p([-d for d in differences])
    assert p == pytest.approx(by_enumeration(differences))


def test_holm_by_hand():
    # 0.01 * 4, 0.02 * 3 -> 0.06, 0.04 * 1 = 0.04 is raised to 0.06, 0.03 * 2 = 0.06
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.2]) == [0.2]
    with pytest.raises(ValueError, match=r"p_values must be in \[0, 1\], got 2"):
        holm([2])


def test_a_t_test_by_hand():
    # mean 2, deviation 1, three values: t = 2 * sqrt(3), and with two degrees of freedom
    # p = 1 - t / sqrt(t**2 + 2).
    assert paired_t_p([1.0, 2.0, 3.0]) == pytest.approx(1 - 12**0.5 / 14**0.5)


@pytest.mark.parametrize("n", [2, 3, 10, 500])
@pytest.mark.parametrize("shift", [0.0, 0.05, -2.0])
def test_a_t_test_is_scipy_s(n, shift):
    rng = np.random.default_rng(n)
    a = rng.random(n)
    b = rng.random(n) + shift
    expected = pytest.importorskip("scipy.stats").ttest_rel(b, a).pvalue
    assert paired_t_p((b - a).tolist()) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_a_t_test_without_spread_says_what_the_differences_say():
    assert paired_t_p([0.0, 0.0, 0.0]) == paired_t_p([0.7]) == paired_t_p([0.0]) == 1.0
    assert paired_t_p([0.1] * 7) == paired_t_p([-0.1] * 7) == 0.0


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_a_t_test_has_two_sides_and_a_p(differences):
    p = paired_t_p(differences)
    assert 0.0 <= p <= 1.0
    assert paired_t_p([-difference for difference in differences]) == p


def test_robustness_by_hand():
    assert robustness_index([0.5, 0.1, 0.0, -0.9]) == (2 - 1) / 4
    assert robustness_index([0.0, 0.0]) == 0.0
    assert robustness_index([-0.1]) == -1.0
    assert robustness_index([1e-9, 3.0]) == 1.0


@pytest.mark.parametrize("test", [paired_t_p, robustness_index])
def test_both_refuse_nothing_and_what_is_no_number(test):
    with pytest.raises(ValueError, match="values must be a list of at least one"):
        test([])
    with pytest.raises(ValueError, match="values must be finite"):
        test([0.0, float("nan")])

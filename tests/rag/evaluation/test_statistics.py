"""Statistics: literal loops, exact enumeration and hand-worked corrections."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.evaluation import statistics
from rag.evaluation.statistics import bootstrap_interval, holm, randomisation_p


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

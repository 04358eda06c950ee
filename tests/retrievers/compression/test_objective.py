"""The objective: its terms against the formulas, diminishing returns, and what is promised."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrievers.compression.chosen import Chosen, diversity_term
from retrievers.compression.coverage import Coverage
from retrievers.compression.dispersion import Dispersion
from retrievers.compression.logdet import LogDet
from retrievers.compression.objective import Objective

KINDS = ["none", "redundancy", "logdet", "groups", "dispersion"]
SUBMODULAR = ["none", "redundancy", "logdet", "groups"]


def objective(kind, a=0.7, c=1.3, weight=0.9):
    return Objective(a, c, 0.0 if kind == "none" else weight, kind)


def grown(pool, wanted, rows=()):
    coverage = Coverage(pool.vectors, pool.weights)
    diversity = diversity_term(wanted, pool.vectors, pool.relevance, pool.groups)
    chosen = Chosen(wanted, pool.relevance, coverage, diversity)
    chosen.restart(rows)
    return chosen


@pytest.mark.parametrize("kind", KINDS)
@given(n=st.integers(1, 9), seed=st.integers(0, 999), size=st.integers(0, 6))
@settings(max_examples=60)
def test_what_was_added_sums_to_the_formula_read_literally(pool_of, kind, n, seed, size):
    pool, wanted = pool_of(n, seed), objective(kind)
    rows = np.random.default_rng(seed).permutation(n)[:size].tolist()
    chosen = grown(pool, wanted, rows)
    assert np.sum(chosen.parts or [(0, 0, 0)], axis=0) == pytest.approx(pool.parts(wanted, rows))
    assert chosen.value == pytest.approx(pool.value(wanted, rows), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(n=st.integers(1, 9), seed=st.integers(0, 999), size=st.integers(0, 6))
@settings(max_examples=60)
def test_gains_are_the_differences_of_the_formula(pool_of, kind, n, seed, size):
    pool, wanted = pool_of(n, seed), objective(kind)
    order = np.random.default_rng(seed).permutation(n)
    rows, rest = order[:size].tolist(), order[size:]
    gains = grown(pool, wanted, rows).gains(rest)
    before = pool.value(wanted, rows)
    expected = [pool.value(wanted, [*rows, row]) - before for row in rest.tolist()]
    assert gains == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_each_term_reads_its_value_literally_whatever_was_taken(pool_of, kind):
    pool, wanted = pool_of(8, 3), objective(kind, a=0.0, c=1.0, weight=1.0)
    coverage = Coverage(pool.vectors, pool.weights)
    term = diversity_term(wanted, pool.vectors, pool.relevance, pool.groups)
    for rows in ([], [4], [0, 1], [5, 0, 2, 7], list(range(8))):
        _, covered, diverse = pool.parts(wanted, rows)
        assert coverage.value(rows) == pytest.approx(covered, abs=1e-12)
        if term is not None:
            assert term.value(rows) == pytest.approx(diverse, abs=1e-12)
            term.take(6)
        coverage.take(6)
        assert coverage.value(rows) == pytest.approx(covered, abs=1e-12)
        coverage = Coverage(pool.vectors, pool.weights)


@pytest.mark.parametrize("kind", KINDS)
def test_a_restart_forgets_all(pool_of, kind):
    pool, wanted = pool_of(30, 1), objective(kind)
    chosen = grown(pool, wanted, range(20))
    chosen.restart([3])
    fresh = grown(pool, wanted, [3])
    everything = np.arange(30)
    assert (chosen.rows, chosen.parts) == (fresh.rows, fresh.parts)
    assert chosen.open.tolist() == [row != 3 for row in range(30)]
    assert chosen.gains(everything).tolist() == fresh.gains(everything).tolist()


@pytest.mark.parametrize("kind", SUBMODULAR)
@given(n=st.integers(4, 10), seed=st.integers(0, 9999))
@settings(max_examples=80)
def test_returns_diminish_from_a_set_to_any_larger_one(pool_of, kind, n, seed):
    pool, wanted = pool_of(n, seed), objective(kind)
    rng = np.random.default_rng(seed)
    order = rng.permutation(n).tolist()
    large = rng.integers(1, n)
    small = rng.integers(0, large + 1)
    row = order[large]
    gains = [
        pool.value(wanted, [*rows, row]) - pool.value(wanted, rows)
        for rows in (order[:small], order[:large])
    ]
    assert gains[0] >= gains[1] - 1e-9
    assert wanted.submodular


@pytest.mark.parametrize("kind", SUBMODULAR)
@given(seed=st.integers(0, 9999))
def test_computed_gains_never_rise_by_a_single_bit(pool_of, kind, seed):
    pool, everything = pool_of(12, seed), np.arange(12)
    chosen = grown(pool, objective(kind))
    for row in np.random.default_rng(seed).permutation(12).tolist():
        before = chosen.gains(everything)
        chosen.take(row)
        assert (chosen.gains(everything) <= before).all()


def test_dispersion_breaks_diminishing_returns(pool_of):
    pool, wanted = pool_of(6, 0), Objective(0, 0, 1, "dispersion")
    alone = pool.value(wanted, [5]) - pool.value(wanted, [])
    beside = pool.value(wanted, [4, 5]) - pool.value(wanted, [4])
    assert alone == 0.0 < beside
    assert not wanted.submodular
    assert wanted.monotone


def test_coverage_plus_dispersion_breaks_diminishing_returns_too(pool_of):
    broken, wanted = 0, Objective(0, 1, 1, "dispersion")
    for seed in range(30):
        pool = pool_of(6, seed)
        small = pool.value(wanted, [5, 4]) - pool.value(wanted, [5])
        large = pool.value(wanted, [5, 0, 4]) - pool.value(wanted, [5, 0])
        broken += large > small + 1e-9
    assert broken > 15


def test_redundancy_is_not_monotone(pool_of):
    pool, wanted = pool_of(6, 0), Objective(0, 0, 1, "redundancy")
    assert pool.value(wanted, [0, 1]) == pytest.approx(-1.0)
    assert wanted.submodular
    assert not wanted.monotone
    assert Objective(1, 1, 0, "redundancy").monotone


def test_half_the_distance_of_unit_vectors_is_a_metric_and_one_minus_cosine_is_not(pool_of):
    pool = pool_of(12, 5)
    rows = range(12)
    pairs = Dispersion(
        pool.vectors / np.maximum(1e-300, np.linalg.norm(pool.vectors, axis=1))[:, None]
    )
    for u in rows:
        pairs.reset()
        pairs.take(u)
        far = pairs.gains(np.arange(12))
        assert far == pytest.approx([pool.distance(u, v) for v in rows], abs=1e-12)
        for v in rows:
            assert all(far[v] <= far[t] + pool.distance(t, v) + 1e-12 for t in rows)
    angles = [0.0, 0.5, 1.0]
    apart = [[1 - math.cos(a - b) for b in angles] for a in angles]
    assert apart[0][2] > apart[0][1] + apart[1][2]


@pytest.mark.parametrize("zero", [0.0, -0.0])
@given(seed=st.integers(0, 999), dim=st.sampled_from([3, 8, 384, 385]), n=st.integers(4, 40))
@settings(max_examples=30)
def test_a_copy_of_what_was_taken_covers_nothing_more_and_copies_tie_exactly(zero, seed, dim, n):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, dim))
    vectors[:, 0] = 0.0
    vectors[n - 1] = vectors[0]
    vectors[n - 1, 0] = zero
    coverage = Coverage(vectors, rng.random(n))
    gains = coverage.gains(np.arange(n))
    assert gains[0] == gains[n - 1] > 0.0
    coverage.take(2)
    assert (
        coverage.gains(np.array([0, n - 1])).tolist()
        == coverage.gains(np.arange(n))[[0, n - 1]].tolist()
    )
    coverage.take(0)
    assert coverage.gains(np.array([n - 1, 0, 2])).tolist() == [0.0, 0.0, 0.0]


def test_negative_cosines_count_nothing_and_zero_vectors_are_covered_by_nothing():
    vectors = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    coverage = Coverage(vectors, np.array([1.0, 10.0, 100.0]))
    assert coverage.gains(np.arange(3)).tolist() == [1.0, 10.0, 0.0]
    assert coverage.whole == 11.0
    assert [coverage.value(rows) for rows in ([0], [1], [2], [0, 1, 2])] == [1.0, 10.0, 0.0, 11.0]


def test_everything_together_covers_the_whole_pool_exactly(pool_of):
    for seed in range(20):
        pool = pool_of(11, seed)
        coverage = Coverage(pool.vectors, pool.weights)
        assert coverage.value(range(11)) == coverage.whole
        coverage.gains(np.arange(11))
        assert coverage.value(range(11)) == coverage.whole


def test_the_factor_of_log_det_grows_past_its_first_columns():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 60))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    term, total = LogDet(vectors, rng.random(50)), 0.0
    for row in range(40):
        total += term.gains(np.array([row]))[0]
        term.take(row)
    assert total == pytest.approx(term.value(range(40)), rel=1e-12)


def test_log_det_of_two_copies_by_hand():
    term = LogDet(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([4.0, 1.0]))
    assert term.value([0]) == pytest.approx(math.log(5))
    assert term.value([0, 1]) == pytest.approx(math.log(5 * 2 - 4))


@pytest.mark.parametrize(
    ("wanted", "greedy", "options", "sentence"),
    [
        (Objective(), "plain", {}, "at least 1 - 1/e = 0.632 of the best set of that size."),
        (Objective(), "lazy", {"forced": True}, "at least 1 - 1/e = 0.632 of the best addition to the forced passages of that size."),
        (Objective(), "stochastic", {}, "at least 1 - 1/e - 0.1 = 0.532 of the best set of that size, in expectation."),
        (Objective(), "stochastic", {"epsilon": 0.7}, "none: epsilon = 0.7 is not below 1 - 1/e = 0.632."),
        (Objective(1, 0), "block", {}, "the best set of that size: the objective is a sum over passages."),
        (Objective(1, 0), "stochastic", {}, "at least 1 - 1/e - 0.1 = 0.532 of the best set of that size, in expectation."),
        (Objective(1, 1, 0, "dispersion"), "lazy", {}, "at least 1 - 1/e = 0.632 of the best set of that size."),
        (Objective(1, 1, 1, "logdet"), "block", {}, "at least 1 - 1/e = 0.632 of the best set of that size."),
        (Objective(1, 0, 1, "groups"), "plain", {}, "at least 1 - 1/e = 0.632 of the best set of that size."),
        (Objective(1, 1, 1, "redundancy"), "plain", {}, "none: redundancy is not monotone."),
        (Objective(1, 1, 1, "redundancy"), "stochastic", {}, "none: redundancy is not monotone."),
        (Objective(1, 1, 1, "dispersion"), "plain", {}, "at least 1/2 of the best set of that size, for the distance is a metric and each step weighs half the gain in quality against the whole distance."),
        (Objective(1, 1, 1, "dispersion"), "plain", {"forced": True}, "none: the bound for dispersion starts from the empty set."),
        (Objective(1, 1, 1, "dispersion"), "stochastic", {}, "none: dispersion is not submodular, and stochastic greedy needs that."),
    ],
)  # fmt: skip
def test_the_guarantee_is_that_of_this_objective_and_this_greedy(wanted, greedy, options, sentence):
    assert wanted.guarantee(greedy, False, **options) == sentence


def test_the_guarantee_within_a_budget():
    def budgeted(wanted, **options):
        return wanted.guarantee("lazy", True, **options)

    assert (
        budgeted(Objective())
        == "at least (1 - 1/e)/2 = 0.316 of the best set within the budget, as ratio greedy or best single passage."
    )
    assert budgeted(Objective(1, 0)) == budgeted(Objective())
    assert (
        budgeted(Objective(), capped=True)
        == "none: the number of passages, not only the budget, ended the choice."
    )
    assert budgeted(Objective(1, 1, 1, "redundancy")) == "none: redundancy is not monotone."
    assert budgeted(Objective(1, 1, 1, "dispersion")).startswith(
        "none: dispersion is not submodular"
    )


@pytest.mark.parametrize("name", ["relevance", "coverage", "diversity"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_a_coefficient_below_0_or_no_number_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be finite and at least 0, got {value}"):
        Objective(**{"kind": "groups", name: value})


def test_a_kind_must_be_known_and_weighed():
    with pytest.raises(ValueError, match=r"kind must be one of \('none', .*got 'dpp'"):
        Objective(kind="dpp")
    with pytest.raises(ValueError, match=r"diversity must be 0 for the kind 'none', got 0\.5"):
        Objective(diversity=0.5)

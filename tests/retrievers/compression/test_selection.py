"""Selection: greedy variants against each other and brute force, budgets, edges, errors."""

import math
from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrievers.compression.objective import Objective
from retrievers.compression.selection import Compressed, compress

KINDS = ["none", "redundancy", "logdet", "groups", "dispersion"]
SUBMODULAR = ["none", "redundancy", "logdet", "groups"]
MONOTONE = ["none", "logdet", "groups"]
SHARE = 1 - 1 / math.e


def objective(kind, a=0.5, c=1.0, weight=0.8):
    return Objective(a, c, 0.0 if kind == "none" else weight, kind)


def chosen_from(pool, **options):
    return compress(
        pool.vectors, pool.relevance, weights=pool.weights, groups=pool.groups, **options
    )


def by_definition(pool, wanted, k):
    """Greedy with the formula read literally; a tie goes to the lower row."""
    rows = []
    half = 1.0 if wanted.submodular else 0.5
    while len(rows) < min(k, len(pool.rows)):
        before = pool.parts(wanted, rows)
        worth = {}
        for row in pool.rows:
            if row not in rows:
                a, c, d = np.subtract(pool.parts(wanted, [*rows, row]), before)
                worth[row] = round(half * (a + c) + d, 10)
        best = max(worth, key=worth.__getitem__)
        if worth[best] < 0:
            break
        rows.append(best)
    return rows


def test_takes_one_of_each_topic_before_a_second_of_the_best():
    vectors = np.array([[1.0, 0.0], [0.99, -0.1], [0.0, 1.0]])
    found = compress(vectors, np.array([1.0, 0.9, 0.5]), k=2, objective=Objective(0, 1))
    assert found.rows == (0, 2)
    assert found.coverage_ratio == pytest.approx(
        (1.0 + 0.9 * 0.99 / math.hypot(0.99, 0.1) + 0.5) / 2.4
    )


@pytest.mark.parametrize("kind", KINDS)
@given(n=st.integers(1, 9), k=st.integers(1, 11), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_plain_greedy_takes_what_the_definition_takes(pool_of, kind, n, k, seed):
    pool, wanted = pool_of(n, seed), objective(kind)
    found = chosen_from(pool, k=k, objective=wanted, greedy="plain")
    assert list(found.rows) == by_definition(pool, wanted, k)


@pytest.mark.parametrize("kind", SUBMODULAR)
@given(n=st.integers(0, 60), k=st.integers(1, 70), seed=st.integers(0, 9999), dim=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_plain_lazy_and_block_choose_the_same_rows(pool_of, kind, n, k, seed, dim):
    pool = pool_of(n, seed, dim)
    plain, lazy, block = (
        chosen_from(pool, k=k, objective=objective(kind), greedy=greedy)
        for greedy in ("plain", "lazy", "block")
    )
    assert plain.rows == lazy.rows == block.rows
    assert plain.gains == lazy.gains == block.gains
    assert (lazy.greedy, block.greedy) == ("lazy", "block")


@pytest.mark.parametrize("kind", SUBMODULAR)
def test_a_larger_pool_is_chosen_from_alike_too(pool_of, kind):
    pool = pool_of(400, 7, dim=12)
    found = [
        chosen_from(pool, k=150, objective=objective(kind), greedy=greedy)
        for greedy in ("plain", "lazy", "block")
    ]
    assert found[0].rows == found[1].rows == found[2].rows
    assert found[0].objective == pytest.approx(found[1].objective, abs=1e-9)


@pytest.mark.parametrize("greedy", ["plain", "lazy", "block", "stochastic"])
@pytest.mark.parametrize("dim", [8, 384, 385])
def test_copies_tie_exactly_and_the_lower_row_wins(greedy, dim):
    rng = np.random.default_rng(0)
    one = rng.normal(size=(3, dim))
    vectors = one[np.arange(33) % 3]
    options = {"objective": Objective(1, 1, 1, "logdet"), "greedy": greedy, "epsilon": 1e-99}
    rows = compress(vectors, np.ones(33), k=33, **options).rows
    assert sorted(rows[:3]) == [0, 1, 2]
    order = [row for row in rows if row % 3 == 1]
    assert order == sorted(order)


@pytest.mark.parametrize("kind", KINDS)
@given(n=st.integers(0, 12), k=st.integers(1, 14), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_the_record_adds_up(pool_of, kind, n, k, seed):
    pool, wanted = pool_of(n, seed), objective(kind)
    found = chosen_from(pool, k=k, objective=wanted)
    rows = list(found.rows)
    assert len(set(rows)) == len(rows) <= min(k, n)
    assert wanted.kind == "redundancy" or len(rows) == min(k, n)
    parts = [sum(found.relevance), sum(found.coverage), sum(found.diversity)]
    assert parts == pytest.approx(pool.parts(wanted, rows), abs=1e-10)
    assert sum(found.gains) == pytest.approx(found.objective, abs=1e-12)
    assert found.objective == pytest.approx(pool.value(wanted, rows), abs=1e-10)
    covers = Objective(0, 1)
    whole = pool.value(covers, pool.rows)
    ratio = pool.value(covers, rows) / whole if whole else 1.0
    assert found.coverage_ratio == pytest.approx(ratio, abs=1e-12)
    assert 0.0 <= found.coverage_ratio <= 1.0


def subsets(rows, size):
    return chain.from_iterable(combinations(rows, count) for count in range(size + 1))


@pytest.mark.parametrize("kind", MONOTONE)
@pytest.mark.parametrize("greedy", ["plain", "lazy", "block"])
def test_no_set_of_that_size_is_more_than_the_bound_better(pool_of, kind, greedy):
    for seed in range(15):
        pool, wanted = pool_of(10, seed), objective(kind, a=0.3)
        found = chosen_from(pool, k=4, objective=wanted, greedy=greedy)
        best = max(pool.value(wanted, rows) for rows in combinations(pool.rows, 4))
        assert found.objective >= SHARE * best
        assert found.guarantee == "at least 1 - 1/e = 0.632 of the best set of that size."


def test_relevance_alone_gives_the_best_set(pool_of):
    for seed in range(10):
        pool, wanted = pool_of(10, seed), Objective(1, 0)
        found = chosen_from(pool, k=4, objective=wanted)
        best = max(pool.value(wanted, rows) for rows in combinations(pool.rows, 4))
        assert found.objective == pytest.approx(best)
        assert found.rows == tuple(np.argsort(-pool.relevance, kind="stable")[:4])


def test_dispersion_comes_within_half_of_the_best(pool_of):
    for seed in range(25):
        pool, wanted = pool_of(9, seed), objective("dispersion", a=0.3, weight=0.4)
        found = chosen_from(pool, k=4, objective=wanted)
        best = max(pool.value(wanted, rows) for rows in combinations(pool.rows, 4))
        assert found.objective >= best / 2
        assert found.guarantee.startswith("at least 1/2 of the best set")


def test_dispersion_weighs_half_the_quality_against_the_whole_distance():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    relevance = np.array([1.0, 0.1, 0.9])
    wanted = Objective(1, 0, 1, "dispersion")
    # Gains 0.9 against 0.1 + 0.707; by half the relevance 0.45 against 0.05 + 0.707.
    assert compress(vectors, relevance, k=2, objective=wanted).rows == (0, 1)
    assert compress(vectors, relevance, k=2, objective=wanted).gains == pytest.approx(
        (1.0, 0.1 + math.sqrt(0.5))
    )


@pytest.mark.parametrize("kind", MONOTONE)
@given(seed=st.integers(0, 9999), budget=st.integers(1, 30), forced=st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_budget_is_never_exceeded_and_its_bound_holds(pool_of, kind, seed, budget, forced):
    pool, wanted = pool_of(8, seed), objective(kind)
    costs = np.random.default_rng(seed).integers(1, 15, 8)
    first = [6] if forced and costs[6] <= budget else []
    options = {"objective": wanted, "costs": costs, "budget": budget, "first": first}
    found = chosen_from(pool, **options)
    assert costs[list(found.rows)].sum() <= budget
    assert list(found.rows[: len(first)]) == first
    assert len(set(found.rows)) == len(found.rows)
    assert found.guarantee.startswith("at least (1 - 1/e)/2 = 0.316 of the best")
    base = pool.value(wanted, first)
    best = max(
        pool.value(wanted, rows)
        for rows in subsets(pool.rows, 8)
        if set(first) <= set(rows) and costs[list(rows)].sum() <= budget
    )
    assert found.objective - base >= SHARE / 2 * (best - base) - 1e-12
    for greedy in ("lazy", "block"):
        assert chosen_from(pool, **options, greedy=greedy).rows == found.rows


def test_the_best_single_passage_wins_where_cheap_ones_use_up_the_budget():
    vectors, relevance = np.eye(3), np.array([0.2, 10.0, 0.1])
    costs = np.array([1, 100, 1])
    found = compress(vectors, relevance, objective=Objective(1, 0), costs=costs, budget=100)
    assert found.rows == (1,)
    assert found.objective == 10.0
    kept = compress(
        vectors, relevance, objective=Objective(1, 0), costs=costs, budget=101, first=[2]
    )
    assert kept.rows == (2, 1)
    assert kept.gains == (0.1, 10.0)


@pytest.mark.parametrize("greedy", ["plain", "lazy", "block"])
def test_two_that_give_more_a_token_go_before_one_that_gives_more(greedy):
    options = {"costs": np.array([4, 2, 2]), "budget": 4, "greedy": greedy}
    relevance = np.array([1.0, 0.6, 0.7])
    assert compress(np.eye(3), relevance, objective=Objective(1, 0), **options).rows == (2, 1)


def test_what_does_not_fit_is_passed_over_and_cheaper_goes_before():
    vectors, relevance = np.eye(4), np.array([1.0, 0.9, 0.8, 0.1])
    costs = np.array([10.0, 3.0, 4.0, 2.0])
    options = {"objective": Objective(1, 0), "costs": costs, "budget": 9.0}
    assert compress(vectors, relevance, **options).rows == (1, 2, 3)
    capped = compress(vectors, relevance, **options, k=2)
    assert capped.rows == (1, 2)
    assert (
        capped.guarantee == "none: the number of passages, not only the budget, ended the choice."
    )
    full = compress(vectors, relevance, **options, k=3)
    assert full.guarantee.startswith("at least (1 - 1/e)/2")
    nothing = compress(vectors, relevance, objective=Objective(1, 0), costs=costs, budget=1)
    assert nothing.rows == ()
    assert nothing.coverage_ratio == 0.0


@pytest.mark.parametrize("kind", ["redundancy", "dispersion"])
@given(seed=st.integers(0, 999), budget=st.integers(1, 30), k=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_a_budget_and_a_cap_hold_for_any_objective(pool_of, kind, seed, budget, k):
    pool = pool_of(8, seed)
    costs = np.random.default_rng(seed).integers(1, 15, 8)
    found = chosen_from(pool, k=k, objective=objective(kind), costs=costs, budget=budget)
    assert costs[list(found.rows)].sum() <= budget
    assert len(found.rows) <= k
    assert found.guarantee.startswith("none: ")


def test_stochastic_greedy_repeats_with_its_seed_and_comes_close_to_plain(pool_of):
    pool, wanted = pool_of(200, 3, dim=10), objective("logdet")
    best = chosen_from(pool, k=10, objective=wanted, greedy="plain").objective
    found = [
        chosen_from(pool, k=10, objective=wanted, greedy="stochastic", seed=seed)
        for seed in range(50)
    ]
    again = chosen_from(pool, k=10, objective=wanted, greedy="stochastic", seed=49)
    assert again == found[49]
    assert len({one.rows for one in found}) > 1
    ratios = [one.objective / best for one in found]
    assert np.mean(ratios) >= 0.9
    assert min(ratios) < 1.0
    assert all(len(set(one.rows)) == 10 for one in found)


def test_a_lower_epsilon_looks_at_more(pool_of):
    pool, wanted = pool_of(200, 3, dim=10), objective("none")
    means = [
        np.mean([
            chosen_from(pool, k=10, objective=wanted, greedy="stochastic", seed=s, epsilon=epsilon).objective
            for s in range(20)
        ])
        for epsilon in (0.9, 0.3, 0.01)
    ]  # fmt: skip
    assert means == sorted(means)
    plain = chosen_from(pool, k=10, objective=wanted, greedy="plain")
    least = chosen_from(pool, k=10, objective=wanted, greedy="stochastic", epsilon=1e-9)
    assert least.rows == plain.rows


@pytest.mark.parametrize("greedy", ["plain", "lazy", "block", "stochastic"])
def test_stops_where_every_passage_would_lower_the_objective(greedy):
    vectors = np.tile([1.0, 0.0], (6, 1))
    vectors[5] = [0.0, 1.0]
    wanted = Objective(0.1, 0, 1, "redundancy")
    for seed in range(10):
        found = compress(vectors, np.ones(6), k=6, objective=wanted, greedy=greedy, seed=seed)
        assert len(found.rows) == 2
        assert 5 in found.rows


@pytest.mark.parametrize("greedy", ["plain", "lazy", "block"])
def test_what_adds_nothing_is_still_taken(greedy):
    found = compress(np.zeros((3, 2)), np.zeros(3), k=5, objective=Objective(), greedy=greedy)
    assert found.rows == (0, 1, 2)
    assert found.gains == (0.0, 0.0, 0.0)
    assert found.coverage_ratio == 1.0


def test_forced_rows_come_first_and_count_towards_k(pool_of):
    pool, wanted = pool_of(9, 2), objective("groups")
    found = chosen_from(pool, k=4, objective=wanted, first=[7, 1])
    assert found.rows[:2] == (7, 1)
    assert len(found.rows) == 4
    assert found.objective == pytest.approx(pool.value(wanted, found.rows))
    assert "best addition to the forced passages" in found.guarantee
    assert chosen_from(pool, k=2, objective=wanted, first=[7, 1]).rows == (7, 1)
    base = pool.value(wanted, [7, 1])
    best = max(
        pool.value(wanted, [7, 1, *rows]) - base
        for rows in combinations(set(pool.rows) - {7, 1}, 2)
    )
    assert found.objective - base >= SHARE * best


@pytest.mark.parametrize("kind", KINDS)
def test_one_none_and_only_zero_vectors_do_no_harm(kind):
    wanted = objective(kind)
    for vectors in (np.zeros((0, 3)), np.ones((1, 3)), np.zeros((4, 3)), np.zeros((2, 0))):
        n = len(vectors)
        found = compress(vectors, np.ones(n), k=9, objective=wanted, groups=np.zeros(n, int))
        assert sorted(found.rows) == list(range(n))
        assert np.isfinite(found.gains).all()
        assert 0.0 <= found.coverage_ratio <= 1.0
    assert compress(np.zeros((0, 3)), np.ones(0), k=1, objective=Objective()).rows == ()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_arithmetic_is_float64_whatever_the_vectors_are(pool_of, dtype):
    pool, wanted = pool_of(40, 4, dim=16), objective("logdet")
    rough = pool.vectors.astype(dtype)
    options = {"k": 12, "objective": wanted}
    one = compress(rough, pool.relevance, **options)
    assert one == compress(rough.astype(np.float64), pool.relevance, **options)


@given(
    n=st.integers(2, 30), seed=st.integers(0, 999), scale=st.sampled_from([2.0**-20, 2.0, 2.0**20])
)
@settings(max_examples=30, deadline=None)
def test_norms_do_not_count(pool_of, n, seed, scale):
    pool = pool_of(n, seed)
    for kind in KINDS:
        options = {"k": 5, "objective": objective(kind), "groups": pool.groups}
        one = compress(pool.vectors, pool.relevance, **options)
        assert compress(pool.vectors * scale, pool.relevance, **options) == one


def test_weights_are_the_relevance_by_default(pool_of):
    pool = pool_of(20, 8)
    one = compress(pool.vectors, pool.relevance, k=5, objective=Objective())
    other = compress(
        pool.vectors, pool.relevance, k=5, objective=Objective(), weights=pool.relevance
    )
    assert one == other
    assert one != compress(
        pool.vectors, pool.relevance, k=5, objective=Objective(), weights=np.ones(20)
    )


@pytest.mark.parametrize(
    ("n", "kind", "c", "budget", "expected"),
    [
        (500, "none", 1.0, None, "plain"),
        (501, "none", 1.0, None, "block"),
        (501, "none", 0.0, None, "plain"),
        (501, "dispersion", 1.0, None, "plain"),
        (501, "redundancy", 1.0, 9.0, "block"),
        (5000, "none", 0.0, None, "plain"),
    ],
)
def test_auto_goes_by_the_size_of_the_pool(n, kind, c, budget, expected):
    vectors = np.random.default_rng(0).normal(size=(n, 4))
    costs = None if budget is None else np.ones(n)
    options = {"objective": objective(kind, c=c), "costs": costs, "budget": budget}
    assert compress(vectors, np.ones(n), k=2, **options).greedy == expected


@pytest.mark.slow
def test_auto_draws_samples_of_a_very_large_pool():
    vectors = np.random.default_rng(0).normal(size=(5000, 4))
    assert compress(vectors, np.ones(5000), k=2, objective=Objective()).greedy == "stochastic"


BAD = [
    ({"vectors": np.zeros(3)}, r"vectors must be \(n, dim\), got \(3,\)"),
    ({"vectors": np.full((3, 2), np.nan)}, "vectors must be finite, got NaN or infinity"),
    ({"relevance": np.ones(2)}, r"relevance must be \(3,\) as vectors have 3 rows, got \(2,\)"),
    ({"relevance": np.array([1, np.nan, 1])}, "relevance must be finite and at least 0, got nan"),
    ({"relevance": np.array([1, -2.0, 1])}, r"relevance must be finite and at least 0, got -2\.0"),
    ({"weights": np.array([1, np.inf, 1])}, "weights must be finite and at least 0, got inf"),
    ({"k": 0}, "k must be at least 1, got 0"),
    ({"k": None}, "k must be given where budget is not, got None for both"),
    ({"costs": np.ones(3)}, "costs and budget must come together, got one of them"),
    ({"budget": 3}, "costs and budget must come together, got one of them"),
    ({"costs": np.array([1, 0, 1]), "budget": 3}, r"costs must be above 0, got 0\.0"),
    ({"costs": np.ones(3), "budget": 0}, "budget must be finite and above 0, got 0"),
    ({"costs": np.ones(3), "budget": math.nan}, "budget must be finite and above 0, got nan"),
    ({"costs": np.ones(3), "budget": 1, "first": [0, 1]}, "budget must hold the rows of first, which cost 2, got 1"),
    ({"first": [0, 0]}, r"first must be distinct rows in \[0, 3\), got \[0, 0\]"),
    ({"first": [3]}, r"first must be distinct rows in \[0, 3\), got \[3\]"),
    ({"first": [-1]}, r"first must be distinct rows in \[0, 3\), got \[-1\]"),
    ({"first": [0, 1, 2]}, "first must be at most k = 2 rows, got 3"),
    ({"greedy": "best"}, r"greedy must be one of \('auto', .*got 'best'"),
    ({"seed": -1}, "seed must be at least 0, got -1"),
    ({"epsilon": 0.0}, r"epsilon must be in \(0, 1\), got 0\.0"),
    ({"epsilon": 1.0}, r"epsilon must be in \(0, 1\), got 1\.0"),
    ({"objective": Objective(1, 1, 1, "groups")}, "groups must be one label a row for the kind 'groups', got None"),
    ({"groups": np.zeros(2, int)}, r"groups must be integers \(3,\), got int64 \(2,\)"),
    ({"groups": np.zeros(3)}, r"groups must be integers \(3,\), got float64 \(3,\)"),
    ({"greedy": "stochastic", "costs": np.ones(3), "budget": 3}, "greedy must be plain, lazy, block or auto with a budget, .* got 'stochastic'"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "message"), BAD)
def test_wrong_arguments_are_refused_by_name(wrong, message):
    given = {"vectors": np.eye(3), "relevance": np.ones(3), "k": 2, "objective": Objective()}
    with pytest.raises(ValueError, match=message):
        compress(**given | wrong)


@pytest.mark.parametrize("greedy", ["lazy", "block"])
@pytest.mark.parametrize("budget", [None, 2.0])
def test_dispersion_refuses_lazy(greedy, budget):
    costs = None if budget is None else np.ones(3)
    wanted = objective("dispersion")
    with pytest.raises(
        ValueError,
        match=f"greedy must be plain, stochastic or auto for dispersion, which is not submodular, got '{greedy}'",
    ):
        compress(
            np.eye(3), np.ones(3), k=2, objective=wanted, greedy=greedy, costs=costs, budget=budget
        )


def test_nothing_to_choose_from_has_a_record_too():
    assert Compressed().rows == ()
    assert Compressed().coverage_ratio == 1.0

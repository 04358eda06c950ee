"""Hops: hand-worked graphs, parity with all paths, invariants, errors."""

import re

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from retrievers.graph.hops import hops
from retrievers.graph.pagerank import Walk, pagerank


def graph(n, seed, *, density=0.2):
    rng = np.random.default_rng(seed)
    weights = rng.random((n, n)) * (rng.random((n, n)) < density) * 5
    weights[rng.random(n) < 0.2] = 0
    return weights


def seeds(n, seed, count=3):
    rng = np.random.default_rng(seed)
    p = np.zeros(n)
    p[rng.integers(0, n, count)] = rng.random(count) + 0.1
    return p


def by_all_paths(weights, seeds, steps, decay):
    """Follow every path from every seed, one edge at a time."""
    heaviest = weights.max() or 1
    best = {}

    def follow(row, score, edges_left):
        if score > 0:
            best[row] = max(best.get(row, 0), score)
            for target in np.flatnonzero(weights[row]) if edges_left else ():
                further = score * decay * weights[row, target] / heaviest
                follow(int(target), further, edges_left - 1)

    for row in np.flatnonzero(seeds):
        follow(int(row), seeds[row], steps)
    return dict(sorted(best.items()))


PATH = [[0.0, 4, 0, 0], [4, 0, 2, 0], [0, 2, 0, 3], [0, 0, 3, 0]]  # 0 -4- 1 -2- 2 -3- 3


@pytest.mark.parametrize(
    ("steps", "rows", "scores"),
    [
        (0, [0], [8]),
        (1, [0, 1], [8, 8 * 0.5]),
        (2, [0, 1, 2], [8, 4, 4 * 0.5 * 0.5]),
        (3, [0, 1, 2, 3], [8, 4, 1, 1 * 0.5 * 0.75]),
        (9, [0, 1, 2, 3], [8, 4, 1, 0.375]),
    ],
)
def test_spreads_along_a_path_by_hand(steps, rows, scores):
    found = hops(Walk.over(sp.csr_array(PATH)), np.array([8.0, 0, 0, 0]), steps=steps)
    assert found[0].tolist() == rows
    assert found[1] == pytest.approx(scores, rel=1e-15)
    assert (found[0].dtype, found[1].dtype) == ("i8", "f8")


def test_takes_the_better_of_a_short_weak_and_a_long_strong_way():
    # 0 to 2 directly with weight 1 of 10, or by way of 1 with 10 and 10.
    walk = Walk.over(sp.csr_array([[0.0, 10, 1], [0, 0, 10], [0, 0, 0]]))
    seed = np.array([1.0, 0, 0])
    assert hops(walk, seed, steps=1, decay=0.9)[1] == pytest.approx([1, 0.9, 0.09])
    assert hops(walk, seed, steps=2, decay=0.9)[1] == pytest.approx([1, 0.9, 0.81])


def test_follows_edges_from_u_to_v_only():
    walk = Walk.over(sp.csr_array([[0.0, 1], [0, 0]]))
    assert hops(walk, np.array([0, 1]))[0].tolist() == [1]
    assert hops(walk, np.array([1, 0]))[0].tolist() == [0, 1]


def test_a_weak_seed_takes_a_better_score_from_a_strong_neighbour():
    walk = Walk.over(sp.csr_array([[0.0, 1], [1, 0]]))
    assert hops(walk, np.array([1.0, 0.1]))[1].tolist() == [1, 0.5]


@given(
    n=st.integers(1, 12),
    seed=st.integers(0, 999),
    steps=st.integers(0, 4),
    decay=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_matches_following_every_path(n, seed, steps, decay):
    weights, scores = graph(n, seed), seeds(n, seed)
    rows, found = hops(Walk.over(sp.csr_array(weights)), scores, steps=steps, decay=decay)
    expected = by_all_paths(weights, scores, steps, decay)
    assert rows.tolist() == list(expected)
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-12)


@given(seed=st.integers(0, 999), steps=st.integers(0, 6), decay=st.floats(0, 1))
def test_no_score_is_above_the_best_seed_and_no_seed_falls(seed, steps, decay):
    weights, scores = graph(20, seed), seeds(20, seed)
    rows, found = hops(Walk.over(sp.csr_array(weights)), scores, steps=steps, decay=decay)
    assert (found <= scores.max()).all()
    assert (found > 0).all()
    assert (found >= scores[rows]).all()
    assert set(np.flatnonzero(scores)) <= set(rows)


@given(seed=st.integers(0, 999), steps=st.integers(0, 4))
def test_more_steps_only_add(seed, steps):
    walk, scores = Walk.over(sp.csr_array(graph(20, seed, density=0.08))), seeds(20, seed)
    rows, found = hops(walk, scores, steps=steps)
    further_rows, further = hops(walk, scores, steps=steps + 1)
    assert set(rows) <= set(further_rows)
    assert (further[np.isin(further_rows, rows)] >= found).all()


@given(seed=st.integers(0, 999), damping=st.floats(0.1, 0.9))
def test_reaches_the_rows_that_pagerank_reaches(seed, damping):
    walk, scores = Walk.over(sp.csr_array(graph(12, seed, density=0.1))), seeds(12, seed)
    rows, _ = hops(walk, scores, steps=12, decay=1)
    reached = pagerank(walk, scores, damping=damping, tolerance=1e-14) > 0
    assert rows.tolist() == np.flatnonzero(reached).tolist()


def test_equal_weights_are_all_the_heaviest_whatever_their_sum_rounds_to():
    walk = Walk.over(sp.csr_array(np.full((7, 7), 0.1)))
    rows, scores = hops(walk, np.eye(7)[0], steps=5, decay=1)
    assert rows.tolist() == list(range(7))
    assert (scores <= 1).all()
    assert scores == pytest.approx(np.ones(7), rel=1e-15)


def test_scaling_weights_changes_nothing_and_scaling_seeds_scales_scores():
    weights, scores = graph(20, 1), seeds(20, 1)
    rows, found = hops(Walk.over(sp.csr_array(weights)), scores)
    other_rows, other = hops(Walk.over(sp.csr_array(weights * 1024)), scores * 4)
    assert other_rows.tolist() == rows.tolist()
    assert other.tolist() == (found * 4).tolist()


def test_leaves_its_arguments_as_they_were():
    walk, scores = Walk.over(sp.csr_array(graph(20, 1))), seeds(20, 1)
    kept, before = walk.transitions.copy(), scores.copy()
    hops(walk, scores)
    assert (walk.transitions != kept).nnz == 0
    assert (scores == before).all()


def test_a_graph_without_edges_gives_the_seeds_alone():
    rows, scores = hops(Walk.over(sp.csr_array((3, 3))), np.array([0, 2, 0]))
    assert (rows.tolist(), scores.tolist()) == ([1], [2])


@pytest.mark.parametrize(
    ("given_seeds", "options", "message"),
    [
        ([1, 0], {}, "seeds must be of shape (3,), got (2,)"),
        ([1, -0.5, 0], {}, "seeds must be finite and at least 0, got -0.5"),
        ([1, np.nan, 0], {}, "seeds must be finite and at least 0, got nan"),
        ([0, 0, 0], {}, "seeds must have a value above 0, got 3 zeros"),
        ([1, 0, 0], {"steps": -1}, "steps must be at least 0, got -1"),
        ([1, 0, 0], {"decay": 1.5}, "decay must be in [0, 1], got 1.5"),
        ([1, 0, 0], {"decay": -0.1}, "decay must be in [0, 1], got -0.1"),
        ([1, 0, 0], {"decay": np.nan}, "decay must be in [0, 1], got nan"),
    ],
)
def test_rejects_seeds_and_options_out_of_range(given_seeds, options, message):
    walk = Walk.over(sp.csr_array(np.ones((3, 3))))
    with pytest.raises(ValueError, match=re.escape(message)):
        hops(walk, np.array(given_seeds), **options)

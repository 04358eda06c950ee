"""Forward push: a hand-worked graph, its error bounds, locality, parity with PageRank, errors."""

import re

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from retrievers.graph import forward_push as module
from retrievers.graph.forward_push import forward_push
from retrievers.graph.pagerank import Walk, pagerank


def graph(n, seed, *, density=0.15):
    """Random directed weights; about a fifth of the rows lead nowhere."""
    rng = np.random.default_rng(seed)
    weights = rng.random((n, n)) * (rng.random((n, n)) < density)
    weights[rng.random(n) < 0.2] = 0
    return weights


def seeds(n, seed, count=3):
    rng = np.random.default_rng(seed)
    p = np.zeros(n)
    p[rng.integers(0, n, count)] = rng.random(count) + 0.1
    return p


def ring(n):
    """Each row with an edge to the one before and the one after."""
    ahead = sp.csr_array((np.ones(n), (np.arange(n), (np.arange(n) + 1) % n)), shape=(n, n))
    return Walk.over(ahead + ahead.T)


def pushed_one_by_one(weights, restart, damping, epsilon):
    """Push as the paper does, one row at a time: slow, plain, another order."""
    n = len(weights)
    p = restart / sum(restart)
    score, residual = np.zeros(n), p.copy()
    degree = np.maximum((weights > 0).sum(axis=1), 1)
    while (residual > epsilon * degree).any():
        u = int((residual / degree).argmax())
        mass, residual[u] = residual[u], 0
        score[u] += (1 - damping) * mass
        chances = weights[u] / weights[u].sum() if weights[u].any() else p
        residual += damping * mass * chances
    return score, residual


def dense(found, n):
    scores = np.zeros(n)
    scores[found.rows] = found.scores
    return scores


@pytest.fixture(params=[0, 10**9], ids=["gathers", "multiplies"])
def way(request, monkeypatch):
    """Take one of the two ways to send mass along edges, whatever the size of the frontier."""
    monkeypatch.setattr(module, "_GATHERING", request.param)


def test_pushes_by_hand(way):
    # A path 0 - 1 - 2. Row 0 keeps 1/2 and sends 1/2 to row 1, which keeps 1/4 and sends 1/8 each
    # way. Rows 0 and 2 have one edge: with a limit of 1/8 they stop here, with 0.115 they go on.
    walk = Walk.over(sp.csr_array([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]))
    found = forward_push(walk, np.array([2.0, 0, 0]), epsilon=0.125)
    assert found.rows.tolist() == [0, 1]
    assert found.scores.tolist() == [0.5, 0.25]
    assert found.left == 0.25
    further = forward_push(walk, np.array([2.0, 0, 0]), epsilon=0.115)
    assert further.rows.tolist() == [0, 1, 2]
    assert further.scores.tolist() == [0.5 + 0.0625, 0.25, 0.0625]
    assert further.left == 0.125


def test_a_row_without_an_edge_sends_its_mass_back_to_all_seeds_by_hand(way):
    walk = Walk.over(sp.csr_array([[0.0, 1, 0], [0, 0, 0], [0, 0, 0]]))
    # Seeds 0 and 2, half each; 2 sends home 1/4, half of it to either; row 1 receives 1/4.
    found = forward_push(walk, np.array([1.0, 0, 1.0]), epsilon=0.3)
    assert found.rows.tolist() == [0, 2]
    assert found.scores.tolist() == [0.25, 0.25]
    assert found.left == 0.5
    exact = forward_push(walk, np.array([1.0, 0, 1.0]), epsilon=1e-14)
    np.testing.assert_allclose(
        dense(exact, 3), pagerank(walk, np.array([1.0, 0, 1.0]), tolerance=1e-14), atol=1e-12
    )


@given(
    n=st.integers(1, 30),
    seed=st.integers(0, 999),
    damping=st.floats(0, 0.95),
    epsilon=st.floats(1e-9, 0.3),
    gathering=st.sampled_from([0, 3, 10**9]),
)
def test_the_scores_are_a_lower_bound_and_what_is_left_is_the_error(
    n, seed, damping, epsilon, gathering
):
    weights, p = graph(n, seed), seeds(n, seed)
    walk = Walk.over(sp.csr_array(weights))
    exact = pagerank(walk, p, damping=damping, tolerance=1e-14)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_GATHERING", gathering)
        found = forward_push(walk, p, damping=damping, epsilon=epsilon)
    scores = dense(found, n)
    assert (scores <= exact + 1e-12).all()
    assert np.abs(exact - scores).sum() == pytest.approx(found.left, abs=1e-11)
    assert scores.sum() + found.left == pytest.approx(1, abs=1e-12)
    reached = (exact > 0).nonzero()[0]
    limit = epsilon * np.maximum((weights > 0).sum(axis=1), 1)[reached].sum()
    assert 0 <= found.left <= limit + 1e-15


@given(seed=st.integers(0, 999), damping=st.floats(0, 0.95), epsilon=st.floats(1e-7, 0.2))
def test_each_row_of_an_unweighted_symmetric_graph_is_within_its_own_bound(seed, damping, epsilon):
    rng = np.random.default_rng(seed)
    linked = rng.random((20, 20)) < 0.1
    linked |= linked.T
    linked[np.arange(20), (np.arange(20) + 1) % 20] = True  # no row without an edge
    linked[(np.arange(20) + 1) % 20, np.arange(20)] = True
    walk, p = Walk.over(sp.csr_array(linked)), seeds(20, seed)
    exact = pagerank(walk, p, damping=damping, tolerance=1e-14)
    scores = dense(forward_push(walk, p, damping=damping, epsilon=epsilon), 20)
    assert (exact - scores <= epsilon * linked.sum(axis=1) + 1e-12).all()


@pytest.mark.parametrize("damping", [0.5, 0.85])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_pushing_one_row_at_a_time(seed, damping, way):
    weights, p = graph(25, seed), seeds(25, seed)
    found = forward_push(Walk.over(sp.csr_array(weights)), p, damping=damping, epsilon=1e-6)
    score, residual = pushed_one_by_one(weights, p, damping, 1e-6)
    scores = dense(found, 25)
    # Both are below the exact scores by what they left, so they differ by no more than that.
    assert (np.abs(scores - score) <= max(found.left, residual.sum()) + 1e-15).all()
    tight = dense(
        forward_push(Walk.over(sp.csr_array(weights)), p, damping=damping, epsilon=1e-15), 25
    )
    np.testing.assert_allclose(tight, pushed_one_by_one(weights, p, damping, 1e-15)[0], atol=1e-12)


@given(seed=st.integers(0, 999), epsilon=st.floats(1e-8, 0.1))
def test_both_ways_of_sending_mass_agree(seed, epsilon):
    walk, p = Walk.over(sp.csr_array(graph(25, seed))), seeds(25, seed)
    results = []
    for gathering in (0, 10**9):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(module, "_GATHERING", gathering)
            results.append(forward_push(walk, p, epsilon=epsilon))
    # A residual that rounds to either side of its limit may or may not be pushed.
    worst = np.abs(dense(results[0], 25) - dense(results[1], 25)).max()
    assert worst <= 30 * epsilon
    if results[0].rows.tolist() == results[1].rows.tolist():
        assert results[0].left == pytest.approx(results[1].left, abs=30 * epsilon)


@given(seed=st.integers(0, 999), damping=st.floats(0, 0.95))
def test_a_smaller_epsilon_only_adds(seed, damping):
    walk, p = Walk.over(sp.csr_array(graph(25, seed))), seeds(25, seed)
    found = [forward_push(walk, p, damping=damping, epsilon=e) for e in (1e-2, 1e-4, 1e-8)]
    assert found[0].left >= found[1].left >= found[2].left
    assert set(found[0].rows) <= set(found[1].rows) <= set(found[2].rows)


@pytest.mark.parametrize("damping", [0.5, 0.85])
def test_finds_the_best_rows_of_pagerank(damping):
    walk, p = Walk.over(sp.csr_array(graph(300, 0, density=0.03))), seeds(300, 0, 10)
    exact = pagerank(walk, p, damping=damping, tolerance=1e-13)
    scores = dense(forward_push(walk, p, damping=damping, epsilon=1e-8), 300)
    assert np.argsort(-scores)[:50].tolist() == np.argsort(-exact)[:50].tolist()


def test_reads_no_more_edges_than_its_bound_however_large_the_graph(monkeypatch):
    read = []
    edges = Walk.edges
    monkeypatch.setattr(
        Walk,
        "edges",
        lambda walk, rows: (read.append(walk.degrees(rows).sum()), edges(walk, rows))[1],
    )
    found = []
    for n in (1_000, 100_000):
        read.clear()
        p = np.zeros(n)
        p[:2] = 1
        found.append((forward_push(ring(n), p, damping=0.8, epsilon=1e-3).left, sum(read)))
        assert 0 < sum(read) <= 1 / (1e-3 * (1 - 0.8))
    assert found[0] == found[1]


def test_seeds_never_leak_into_another_component(way):
    walk = Walk.over(sp.block_diag([graph(10, 0), np.ones((5, 5))], format="csr"))
    p = np.concatenate([seeds(10, 0), np.zeros(5)])
    assert (forward_push(walk, p, damping=0.9, epsilon=1e-12).rows < 10).all()


def test_without_damping_the_seeds_keep_everything():
    walk = Walk.over(sp.csr_array(np.ones((4, 4))))
    found = forward_push(walk, np.array([0, 3, 0, 1]), damping=0, epsilon=1e-9)
    assert found.rows.tolist() == [1, 3]
    assert found.scores.tolist() == [0.75, 0.25]
    assert found.left == 0


def test_an_epsilon_above_every_residual_finds_nothing():
    walk = Walk.over(sp.csr_array(np.ones((4, 4))))
    found = forward_push(walk, np.array([0, 3, 0, 1]), epsilon=1)
    assert (found.rows.tolist(), found.scores.tolist(), found.left) == ([], [], 1)
    assert (found.rows.dtype, found.scores.dtype) == ("i8", "f8")


def test_scaling_weights_or_restart_changes_nothing():
    weights, p = graph(25, 3), seeds(25, 3)
    one = forward_push(Walk.over(sp.csr_array(weights)), p, epsilon=1e-5)
    other = forward_push(Walk.over(sp.csr_array(weights * 1024)), p * 4, epsilon=1e-5)
    assert one.rows.tolist() == other.rows.tolist()
    assert one.scores.tolist() == other.scores.tolist()


def test_leaves_its_arguments_as_they_were(way):
    walk, p = Walk.over(sp.csr_array(graph(25, 3))), seeds(25, 3)
    kept, before = walk.transitions.copy(), p.copy()
    forward_push(walk, p)
    assert (walk.transitions != kept).nnz == 0
    assert (p == before).all()


@pytest.mark.parametrize(
    ("restart", "options", "message"),
    [
        ([1, 0], {}, "restart must be of shape (3,), got (2,)"),
        ([1, -0.5, 0], {}, "restart must be finite and at least 0, got -0.5"),
        ([1, np.nan, 0], {}, "restart must be finite and at least 0, got nan"),
        ([0, 0, 0], {}, "restart must have a value above 0, got 3 zeros"),
        ([1, 0, 0], {"damping": 1.0}, "damping must be in [0, 1), got 1.0"),
        ([1, 0, 0], {"epsilon": 0.0}, "epsilon must be finite and above 0, got 0.0"),
        ([1, 0, 0], {"epsilon": np.inf}, "epsilon must be finite and above 0, got inf"),
        ([1, 0, 0], {"epsilon": np.nan}, "epsilon must be finite and above 0, got nan"),
    ],
)
def test_rejects_what_it_cannot_push(restart, options, message):
    walk = Walk.over(sp.csr_array(np.ones((3, 3))))
    with pytest.raises(ValueError, match=re.escape(message)):
        forward_push(walk, np.array(restart), **options)

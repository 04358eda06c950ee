"""PageRank: hand-worked graphs, invariants, parity with a linear solve and networkx, errors."""

import re

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from retrievers.graph.pagerank import Walk, pagerank, pagerank_batch

TIGHT = 1e-13


def graph(n, seed, *, density=0.15, symmetric=False):
    """Random weights of which about a fifth of the rows, the first at least, have no edge at all."""
    rng = np.random.default_rng(seed)
    weights = rng.random((n, n)) * (rng.random((n, n)) < density) * 10
    weights = np.maximum(weights, weights.T) if symmetric else weights
    alone = rng.random(n) < 0.2
    alone[:1] = True
    weights[alone] = 0
    weights[:, alone] = 0
    if not symmetric:
        weights[rng.random(n) < 0.2] = 0  # rows that are reached and lead nowhere
    return weights


def seeds(n, seed, count=3):
    rng = np.random.default_rng(seed)
    p = np.zeros(n)
    p[rng.integers(0, n, count)] = rng.random(count) + 0.1
    return p


def solved(weights, restart, damping):
    """Solve the definition as one dense linear system."""
    n = len(weights)
    p = restart / sum(restart)
    to_row = np.zeros((n, n))  # to_row[v, u]: chance that the walk at u stands at v after a step
    for u in range(n):
        total = sum(weights[u])
        to_row[:, u] = weights[u] / total if total else p
    return np.linalg.solve(np.eye(n) - damping * to_row, (1 - damping) * p)


def test_two_rows_that_point_at_each_other_by_hand():
    # x0 = 1/2 + x1/2 and x1 = x0/2
    walk = Walk.over(sp.csr_array([[0.0, 7.0], [7.0, 0.0]]))
    x = pagerank(walk, np.array([1.0, 0.0]), damping=0.5, tolerance=TIGHT)
    np.testing.assert_allclose(x, [2 / 3, 1 / 3], atol=1e-12)


def test_steps_follow_the_weights_and_the_direction_of_edges_by_hand():
    # From row 0 a quarter goes to row 1 and the rest to row 2, which both lead nowhere: so home.
    # x0 = 1/2 + (x1 + x2)/2 with x1 + x2 = x0/2.
    walk = Walk.over(sp.csr_array([[0.0, 1.0, 3.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    x = pagerank(walk, np.array([5.0, 0.0, 0.0]), damping=0.5, tolerance=TIGHT)
    np.testing.assert_allclose(x, [2 / 3, 1 / 12, 1 / 4], atol=1e-12)


def test_the_walk_holds_chances_strengths_and_rows_without_an_edge():
    walk = Walk.over(sp.csr_array([[0.0, 1.0, 3.0], [0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]))
    assert walk.transitions.toarray().tolist() == [[0, 0.25, 0.75], [0, 0, 0], [1, 0, 0]]
    assert walk.arriving.toarray().tolist() == walk.transitions.toarray().T.tolist()
    assert walk.dangling.tolist() == [1]
    assert walk.strengths == pytest.approx([4 / 3, 0, 2 / 3])
    assert walk.degrees(np.array([2, 0])).tolist() == [1, 2]
    places, targets, chances = walk.edges(np.array([2, 1, 0]))
    assert (places.tolist(), targets.tolist()) == ([0, 2, 2], [0, 1, 2])
    assert chances.tolist() == [1, 0.25, 0.75]


def test_the_walk_is_one_matrix_of_twelve_bytes_an_edge():
    walk = Walk.over(sp.csr_array(graph(30, 0)).astype(np.float32))
    held = walk.transitions
    assert (held.data.dtype, held.indices.dtype, held.indptr.dtype) == ("f8", "i4", "i4")
    for name in ("data", "indices", "indptr"):
        assert np.shares_memory(getattr(held, name), getattr(walk.arriving, name))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("damping", [0.3, 0.5, 0.85, 0.99])
@pytest.mark.parametrize("n", [1, 2, 40])
def test_matches_a_dense_linear_solve(n, damping, symmetric):
    weights, p = graph(n, n, symmetric=symmetric), seeds(n, 1)
    x = pagerank(Walk.over(sp.csr_array(weights)), p, damping=damping, tolerance=TIGHT)
    np.testing.assert_allclose(x, solved(weights, p, damping), atol=1e-11)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("damping", [0.5, 0.85])
@pytest.mark.parametrize("seed", range(5))
def test_matches_networkx_with_dangling_isolated_and_disconnected_rows(seed, damping, symmetric):
    networkx = pytest.importorskip("networkx")
    n = 80
    weights = graph(n, seed, density=0.03, symmetric=symmetric)
    p = seeds(n, seed)
    p[0] = 0.3  # a seed without an edge
    other = networkx.from_numpy_array(
        weights, create_using=networkx.Graph if symmetric else networkx.DiGraph
    )
    expected = networkx.pagerank(
        other, damping, personalization=dict(enumerate(p)), tol=1e-14, max_iter=1000
    )
    walk = Walk.over(sp.csr_array(weights))
    assert 0 < len(walk.dangling) < n
    exact = pagerank(walk, p, damping=damping, tolerance=TIGHT)
    usual = pagerank(walk, p, damping=damping)
    np.testing.assert_allclose(exact, [expected[u] for u in range(n)], rtol=0, atol=1e-11)
    np.testing.assert_allclose(usual, [expected[u] for u in range(n)], rtol=0, atol=1e-6)


@given(
    n=st.integers(1, 25),
    seed=st.integers(0, 999),
    damping=st.floats(0, 0.95),
    symmetric=st.booleans(),
    scale=st.sampled_from([1e-300, 1.0, 1e300]),
)
def test_is_a_distribution_whatever_the_scales_of_weights_and_seeds(
    n, seed, damping, symmetric, scale
):
    weights, p = graph(n, seed, symmetric=symmetric), seeds(n, seed)
    x = pagerank(Walk.over(sp.csr_array(weights)), p, damping=damping)
    assert x.dtype == np.float64
    assert x.shape == (n,)
    assert (x >= 0).all()
    assert x.sum() == pytest.approx(1, abs=1e-12)
    scaled = Walk.over(sp.csr_array(weights * scale))
    other = pagerank(scaled, p * scale, damping=damping)
    np.testing.assert_allclose(other, x, rtol=1e-9, atol=0)


@given(seed=st.integers(0, 999), damping=st.floats(0, 0.95), tolerance=st.floats(1e-9, 0.1))
def test_the_error_is_within_its_stated_bound(seed, damping, tolerance):
    weights, p = graph(15, seed), seeds(15, seed)
    x = pagerank(Walk.over(sp.csr_array(weights)), p, damping=damping, tolerance=tolerance)
    error = np.abs(x - solved(weights, p, damping)).sum()
    assert error <= damping / (1 - damping) * tolerance + 1e-12


@given(seed=st.integers(0, 999), damping=st.floats(0, 0.95))
def test_seeds_never_leak_into_another_component(seed, damping):
    one, two = graph(10, seed), graph(12, seed + 1)
    p = np.concatenate([seeds(10, seed), np.zeros(12)])
    walk = Walk.over(sp.block_diag([one, two], format="csr"))
    assert (pagerank(walk, p, damping=damping)[10:] == 0).all()


@given(n=st.integers(1, 25), seed=st.integers(0, 999))
def test_without_damping_it_is_the_restart_exactly(n, seed):
    p = np.float64(np.random.default_rng(seed).integers(0, 2, n))
    p[0] = 1
    x = pagerank(Walk.over(sp.csr_array(graph(n, seed))), p, damping=0)
    assert x.tolist() == (p / p.sum()).tolist()


@given(seed=st.integers(0, 999), damping=st.floats(0, 0.95), q=st.integers(0, 19))
def test_a_batch_equals_its_queries_one_by_one(seed, damping, q):
    walk = Walk.over(sp.csr_array(graph(20, seed)))
    restarts = np.array([seeds(20, seed + j, 1 + j) for j in range(q)]).reshape(q, 20).T
    found = pagerank_batch(walk, restarts, damping=damping)
    assert found.shape == (20, q)
    for j in range(q):
        single = pagerank(walk, restarts[:, j], damping=damping)
        np.testing.assert_allclose(found[:, j], single, rtol=0, atol=1e-13)


@given(seed=st.integers(0, 999))
def test_numbering_the_rows_otherwise_renumbers_the_scores(seed):
    weights, p = graph(20, seed), seeds(20, seed)
    order = np.random.default_rng(seed).permutation(20)
    x = pagerank(Walk.over(sp.csr_array(weights)), p)
    moved = pagerank(Walk.over(sp.csr_array(weights[order][:, order])), p[order])
    np.testing.assert_allclose(moved, x[order], rtol=0, atol=1e-13)


def test_weights_at_both_ends_of_the_range_keep_their_proportions():
    weights = np.zeros((5, 5))
    weights[0, 1:3] = 1.5e308, 1e308
    weights[1, 3:5] = 1.5e-320, 1e-320
    walk = Walk.over(sp.csr_array(weights))
    chances = walk.transitions.toarray()
    np.testing.assert_allclose(chances[:2].sum(axis=1), 1)
    np.testing.assert_allclose(chances[0, 1:3], [0.6, 0.4])
    np.testing.assert_allclose(chances[1, 3:5], [0.6, 0.4], rtol=1e-3)
    assert walk.dangling.tolist() == [2, 3, 4]


def test_restarts_of_the_largest_numbers_do_not_overflow():
    walk = Walk.over(sp.csr_array(np.ones((3, 3))))
    x = pagerank(walk, np.array([1.7e308, 1.7e308, 0]), damping=0)
    assert x.tolist() == [0.5, 0.5, 0]


def test_stored_zeros_are_no_edges_and_places_stored_twice_add_up():
    rows, columns = np.array([0, 0, 0, 1]), np.array([1, 1, 2, 0])
    doubled = sp.coo_array((np.array([1.0, 1, 2, 0]), (rows, columns)), shape=(3, 3))
    unsorted = sp.csr_array(
        (np.array([2.0, 1, 1, 0]), np.array([2, 1, 1, 0]), np.array([0, 3, 4, 4])), shape=(3, 3)
    )
    before = unsorted.copy()
    for weights in (doubled, unsorted, sp.csr_matrix(doubled)):
        walk = Walk.over(weights)
        assert walk.transitions.toarray().tolist() == [[0, 0.5, 0.5], [0, 0, 0], [0, 0, 0]]
        assert walk.dangling.tolist() == [1, 2]
        assert walk.degrees(np.arange(3)).tolist() == [2, 0, 0]
        assert walk.edges(np.array([0]))[1].tolist() == [1, 2]
    assert unsorted.data.tolist() == before.data.tolist()
    assert unsorted.indices.tolist() == before.indices.tolist()


@pytest.mark.parametrize("kind", [bool, np.int32, np.float32])
def test_takes_weights_of_other_types(kind):
    weights = graph(20, 0) > 0
    p = seeds(20, 0).astype(np.float32)
    x = pagerank(Walk.over(sp.csr_array(weights.astype(kind))), p, tolerance=TIGHT)
    np.testing.assert_allclose(x, solved(weights.astype(float), p.astype(float), 0.5), atol=1e-7)


def test_leaves_its_arguments_as_they_were():
    weights, p = sp.csr_array(graph(20, 0)), np.stack([seeds(20, 0), seeds(20, 1)], axis=1)
    walk, copies = Walk.over(weights), (weights.copy(), p.copy())
    kept = walk.transitions.copy()
    pagerank(walk, p[:, 0])
    pagerank_batch(walk, p)
    assert (weights != copies[0]).nnz == 0
    assert (walk.transitions != kept).nnz == 0
    assert (p == copies[1]).all()


def test_a_graph_without_edges_leaves_all_mass_on_the_seeds():
    walk = Walk.over(sp.csr_array((4, 4)))
    assert len(walk) == 4
    assert pagerank(walk, np.array([1, 0, 3, 0])).tolist() == [0.25, 0, 0.75, 0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (sp.csr_array((3, 4)), "weights must be of shape (n, n), got (3, 4)"),
        (sp.csr_array([[1.0, -2.0], [0, 0]]), "weights must be finite and at least 0, got -2.0"),
        (sp.csr_array([[1.0, np.nan], [0, 0]]), "weights must be finite and at least 0, got nan"),
        (sp.csr_array([[1.0, np.inf], [0, 0]]), "weights must be finite and at least 0, got inf"),
    ],
)
def test_rejects_weights_of_no_walk(weights, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Walk.over(weights)


@pytest.mark.parametrize(
    ("restart", "message"),
    [
        ([1, 0], "must be of shape (3,), got (2,)"),
        ([[1, 0, 0]], "must be of shape (3,), got (1, 3)"),
        ([1, -0.5, 0], "must be finite and at least 0, got -0.5"),
        ([1, np.nan, 0], "must be finite and at least 0, got nan"),
        ([1, np.inf, 0], "must be finite and at least 0, got inf"),
        ([0, 0, 0], "must have a value above 0, got 3 zeros"),
    ],
)
def test_rejects_a_restart_that_is_no_distribution(restart, message):
    walk = Walk.over(sp.csr_array(np.ones((3, 3))))
    with pytest.raises(ValueError, match=re.escape(f"restart {message}")):
        pagerank(walk, np.array(restart))
    if np.ndim(restart) == 1 and len(restart) == 3:
        both = np.stack([np.ones(3), restart], axis=1)
        with pytest.raises(ValueError, match=re.escape(f"restarts {message}")):
            pagerank_batch(walk, both)


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_rejects_a_batch_of_another_shape(shape):
    walk = Walk.over(sp.csr_array(np.ones((3, 3))))
    message = f"restarts must be of shape (3, q), got {shape}"
    with pytest.raises(ValueError, match=re.escape(message)):
        pagerank_batch(walk, np.ones(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": -0.1}, "damping must be in [0, 1), got -0.1"),
        ({"damping": 1.0}, "damping must be in [0, 1), got 1.0"),
        ({"damping": np.nan}, "damping must be in [0, 1), got nan"),
        ({"tolerance": 0.0}, "tolerance must be finite and above 0, got 0.0"),
        ({"tolerance": np.nan}, "tolerance must be finite and above 0, got nan"),
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
    ],
)
def test_rejects_options_out_of_range(options, message):
    walk = Walk.over(sp.csr_array(np.ones((3, 3))))
    with pytest.raises(ValueError, match=re.escape(message)):
        pagerank(walk, np.ones(3), **options)
    with pytest.raises(ValueError, match=re.escape(message)):
        pagerank_batch(walk, np.ones((3, 0)), **options)


def test_says_so_when_the_steps_do_not_suffice():
    walk = Walk.over(sp.csr_array([[0.0, 1.0], [1.0, 0.0]]))
    # The changes are 1, 1/2, 1/4, 1/8.
    pagerank(walk, np.array([1.0, 0.0]), tolerance=0.2, max_steps=4)
    message = "less than tolerance=0.2 within max_steps=3, got a change of 0.25"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        pagerank(walk, np.array([1.0, 0.0]), tolerance=0.2, max_steps=3)

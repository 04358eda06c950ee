"""The corpus graph: its walk read literally, what it passes through, counts, edges between."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from rag.records import Edge
from retrievers.graph.corpus_graph import CorpusGraph, Facts
from retrievers.graph.lists import Lists
from retrievers.graph.pagerank import pagerank
from retrievers.graph.settings import KINDS, EdgeWeights, GraphSettings
from retrievers.sorted_strings import SortedStrings

NOTHING = EdgeWeights.only()


def graph(n, edges, named=None):
    """Return a graph of passages p0, p1, …: {kind: {(source, target): weight}}."""
    named = named or {}
    names = sorted({name for one in named.values() for name in one})
    facts = Facts(
        np.zeros((n, 16), np.uint8),
        SortedStrings.of(names),
        Lists.of([sorted(names.index(name) for name in named.get(row, ())) for row in range(n)]),
        Lists.of([()] * n),
        SortedStrings.of(()),
        Lists.of([()] * n),
        np.zeros(0, bool),
    )
    ids = SortedStrings.of(f"p{row}" for row in range(n))
    return CorpusGraph(
        GraphSettings(), ids, {k: matrix(n, one) for k, one in edges.items()}, facts, "en"
    )


def matrix(n, edges):
    dense = np.zeros((n, n), np.float32)
    for place, weight in edges.items():
        dense[place] = weight
    return sp.csr_array(dense)


def total_by_definition(found, weights, within=None):
    """Add up the kinds, entry by entry, then keep the heaviest of each row."""
    n = len(found)
    dense = {kind: one.toarray().astype(float).tolist() for kind, one in found.edges.items()}
    here = [within is None or f"p{row}" in within for row in range(n)]
    kept = np.zeros((n, n))
    for i in range(n):
        row = []
        for j in range(n):
            total = 0.0
            for kind, one in dense.items():
                mutual = kind == "knn" and weights.knn_symmetry == "mutual"
                both = (min if mutual else max)(one[i][j], one[j][i])
                total += getattr(weights, kind) * both
            if total and here[i] and here[j]:
                row.append((-total, j))
        for total, j in sorted(row)[: weights.degree_cap]:
            kept[i, j] = -total
    return kept


def chances(total):
    sums = total.sum(axis=1, keepdims=True)
    return np.divide(total, sums, out=np.zeros_like(total), where=sums > 0)


def agrees(walk, total):
    assert walk.transitions.toarray() == pytest.approx(chances(total), abs=1e-12)
    sums = total.sum(axis=1)
    assert walk.strengths == pytest.approx(sums / (total.max(initial=0) or 1), abs=1e-12)


PLACES = st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda pair: pair[0] != pair[1])
QUARTERS = st.sampled_from([0.25, 0.5, 0.75, 1.0])
EDGES = st.dictionaries(st.sampled_from(KINDS), st.dictionaries(PLACES, QUARTERS, max_size=12))


@st.composite
def edge_weights(draw):
    counts = {kind: draw(st.sampled_from([0.0, 0.5, 1.0, 2.0])) for kind in KINDS}
    symmetry = draw(st.sampled_from(["mutual", "union"]))
    return EdgeWeights(**counts, knn_symmetry=symmetry, degree_cap=draw(st.integers(1, 6)))


WITHIN = st.none() | st.frozensets(st.sampled_from([f"p{row}" for row in range(9)]))


@given(edges=EDGES, weights=edge_weights(), within=WITHIN)
def test_the_walk_is_the_weighted_sum_of_symmetrised_kinds(edges, weights, within):
    found = graph(6, edges)
    agrees(found.walk(weights, within), total_by_definition(found, weights, within))


def test_the_walk_by_hand():
    found = graph(
        4,
        {
            "mention": {(0, 1): 0.5, (1, 0): 1.0, (0, 2): 1.0},
            "seq": {(0, 1): 1.0, (2, 3): 1.0},
            "knn": {(0, 3): 1.0, (3, 0): 0.5, (1, 3): 1.0},
        },
    )
    weights = replace(NOTHING, mention=1.0, seq=0.5, knn=2.0)
    total = np.array([[0, 1.5, 1, 1], [1.5, 0, 0, 0], [1, 0, 0, 0.5], [1, 0, 0.5, 0]])
    agrees(found.walk(weights), total)
    total[1, 3] = total[3, 1] = 2.0
    total[0, 3] = total[3, 0] = 2.0
    agrees(found.walk(replace(weights, knn_symmetry="union")), total)


def test_the_degree_cap_keeps_the_heaviest_and_of_equal_ones_the_lower():
    edges = {(0, 1): 0.5, (0, 2): 1.0, (0, 3): 0.5, (0, 4): 0.5, (4, 5): 0.25}
    found = graph(6, {"mention": edges})
    walk = found.walk(replace(NOTHING, mention=1.0, degree_cap=2))
    assert [np.flatnonzero(row).tolist() for row in walk.transitions.toarray()] == [
        [1, 2],
        [0],
        [0],
        [0],
        [0, 5],
        [4],
    ]


def test_the_degree_cap_counts_passages_that_exist_only():
    found = graph(4, {"mention": {(0, 1): 1.0, (0, 2): 0.5, (0, 3): 0.25}})
    walk = found.walk(EdgeWeights(mention=1.0, degree_cap=1), frozenset({"p0", "p2", "p3"}))
    assert walk.transitions.toarray()[0].tolist() == [0, 0, 1, 0]


@given(edges=EDGES, weights=edge_weights(), within=WITHIN, seed=st.integers(0, 5))
def test_a_walk_never_leaves_its_component_nor_what_exists(edges, weights, within, seed):
    found = graph(6, edges)
    total = total_by_definition(found, weights, within)
    reached, ahead = {seed}, [seed]
    while ahead:
        new = set(np.flatnonzero(total[ahead.pop()]).tolist()) - reached
        reached |= new
        ahead += new
    ranks = pagerank(found.walk(weights, within), np.eye(6)[seed])
    assert set(np.flatnonzero(ranks).tolist()) == reached
    assert ranks.sum() == pytest.approx(1)


def test_a_graph_without_edges_or_passages_has_a_walk():
    for n in (0, 1, 3):
        for within in (None, frozenset(), frozenset({"p0", "other"})):
            walk = graph(n, {}).walk(EdgeWeights(), within)
            assert walk.transitions.shape == (n, n)
            assert walk.transitions.nnz == 0


def test_rows_that_exist_are_told_by_id():
    found = graph(3, {})
    assert found.allowed(None) is None
    assert found.allowed(frozenset({"p2", "p0", "other"})).tolist() == [True, False, True]
    assert found.allowed(frozenset()).tolist() == [False] * 3


def test_edges_are_counted_as_they_are_directed():
    found = graph(3, {"knn": {(0, 1): 1.0, (1, 0): 1.0}, "mention": {(2, 0): 0.5}, "seq": {}})
    assert found.counts == {"mention": 1, "seq": 0, "knn": 2}
    assert list(found.counts) == ["mention", "seq", "knn"]
    assert len(found) == 3


def test_names_lead_to_rows():
    found = graph(3, {}, {0: ["ada"], 2: ["ada", "engine"]})
    assert found.names.rows("ada").tolist() == [0, 2]
    assert found.names.rows("engine").tolist() == [2]
    assert found.names is found.names


BETWEEN = graph(
    4,
    {
        "knn": {(0, 1): 0.123456789, (1, 0): 0.5},
        "seq": {(0, 1): 1.0, (1, 2): 1.0, (2, 3): 1.0},
        "mention": {(0, 1): 0.25, (2, 0): 1.0, (0, 3): 1.0},
    },
)


def test_edges_between_passages_come_by_source_target_and_kind():
    assert BETWEEN.between(["p0", "p1", "p2"]) == [
        Edge("p0", "p1", "mention", 0.25),
        Edge("p0", "p1", "seq", 1.0),
        Edge("p0", "p1", "knn", 0.123457),
        Edge("p1", "p0", "knn", 0.5),
        Edge("p1", "p2", "seq", 1.0),
        Edge("p2", "p0", "mention", 1.0),
    ]
    assert BETWEEN.between(["p2", "p1", "p0"])[:2] == [
        Edge("p2", "p0", "mention", 1.0),
        Edge("p1", "p2", "seq", 1.0),
    ]


def test_kinds_that_count_nothing_are_left_out():
    found = BETWEEN.between(["p0", "p1"], EdgeWeights(mention=0.0, seq=0.1, knn=0.0))
    assert found == [Edge("p0", "p1", "seq", 1.0)]
    assert len(BETWEEN.between(["p0", "p1"], EdgeWeights.only("knn"))) == 2
    assert BETWEEN.between(["p0", "p1"], NOTHING) == []


def test_unknown_passages_have_no_edges():
    assert BETWEEN.between(["x", "p2", "y", "p3"]) == [Edge("p2", "p3", "seq", 1.0)]
    assert BETWEEN.between(["x"]) == BETWEEN.between([]) == BETWEEN.between(["p1"]) == []
    assert graph(0, {"seq": {}}).between(["p0"]) == []


def test_the_weight_of_an_edge_is_above_0():
    (edge,) = graph(2, {"triple": {(0, 1): 1e-7}}).between(["p0", "p1"])
    assert edge.weight > 0


@given(
    edges=EDGES, ids=st.lists(st.integers(0, 8), unique=True).map(lambda r: [f"p{i}" for i in r])
)
def test_edges_between_passages_are_all_edges_between_them(edges, ids):
    found = [(e.source, e.target, e.kind, e.weight) for e in graph(6, edges).between(ids)]
    assert sorted(found) == sorted(
        (f"p{i}", f"p{j}", kind, weight)
        for kind, one in edges.items()
        for (i, j), weight in one.items()
        if {f"p{i}", f"p{j}"} <= set(ids)
    )
    places = [(ids.index(s), ids.index(t), KINDS.index(kind)) for s, t, kind, _ in found]
    assert places == sorted(places)


def test_a_walk_is_made_once_and_four_are_kept():
    found = graph(3, {"mention": {(0, 1): 1.0}})
    first = found.walk(EdgeWeights())
    assert found.walk(EdgeWeights()) is first
    assert found.walk(EdgeWeights(), None) is first
    others = [frozenset(), frozenset({"p0"}), frozenset({"p0", "p1"})]
    walks = [found.walk(EdgeWeights(), one) for one in others]
    assert found.walk(EdgeWeights()) is first
    assert [found.walk(EdgeWeights(), one) for one in others] == walks
    found.walk(EdgeWeights(degree_cap=1))
    assert found.walk(EdgeWeights(), others[-1]) is walks[-1]
    assert found.walk(EdgeWeights()) is not first


def test_threads_share_one_walk():
    found = graph(3, {"mention": {(0, 1): 1.0}})
    with ThreadPoolExecutor(8) as pool:
        walks = list(pool.map(lambda _: found.walk(EdgeWeights()), range(32)))
    assert {id(walk) for walk in walks} == {id(walks[0])}


def test_a_walk_leaves_the_edges_as_they_were():
    edges = {kind: {(0, 1): 0.5, (1, 2): 0.25} for kind in KINDS}
    found, same = graph(3, edges), graph(3, edges)
    found.walk(EdgeWeights(knn=1.0, degree_cap=1), frozenset({"p0", "p1"}))
    for kind in KINDS:
        assert (found.edges[kind] != same.edges[kind]).nnz == 0


def test_only_some_kinds_may_count():
    default = EdgeWeights()
    one = EdgeWeights.only("seq", "knn")
    assert {kind: one.of(kind) for kind in KINDS if one.of(kind)} == {
        "seq": default.seq,
        "knn": 1.0,
    }
    assert EdgeWeights.only("mention").mention == default.mention
    assert not any(NOTHING.of(kind) for kind in KINDS)
    assert {field.name for field in fields(EdgeWeights)} == {*KINDS, "knn_symmetry", "degree_cap"}


def test_unknown_kinds_are_refused():
    with pytest.raises(
        ValueError, match=r"kinds must be among mention, .*, knn, got link, parents"
    ):
        EdgeWeights.only("seq", "parents", "link")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mention": -0.1}, "mention must be finite and at least 0, got -0.1"),
        ({"knn": float("inf")}, "knn must be finite and at least 0, got inf"),
        ({"parent": float("nan")}, "parent must be finite and at least 0, got nan"),
        ({"knn_symmetry": "both"}, "knn_symmetry must be mutual or union, got 'both'"),
        ({"degree_cap": 0}, "degree_cap must be at least 1, got 0"),
    ],
)
def test_weights_out_of_bounds_are_refused(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        EdgeWeights(**change)

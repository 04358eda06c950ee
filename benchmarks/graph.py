"""Graph search: what a walk, a push and a few hops cost a query, beside networkx in the same run.

The graph is made with a seed: points in a cube, each tied to its nearest points with a weight that
falls with distance, made symmetric, and a few hubs tied to points all over it. Preparing the graph
is timed apart: both sides keep what they prepare. Results are compared after they are timed.

    OMP_NUM_THREADS=1 python benchmarks/graph.py --json
    OMP_NUM_THREADS=1 python benchmarks/graph.py --json --only pagerank --nodes 10000
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import scipy
import scipy.sparse as sp
from measuring import machine, times
from scipy.spatial import cKDTree

from retrievers.graph.forward_push import forward_push
from retrievers.graph.hops import hops
from retrievers.graph.pagerank import Walk, pagerank, pagerank_batch

NEAREST = 12
HUBS = 10
HUB_EDGES_A_NODE = 0.04  # 400 a hub among 10,000 nodes, 4,000 among 100,000
SEEDS_A_QUERY = 10
QUERIES = 50
BATCH = 8
DAMPINGS = (0.5, 0.85)
TOLERANCE = 1e-6
NETWORKX_QUERIES = 10  # it takes seconds a query on a large graph
TOP = 50


def made_graph(nodes: int, seed: int) -> Any:
    """Return symmetric weights in (0, 1], a CSR array (nodes, nodes)."""
    rng = np.random.default_rng(seed)
    points = rng.random((nodes, 3))
    distances, near = cKDTree(points).query(points, NEAREST + 1)
    rows = np.repeat(np.arange(nodes), NEAREST)
    weights = np.exp(-distances[:, 1:] / distances[:, 1:].mean()).ravel()
    hub_edges = int(nodes * HUB_EDGES_A_NODE)
    hubs = np.repeat(rng.choice(nodes, HUBS, replace=False), hub_edges)
    others = rng.integers(0, nodes, len(hubs))
    drawn = rng.uniform(0.3, 1, len(hubs))
    apart = hubs != others
    edges = (
        np.concatenate([weights, drawn[apart]]),
        (
            np.concatenate([rows, hubs[apart]]),
            np.concatenate([near[:, 1:].ravel(), others[apart]]),
        ),
    )
    one_way = sp.coo_array(edges, shape=(nodes, nodes)).tocsr()
    one_way.data = np.minimum(one_way.data, 1)
    return one_way.maximum(one_way.T).tocsr()


def made_queries(nodes: int, seed: int) -> np.ndarray:
    """Return weights of seeds, one query a column, (nodes, QUERIES); seeds lie anywhere."""
    rng = np.random.default_rng(seed + 1)
    queries = np.zeros((QUERIES, nodes))
    for query in queries:
        query[rng.choice(nodes, SEEDS_A_QUERY, replace=False)] = rng.uniform(0.1, 1, SEEDS_A_QUERY)
    return queries.T


def shape(weights: Any) -> dict[str, Any]:
    """Return what a record says of the graph and the queries."""
    return {
        "nodes": weights.shape[0],
        "stored_edges": int(weights.nnz),
        "most_edges_a_node": int(np.diff(weights.indptr).max()),
        "seeds_a_query": SEEDS_A_QUERY,
        "queries": QUERIES,
    }


def pagerank_section(nodes: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the cost of PageRank: one query, a batch, networkx, and how far they are apart."""
    weights, queries = made_graph(nodes, seed), made_queries(nodes, seed)
    columns = [np.ascontiguousarray(query) for query in queries.T]
    batches = [queries[:, first : first + BATCH] for first in range(0, QUERIES, BATCH)][:-1]
    prepare = times([partial(Walk.over, weights)] * 5, warm=True)["median_ms"]
    walk = Walk.over(weights)
    walk_mb = sum(
        part.nbytes
        for part in (
            walk.transitions.data,
            walk.transitions.indices,
            walk.transitions.indptr,
            walk.dangling,
            walk.strengths,
        )
    )
    common = {**shape(weights), "tolerance": TOLERANCE}
    for damping in DAMPINGS:
        options: dict[str, Any] = {"damping": damping, "tolerance": TOLERANCE}
        ours = times([partial(pagerank, walk, query, **options) for query in columns], warm=True)
        exact = pagerank_batch(walk, queries[:, :BATCH], damping=damping, tolerance=1e-13)
        found = np.stack([pagerank(walk, query, **options) for query in columns[:BATCH]], axis=1)
        yield {
            "engine": f"pagerank(damping={damping}, tolerance={TOLERANCE})",
            **common,
            **ours,
            "prepare_ms": round(prepare, 2),
            "walk_mb": round(walk_mb / 1e6, 2),
            "largest_difference_to_tolerance_1e-13": float(np.abs(found - exact).max()),
        }
        work = [partial(pagerank_batch, walk, batch, **options) for batch in batches]
        yield {
            "engine": f"pagerank_batch of {BATCH}(damping={damping}), a query",
            **common,
            **times(work, BATCH, warm=True),
        }
        yield {**common, **by_networkx(walk, weights, columns, damping, ours["median_ms"])}


def by_networkx(
    walk: Walk, weights: Any, columns: Sequence[np.ndarray], damping: float, ours_ms: float
) -> dict[str, Any]:
    """Return the cost of networkx on the same graph, built beforehand, and its ratio to ours.

    networkx stops at an L1 change below `n * tol`, so its tol is ours divided by n.
    """
    import networkx as nx

    built = nx.from_scipy_sparse_array(weights)
    nodes = len(walk)

    def asked(query: np.ndarray, tolerance: float) -> dict[int, float]:
        restart = {int(row): float(query[row]) for row in np.flatnonzero(query)}
        found: dict[int, float] = nx.pagerank(
            built, damping, personalization=restart, tol=tolerance / nodes, max_iter=1000
        )
        return found

    some = columns[:NETWORKX_QUERIES]
    taken = times([partial(asked, query, TOLERANCE) for query in some], warm=True)
    apart = {}
    for name, tolerance in (("at_this_tolerance", TOLERANCE), ("at_tolerance_1e-12", 1e-12)):
        worst = 0.0
        for query in some[:3]:
            theirs = asked(query, tolerance)
            mine = pagerank(walk, query, damping=damping, tolerance=tolerance)
            worst = max(worst, float(np.abs(mine - [theirs[row] for row in range(nodes)]).max()))
        apart[f"largest_difference_to_ours_{name}"] = worst
    return {
        "engine": f"networkx {nx.__version__} pagerank(damping={damping})",
        "networkx_queries": len(some),
        **taken,
        "ratio_to_ours": round(taken["median_ms"] / ours_ms, 1),
        **apart,
    }


def push_section(nodes: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the cost of forward push, its error, and how many of the best rows it finds."""
    weights, queries = made_graph(nodes, seed), made_queries(nodes, seed)
    walk, columns = Walk.over(weights), [np.ascontiguousarray(query) for query in queries.T]
    some = columns[:BATCH]
    for damping in DAMPINGS:
        usual = times(
            [partial(pagerank, walk, query, damping=damping) for query in columns[:20]], warm=True
        )
        exact = pagerank_batch(walk, queries[:, :BATCH], damping=damping, tolerance=1e-12)
        for epsilon in (1e-4, 1e-5, 1e-6):
            options: dict[str, Any] = {"damping": damping, "epsilon": epsilon}
            taken = times(
                [partial(forward_push, walk, query, **options) for query in columns], warm=True
            )
            pushed = [forward_push(walk, query, **options) for query in some]
            shares = [
                len(
                    set(found.rows[np.argsort(-found.scores, kind="stable")[:TOP]])
                    & set(np.argsort(-exact[:, j], kind="stable")[:TOP])
                )
                / TOP
                for j, found in enumerate(pushed)
            ]
            yield {
                "engine": f"forward_push(damping={damping}, epsilon={epsilon})",
                **shape(weights),
                **taken,
                "pagerank_median_ms": usual["median_ms"],
                "rows_found": round(statistics.fmean(len(found.rows) for found in pushed)),
                "l1_error": round(statistics.fmean(found.left for found in pushed), 5),
                f"share_of_top_{TOP}": round(statistics.fmean(shares), 4),
            }


def hops_section(nodes: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the cost of a few hops."""
    weights, queries = made_graph(nodes, seed), made_queries(nodes, seed)
    walk, columns = Walk.over(weights), [np.ascontiguousarray(query) for query in queries.T]
    for steps in (1, 2, 3):
        taken = times([partial(hops, walk, query, steps=steps) for query in columns], warm=True)
        reached = statistics.fmean(len(hops(walk, query, steps=steps)[0]) for query in columns)
        yield {
            "engine": f"hops(steps={steps})",
            **shape(weights),
            **taken,
            "rows_found": round(reached),
        }


SECTIONS: dict[str, Callable[[int, int], Iterator[dict[str, Any]]]] = {
    "pagerank": pagerank_section,
    "push": push_section,
    "hops": hops_section,
}


def main() -> None:
    """Measure and print one JSON record a setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--nodes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="the only form there is")
    args = parser.parse_args()
    about = {
        **machine(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "seed": args.seed,
    }
    chosen = args.only.split(",")
    for name in chosen:
        if name not in SECTIONS:
            parser.error(f"--only takes {', '.join(SECTIONS)}, got {name!r}")
    for name in chosen:
        for nodes in args.nodes:
            for record in SECTIONS[name](nodes, args.seed):
                print(json.dumps({"section": name, **record, **about}), flush=True)


if __name__ == "__main__":
    main()

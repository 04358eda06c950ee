"""Edges `knn`: from a passage to those with the nearest vectors."""

import numpy as np

from retrievers.cosines import unit
from retrievers.graph.edges.edge_list import EdgeList

_BLOCK = 4_000_000  # similarities that are held at once
_PAIRS = 20_000  # exact cosines that are computed at once
_TRUST = 1e-5  # more than single precision can be wrong by; what is that near is looked at exactly


def nearest_edges(
    vectors: np.ndarray,
    k: int,
    floor: float,
    rows: np.ndarray | None = None,
    among: np.ndarray | None = None,
) -> EdgeList:
    """Return edges from rows to the k others with the largest cosine, which is their weight.

    Cosines are taken in float64, rounded to float32, and ties go to the lower row, so that the
    edges do not depend on what else is asked for in the same call. A vector of length 0 has none.

    Args:
        vectors: of all rows, (n, dim), any norms.
        k: edges from a row, at least 1; fewer where fewer reach the floor.
        floor: the least cosine of an edge, above 0.
        rows: where edges start, int64; all by default.
        among: where edges may end, ascending int64; all by default.
    """
    starts = np.arange(len(vectors)) if rows is None else rows
    ends = np.arange(len(vectors)) if among is None else among
    units = unit(vectors).astype(np.float32)
    candidates = units[ends]
    found = [EdgeList.of(())]
    size = max(1, _BLOCK // max(1, len(ends)))
    for first in range(0, len(starts), size):
        block = starts[first : first + size]
        similar = units[block] @ candidates.T
        similar[block[:, None] == ends[None, :]] = -1.0
        if not len(ends):
            break
        place = max(0, len(ends) - k)
        least = np.partition(similar, place, axis=1)[:, place]
        rows_of, columns = np.nonzero(similar >= np.maximum(least, floor)[:, None] - _TRUST)
        found.append(_best(vectors, block[rows_of], ends[columns], k, floor))
    return EdgeList.joined(found)


def kept_nearest(edges: EdgeList, k: int) -> EdgeList:
    """Return the k heaviest edges that leave each row, ties to the lower target."""
    order = np.lexsort((edges.targets, -edges.weights, edges.sources))
    sources = edges.sources[order]
    rank = np.arange(len(order)) - np.searchsorted(sources, sources)
    kept = order[rank < k]
    return EdgeList(edges.sources[kept], edges.targets[kept], edges.weights[kept])


def _best(
    vectors: np.ndarray, sources: np.ndarray, targets: np.ndarray, k: int, floor: float
) -> EdgeList:
    """Return the k best edges of each row among some pairs, by their exact cosines."""
    exact = np.zeros(len(sources))
    for first in range(0, len(sources), _PAIRS):
        pairs = slice(first, first + _PAIRS)
        left = vectors[sources[pairs]].astype(np.float64)
        right = vectors[targets[pairs]].astype(np.float64)
        squares = np.einsum("nd,nd->n", left, left) * np.einsum("nd,nd->n", right, right)
        products = np.einsum("nd,nd->n", left, right)
        np.divide(products, np.sqrt(squares), out=exact[pairs], where=squares > 0)
    weights = np.minimum(exact, 1.0).astype(np.float32).astype(np.float64)
    worth = (weights >= floor) & (sources != targets)
    return kept_nearest(EdgeList(sources[worth], targets[worth], weights[worth]), k)

"""Edges `knn`: from a passage to those with the nearest vectors."""

import numpy as np

from retrievers.graph.edges.edge_list import EdgeList

_BLOCK = 4_000_000  # similarities that are held at once
_SPARE = 8  # candidates beyond k, so that single precision cannot decide who is among the k
_DIGITS = 5  # to which single precision is trusted in choosing candidates


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
    unit = _unit(vectors)
    candidates = unit[ends]
    found = [EdgeList.of(())]
    size = max(1, _BLOCK // max(1, len(ends)))
    for first in range(0, len(starts), size):
        block = starts[first : first + size]
        similar = unit[block] @ candidates.T
        similar[block[:, None] == ends[None, :]] = -1.0
        taken = min(k + _SPARE, len(ends))
        if not taken:
            break
        columns = _candidates(np.round(similar, _DIGITS), taken)
        found.append(_best(vectors, block, ends[columns], k, floor))
    return EdgeList.joined(found)


def _candidates(similar: np.ndarray, count: int) -> np.ndarray:
    """Return the columns of the largest entries of each row, (rows, count); ties to the lower."""
    least = np.partition(similar, similar.shape[1] - count, axis=1)[:, -count]
    found = np.empty((len(similar), count), np.int64)
    for row, (values, last) in enumerate(zip(similar, least, strict=True)):
        above = np.flatnonzero(values > last)
        found[row, : len(above)] = above
        found[row, len(above) :] = np.flatnonzero(values == last)[: count - len(above)]
    return found


def kept_nearest(edges: EdgeList, k: int) -> EdgeList:
    """Return the k heaviest edges that leave each row, ties to the lower target."""
    order = np.lexsort((edges.targets, -edges.weights, edges.sources))
    sources = edges.sources[order]
    rank = np.arange(len(order)) - np.searchsorted(sources, sources)
    kept = order[rank < k]
    return EdgeList(edges.sources[kept], edges.targets[kept], edges.weights[kept])


def _best(
    vectors: np.ndarray, block: np.ndarray, candidates: np.ndarray, k: int, floor: float
) -> EdgeList:
    """Return the edges of a block of rows, by exact cosines of their candidates (rows, m)."""
    sources = np.repeat(block, candidates.shape[1])
    targets = candidates.ravel()
    left, right = vectors[sources].astype(np.float64), vectors[targets].astype(np.float64)
    lengths = np.sqrt(np.einsum("nd,nd->n", left, left) * np.einsum("nd,nd->n", right, right))
    products = np.einsum("nd,nd->n", left, right)
    exact = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    weights = np.minimum(exact, 1.0).astype(np.float32).astype(np.float64)
    worth = (weights >= floor) & (sources != targets)
    return kept_nearest(EdgeList(sources[worth], targets[worth], weights[worth]), k)


def _unit(vectors: np.ndarray) -> np.ndarray:
    found = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    unit: np.ndarray = np.divide(found, norms, out=np.zeros_like(found), where=norms > 0)
    return unit

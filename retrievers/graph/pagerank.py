"""Personalised PageRank: where a walk that keeps going back to its seeds is found."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy.sparse as sp

# Columns stepped together: more of them no longer fit the processor's cache.
_TOGETHER = 8


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """A random walk on a weighted graph, prepared once for many queries; nothing changes it.

    Held is one sparse matrix, float64, with int32 indices below 2**31 edges: 12 bytes an edge.
    `arriving` is the same memory read the other way.

    Attributes:
        transitions: the row-stochastic P, CSR, (n, n), columns ascending: `P[u, v]` is the chance
            of a step from u to v. Rows without an edge are empty.
        arriving: P transposed, CSC, (n, n), sharing the arrays of `transitions`.
        dangling: the rows without an edge, ascending, int64.
        strengths: sum of the weights that leave each row, in units of the heaviest weight of the
            graph; float64, (n,).
    """

    transitions: Any
    arriving: Any
    dangling: np.ndarray
    strengths: np.ndarray

    @classmethod
    def over(cls, weights: Any) -> Self:
        """Prepare the walk whose step from u takes the edge to v in proportion to its weight.

        Args:
            weights: scipy sparse matrix or array (n, n), in CSR or what turns into it; `[u, v]` is
                the edge from u to v. Symmetric or not, finite, at least 0, left as it was; a
                stored 0 is no edge, and places stored twice are added up.

        Raises:
            ValueError: if weights is not square, or one of them is negative or not finite.
        """
        if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
            raise ValueError(f"weights must be of shape (n, n), got {weights.shape}")
        edges = sp.csr_array(weights, dtype=np.float64, copy=True)
        edges.sum_duplicates()
        least, most = (edges.data.min(), edges.data.max()) if edges.nnz else (0.0, 0.0)
        if not (least >= 0 and most < math.inf):
            wrong = edges.data[~((edges.data >= 0) & (edges.data < math.inf))][0]
            raise ValueError(f"weights must be finite and at least 0, got {wrong}")
        edges.eliminate_zeros()
        n, degrees = edges.shape[0], np.diff(edges.indptr)
        going = np.flatnonzero(degrees)
        strengths = np.zeros(n)
        if len(going):
            # Divided by the row's heaviest first, a sum can neither overflow nor vanish.
            starts = edges.indptr[going]
            heaviest = np.maximum.reduceat(edges.data, starts)
            edges.data /= np.repeat(heaviest, degrees[going])
            sums = np.add.reduceat(edges.data, starts)
            edges.data /= np.repeat(sums, degrees[going])
            strengths[going] = sums * (heaviest / heaviest.max())
        index = np.int32 if max(edges.nnz, n) < 2**31 else np.int64
        parts = (
            edges.data,
            edges.indices.astype(index, copy=False),
            edges.indptr.astype(index, copy=False),
        )
        return cls(
            transitions=sp.csr_array(parts, shape=(n, n)),
            arriving=sp.csc_array(parts, shape=(n, n)),
            dangling=np.flatnonzero(degrees == 0),
            strengths=strengths,
        )

    def __len__(self) -> int:
        return len(self.strengths)

    def degrees(self, rows: np.ndarray) -> np.ndarray:
        """Return how many edges leave each of `rows`, int, shape (m,)."""
        starts = self.transitions.indptr
        found: np.ndarray = starts[rows + 1] - starts[rows]
        return found

    def edges(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the edges that leave some rows: places in `rows`, targets, chances; (e,) each.

        Args:
            rows: int, shape (m,); the edges come in their order, targets ascending in each.
        """
        counts = self.degrees(rows)
        places = np.repeat(np.arange(len(rows)), counts)
        before = np.cumsum(counts) - counts
        stored = np.arange(len(places)) + (self.transitions.indptr[rows] - before)[places]
        return places, self.transitions.indices[stored], self.transitions.data[stored]


def pagerank(
    walk: Walk,
    restart: np.ndarray,
    *,
    damping: float = 0.5,
    tolerance: float = 1e-6,
    max_steps: int = 2000,
) -> np.ndarray:
    """Return the personalised PageRank of every row: float64, (n,), at least 0, of sum 1.

    It solves `x = (1 - a) * p + a * (P^T x + dangling * p)`, with a the damping, p the restart and
    `dangling` the mass of x on rows without an edge, by repeating that step from `x = p`. A row
    that no seed reaches has exactly 0. Source: Haveliwala 2002, doi:10.1145/511446.511513; damping
    and dangling mass are as in networkx. The error in L1 is at most `a / (1 - a) * tolerance`.

    Args:
        walk: the graph, of n rows.
        restart: share of each row in the seeds, (n,), finite, at least 0, not all 0; any sum.
        damping: chance a, in [0, 1), of going on instead of back to a seed. 0 gives p. 0.5 keeps
            the mass near the seeds, as HippoRAG does; the web's usual value is 0.85.
        tolerance: the L1 change of a step to stop below, above 0.
        max_steps: most steps, at least 1. The change after k steps is at most `2 * a**k`, so the
            default serves up to a damping of 0.99.

    Raises:
        ValueError: if an argument is not as said.
        RuntimeError: if the steps end before the change is below the tolerance.
    """
    _check_steps(damping, tolerance, max_steps)
    p = distribution("restart", restart, len(walk))
    return _settled(walk, p[:, None], damping, tolerance, max_steps)[:, 0]


def pagerank_batch(
    walk: Walk,
    restarts: np.ndarray,
    *,
    damping: float = 0.5,
    tolerance: float = 1e-6,
    max_steps: int = 2000,
) -> np.ndarray:
    """Return the personalised PageRank of several queries at once: float64, (n, q).

    Column j is `pagerank` of `restarts[:, j]` up to rounding: each stops at its own step.

    Args:
        walk: the graph, of n rows.
        restarts: one column a query, (n, q), each as `restart` there; q may be 0.
        damping: as in `pagerank`.
        tolerance: as in `pagerank`, of each column.
        max_steps: as in `pagerank`.

    Raises:
        ValueError: if an argument is not as said.
        RuntimeError: if the steps end before all columns have settled.
    """
    _check_steps(damping, tolerance, max_steps)
    if restarts.ndim != 2 or len(restarts) != len(walk):
        raise ValueError(f"restarts must be of shape ({len(walk)}, q), got {restarts.shape}")
    p: np.ndarray = np.empty(restarts.shape)
    for j, column in enumerate(restarts.T):
        p[:, j] = distribution("restarts", column, len(walk))
    found = np.empty_like(p)
    for first in range(0, p.shape[1], _TOGETHER):
        block = slice(first, first + _TOGETHER)
        columns = np.ascontiguousarray(p[:, block])
        found[:, block] = _settled(walk, columns, damping, tolerance, max_steps)
    return found


def _settled(
    walk: Walk, p: np.ndarray, damping: float, tolerance: float, max_steps: int
) -> np.ndarray:
    x, home, done = p, (1 - damping) * p, np.empty_like(p)
    gaps, ones = np.empty_like(p), np.ones(len(p))
    unsettled, change = np.ones(p.shape[1], bool), np.zeros(p.shape[1])
    for _ in range(max_steps):
        if not unsettled.any():
            break
        following = walk.arriving @ x  # (n, q)
        following *= damping
        following += home
        if len(walk.dangling):
            following += p * (damping * x[walk.dangling].sum(axis=0))
        np.abs(np.subtract(following, x, out=gaps), out=gaps)
        change = ones @ gaps  # (q,); .sum(axis=0) of a thin array is 10 times slower
        x = following
        # The others go on: to cut them out would cost a copy of all for each that settles.
        settling = unsettled & (change < tolerance)
        done[:, settling] = x[:, settling]
        unsettled &= ~settling
    if unsettled.any():
        raise RuntimeError(
            f"pagerank must change by less than tolerance={tolerance} within "
            f"max_steps={max_steps}, got a change of {change[unsettled].max()}"
        )
    return done


def distribution(name: str, seeds: np.ndarray, n: int) -> np.ndarray:
    """Return the weights of seeds divided by their sum: float64, (n,), a new array.

    Args:
        name: what to call the seeds in a message.
        seeds: one weight a row, as `check_seeds` asks.
        n: rows of the graph.

    Raises:
        ValueError: as from `check_seeds`.
    """
    check_seeds(name, seeds, n)
    shares = np.array(seeds, np.float64)
    shares /= shares.max()  # a sum of the largest numbers could overflow
    shares /= shares.sum()
    return shares


def check_seeds(name: str, values: np.ndarray, n: int) -> None:
    """Check the weights of seeds, one a row.

    Raises:
        ValueError: if values is not of shape (n,), or is negative, not finite or all 0 somewhere.
    """
    if values.shape != (n,):
        raise ValueError(f"{name} must be of shape ({n},), got {values.shape}")
    wrong = values[~((values >= 0) & (values < math.inf))]
    if len(wrong):
        raise ValueError(f"{name} must be finite and at least 0, got {wrong[0]}")
    if not values.any():
        raise ValueError(f"{name} must have a value above 0, got {n} zeros")


def check_damping(damping: float) -> None:
    """Check the chance of going on.

    Raises:
        ValueError: if it is not in [0, 1).
    """
    if not 0 <= damping < 1:
        raise ValueError(f"damping must be in [0, 1), got {damping}")


def _check_steps(damping: float, tolerance: float, max_steps: int) -> None:
    check_damping(damping)
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be finite and above 0, got {tolerance}")
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")

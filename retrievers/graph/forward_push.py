"""Forward push: approximate personalised PageRank that touches only what lies near the seeds."""

import math
from typing import NamedTuple

import numpy as np

from retrievers.graph.pagerank import Walk, check_damping, distribution

# An edge gathered by index costs about this many edges of a product with the whole matrix.
_GATHERING = 10


class Pushed(NamedTuple):
    """Scores that forward push found.

    Attributes:
        rows: the rows with a score, ascending, int64, (m,).
        scores: their scores, above 0, float64, (m,); never above the exact ones.
        left: the mass not yet given to any row. The scores and it have the sum 1, and it is the
            L1 error of the scores, counting the rows that were not found.
    """

    rows: np.ndarray
    scores: np.ndarray
    left: float


def forward_push(
    walk: Walk, restart: np.ndarray, *, damping: float = 0.5, epsilon: float = 1e-6
) -> Pushed:
    """Return a lower bound of `pagerank`, close where the residual was worth pushing.

    All mass starts as residual r on the restart p. To push a row keeps `1 - a` of its residual as
    score and sends `a` of it along its edges, or back to p if it has none. Every row whose residual
    is above `epsilon * d`, with d the edges that leave it, at least 1, is pushed, all at once,
    until no such row is left. Then:

    - `score <= pagerank` for every row, and the L1 error is exactly `sum(r)`, hence at most
      `epsilon * sum(d)` over the rows reached;
    - on a symmetric graph of equal weights whose seeds all have edges, the error of a row is at
      most `epsilon * d` of that row.

    All pushes together read at most `1 / (epsilon * (1 - a))` edges, however large the graph; some
    arrays of n numbers are filled beside them. Source: Andersen, Chung and Lang 2006,
    doi:10.1109/FOCS.2006.44. There the walk is lazy, the graph unweighted and undirected, one row
    pushed at a time; d counts edges here too, so that scaling all weights changes nothing.

    Args:
        walk: the graph, of n rows.
        restart: share of each row in the seeds, (n,), finite, at least 0, not all 0; any sum.
        damping: chance a, in [0, 1), of going on, as in `pagerank`.
        epsilon: residual to leave for each edge of a row, above 0.

    Raises:
        ValueError: if an argument is not as said.
    """
    check_damping(damping)
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be finite and above 0, got {epsilon}")
    p = distribution("restart", restart, len(walk))
    scores, residual, turns = np.zeros(len(walk)), p.copy(), np.empty(len(walk), np.int64)
    seeds = np.flatnonzero(p)
    active = _above(residual, seeds, walk, epsilon)
    while len(active):
        mass = residual[active]
        residual[active] = 0
        scores[active] += (1 - damping) * mass
        mass *= damping
        degrees = walk.degrees(active)
        if degrees.sum() * _GATHERING > walk.transitions.nnz:
            sent = np.zeros(len(walk))
            sent[active] = mass
            residual += walk.arriving @ sent
            touched = np.flatnonzero(residual)
        else:
            places, targets, chances = walk.edges(active)
            np.add.at(residual, targets, mass[places] * chances)
            turns[targets] = np.arange(len(targets))
            touched = targets[turns[targets] == np.arange(len(targets))]  # each target once
        back = mass[degrees == 0].sum()
        if back:
            residual[seeds] += back * p[seeds]
            touched = np.union1d(touched, seeds)
        active = _above(residual, touched, walk, epsilon)
    rows = np.flatnonzero(scores)
    return Pushed(rows, scores[rows], float(residual.sum()))


def _above(residual: np.ndarray, rows: np.ndarray, walk: Walk, epsilon: float) -> np.ndarray:
    """Return those of `rows` whose residual is worth a push."""
    worth: np.ndarray = rows[residual[rows] > epsilon * np.maximum(walk.degrees(rows), 1)]
    return worth

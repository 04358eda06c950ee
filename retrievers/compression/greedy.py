"""Greedy choice: four ways to find, step by step, the candidate worth most."""

import math
from heapq import heapify, heappop, heapreplace
from typing import Protocol

import numpy as np

_BLOCK = 8  # candidates that block greedy looks at again first; more in the same step


class Candidates(Protocol):
    """What a greedy choice is made from."""

    @property
    def open(self) -> np.ndarray:
        """Which rows may still be taken, bool (n,)."""

    def worth(self, rows: np.ndarray) -> np.ndarray:
        """Return what each row is worth now, float64 (m,)."""

    def take(self, row: int) -> None:
        """Take a row and close it, and any other that may no longer be taken."""


def plain(candidates: Candidates, picks: int) -> None:
    """Take at most `picks` rows, each the one worth most; ties go to the lower row.

    Stops early where none is open or the most is negative. Right for any objective. Each step asks
    for the worth of all rows.
    """
    rows = np.arange(len(candidates.open))
    for _ in range(picks):
        if not candidates.open.any():
            return
        worth = np.where(candidates.open, candidates.worth(rows), -np.inf)
        best = int(worth.argmax())
        if worth[best] < 0.0:
            return
        candidates.take(best)


def lazy(candidates: Candidates, picks: int) -> None:
    """Take what `plain` takes, where the worth of a row never rises as others are taken.

    An old worth is then an upper bound, so rows wait in a heap and only the top is looked at again.
    Source: Minoux 1978, doi:10.1007/BFb0006528.
    """
    rows = np.flatnonzero(candidates.open)
    worths = candidates.worth(rows).tolist()
    heap = [(-worth, row) for worth, row in zip(worths, rows.tolist(), strict=True)]
    heapify(heap)
    fresh = dict.fromkeys(rows.tolist(), 0)
    step = 0
    while heap and step < picks:
        bound, row = heap[0]
        if not candidates.open[row]:
            heappop(heap)
        elif fresh[row] < step:
            fresh[row] = step
            heapreplace(heap, (-float(candidates.worth(np.array([row]))[0]), row))
        elif bound > 0.0:
            return
        else:
            heappop(heap)
            candidates.take(row)
            step += 1


def block(candidates: Candidates, picks: int) -> None:
    """Take what `plain` takes, where the worth of a row never rises as others are taken.

    As `lazy`, but the most promising rows are looked at again together, in one array operation;
    within a step each such block is twice as large as the one before.
    """
    bounds = candidates.worth(np.arange(len(candidates.open)))
    fresh = candidates.open.copy()
    size, taken = _BLOCK, 0
    while taken < picks and candidates.open.any():
        bounds[~candidates.open] = -np.inf
        best = int(bounds.argmax())
        if not fresh[best]:
            rows = _most_promising(bounds, candidates.open & ~fresh, size)
            bounds[rows] = candidates.worth(rows)
            fresh[rows] = True
            size *= 2
        elif bounds[best] < 0.0:
            return
        else:
            candidates.take(best)
            fresh[:] = False
            size, taken = _BLOCK, taken + 1


def stochastic(
    candidates: Candidates, picks: int, rng: np.random.Generator, epsilon: float
) -> None:
    """Take at most `picks` rows, each the one worth most of a random sample of the open ones.

    The sample has ceil(n / picks * ln(1 / epsilon)) rows, n being those open at first, so the whole
    choice looks at about n * ln(1 / epsilon) rows, however many it takes. Where all of a sample
    would lower the objective, all open rows are looked at, and the choice ends only if none of them
    helps. Source: Mirzasoleiman et al. 2015, arXiv:1409.7938.

    Args:
        candidates: to choose from.
        picks: most rows to take.
        rng: draws the samples.
        epsilon: in (0, 1); the lower, the larger the samples.
    """
    count = int(candidates.open.sum())
    size = math.ceil(count / max(1, picks) * math.log(1.0 / epsilon))
    for _ in range(picks):
        rows = np.flatnonzero(candidates.open)
        if not len(rows):
            return
        sample = rows
        if size < len(rows):
            sample = np.sort(rng.choice(rows, size, replace=False, shuffle=False))
        worth = candidates.worth(sample)
        if worth.max() < 0.0:
            sample, worth = rows, candidates.worth(rows)
        best = int(worth.argmax())
        if worth[best] < 0.0:
            return
        candidates.take(int(sample[best]))


def _most_promising(bounds: np.ndarray, stale: np.ndarray, size: int) -> np.ndarray:
    """Return at most `size` stale rows with the largest bounds, and among equals any of them."""
    rows = np.flatnonzero(stale)
    if len(rows) <= size:
        return rows
    return rows[np.argpartition(-bounds[rows], size - 1)[:size]]

"""Coverage: how well a set of passages stands for a whole pool; facility location."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from retrievers.cosines import products, unit

_CELLS = 32_768  # of one block of sums: 256 KiB, so that its passes stay in the cache


class Coverage:
    """C(S) = sum over v of w_v * max over u in S of max(0, cos(u, v)).

    Equal vectors are found first and share one row and one column of the similarity, so their gains
    are the same bit for bit; a matrix product alone would not see to that. A vector's similarity to
    itself is exactly 1, so a copy of what was taken adds exactly 0. A vector of length 0 covers
    nothing, is covered by nothing, and counts for nothing in `whole`.

    Gains are sums of max(0, w_v s(u, v) - covered_v) in a fixed order. Each operation in them is
    monotone in floating point, rounding included, so a gain, once computed, is an upper bound of
    every later one exactly, as lazy greedy needs.

    `take` and `reset` change what counts as taken and nothing else. The similarity of all pairs,
    8 n^2 bytes at most, is computed when gains are first asked for.

    Attributes:
        whole: C of the whole pool, the most that any set can cover.
    """

    def __init__(self, vectors: np.ndarray, weights: np.ndarray) -> None:
        """Find equal vectors.

        Args:
            vectors: (n, dim), finite, any norms.
            weights: w, (n,), finite and at least 0.
        """
        self._place, firsts = _places(vectors)  # (n,), (d,)
        self._unit = unit(vectors[firsts])  # (d, dim)
        alive: np.ndarray = np.any(self._unit != 0.0, axis=1)  # (d,)
        self._alive = alive
        self._weights = np.bincount(self._place, weights, minlength=len(firsts)) * alive  # (d,)
        self.whole = float(self._weights.sum())
        self._covered = np.zeros(len(firsts))  # (d,), what is covered of each weight
        self._buffer = np.empty((max(1, _CELLS // max(1, len(firsts))), len(firsts)))

    @cached_property
    def _cells(self) -> np.ndarray:
        """Weighted similarity, (d, d): row u, column v is w_v * s(u, v)."""
        cosines: np.ndarray = self._unit @ self._unit.T
        np.fill_diagonal(cosines, self._alive)
        np.clip(cosines, 0.0, 1.0, out=cosines)
        cosines *= self._weights
        return cosines

    def value(self, rows: Sequence[int]) -> float:
        """Return C of a set, read literally, whatever was taken.

        It computes the similarities of `rows` alone, unless those of all pairs are there.
        """
        places = np.unique(self._place[np.asarray(rows, np.intp)])
        if "_cells" in vars(self):
            return float(self._cells[places].max(axis=0, initial=0.0).sum())
        covered = np.zeros(len(self._weights))
        for place in places:
            cosines = products(self._unit, self._unit[place])
            cosines[place] = self._alive[place]
            np.maximum(covered, np.minimum(cosines, 1.0) * self._weights, out=covered)
        return float(covered.sum())

    def gains(self, rows: np.ndarray) -> np.ndarray:
        """Return what each row would add to C, float64 (m,), at least 0."""
        places = self._place[rows]
        if len(places) >= len(self._cells):
            gains: np.ndarray = self._sums(None)[places]
            return gains
        return self._sums(places)

    def take(self, row: int) -> None:
        """Count a row as taken."""
        np.maximum(self._covered, self._cells[self._place[row]], out=self._covered)

    def reset(self) -> None:
        """Count nothing as taken."""
        self._covered[:] = 0.0

    def _sums(self, places: np.ndarray | None) -> np.ndarray:
        """Return the gains of distinct vectors: those at `places`, or of all."""
        count = len(self._cells) if places is None else len(places)
        if places is None and not self._covered.any():
            every: np.ndarray = self._cells.sum(axis=1)  # nothing is covered, no cell is below 0
            return every
        gains = np.empty(count)
        for start in range(0, count, len(self._buffer)):
            end = min(count, start + len(self._buffer))
            block = self._buffer[: end - start]
            cells = self._cells[start:end] if places is None else self._cells[places[start:end]]
            np.subtract(cells, self._covered, out=block)
            np.maximum(block, 0.0, out=block)
            block.sum(axis=1, out=gains[start:end])
        return gains


def _places(vectors: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Return the number of each vector among the distinct ones, (n,), and where each comes first.

    Zeros of either sign are equal.
    """
    of_bytes: dict[bytes, int] = {}
    firsts: list[int] = []
    places = np.empty(len(vectors), np.intp)
    for row, vector in enumerate(np.ascontiguousarray(vectors + 0.0)):
        place = of_bytes.setdefault(vector.tobytes(), len(firsts))
        if place == len(firsts):
            firsts.append(row)
        places[row] = place
    return places, firsts

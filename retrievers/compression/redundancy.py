"""Redundancy: minus the similarity between the passages of a set, pair by pair."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from retrievers.cosines import products


class Redundancy:
    """Div(S) = minus the sum over pairs u, t of S of max(0, cos(u, t)).

    Submodular and not monotone: a passage may lower the objective. A step costs n * dim.
    """

    def __init__(self, unit: np.ndarray) -> None:
        """Start with nothing taken.

        Args:
            unit: vectors of length 1 or 0, float64 (n, dim).
        """
        self._unit = unit
        self._near = np.zeros(len(unit))  # (n,), similarity to all that was taken

    def value(self, rows: Sequence[int]) -> float:
        """Return Div of a set, read literally, whatever was taken."""
        pairs = combinations(self._unit[np.asarray(rows, np.intp)], 2)
        return -float(sum(max(0.0, float(one @ other)) for one, other in pairs))

    def gains(self, rows: np.ndarray) -> np.ndarray:
        """Return what each row would add to Div, float64 (m,), at most 0."""
        gains: np.ndarray = -self._near[rows]
        return gains

    def take(self, row: int) -> None:
        """Count a row as taken."""
        self._near += np.maximum(0.0, products(self._unit, self._unit[row]))

    def reset(self) -> None:
        """Count nothing as taken."""
        self._near[:] = 0.0

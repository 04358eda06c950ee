"""Dispersion: the distances between the passages of a set, pair by pair."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np


class Dispersion:
    """Div(S) = sum over pairs u, t of S of half the Euclidean distance of their unit vectors.

    Half the distance lies in [0, 1]: 0 for copies, 1 for opposites. It is a metric, which 1 - cos
    is not; a vector of length 0 stands at the origin, 1/2 from all others. It is taken from
    differences rather than cosines, so copies are exactly 0 apart. Monotone and not submodular:
    each passage taken makes the next one add more. A step costs n * dim.
    """

    def __init__(self, unit: np.ndarray) -> None:
        """Start with nothing taken.

        Args:
            unit: vectors of length 1 or 0, float64 (n, dim).
        """
        self._unit = unit
        self._far = np.zeros(len(unit))  # (n,), distance to all that was taken

    def value(self, rows: Sequence[int]) -> float:
        """Return Div of a set, read literally, whatever was taken."""
        pairs = combinations(self._unit[np.asarray(rows, np.intp)], 2)
        return float(sum(float(np.linalg.norm(one - other)) / 2 for one, other in pairs))

    def gains(self, rows: np.ndarray) -> np.ndarray:
        """Return what each row would add to Div, float64 (m,), at least 0."""
        gains: np.ndarray = self._far[rows]
        return gains

    def take(self, row: int) -> None:
        """Count a row as taken."""
        apart = self._unit - self._unit[row]
        self._far += np.sqrt(np.einsum("nd,nd->n", apart, apart)) / 2

    def reset(self) -> None:
        """Count nothing as taken."""
        self._far[:] = 0.0

"""Groups: passages of many documents before many passages of one."""

from collections.abc import Sequence

import numpy as np


class Groups:
    """Div(S) = sum over groups of sqrt(sum of r_u over the u of S in the group).

    Monotone and submodular: the second passage of a group adds less than the first. Source: Lin and
    Bilmes 2011, aclanthology.org/P11-1052, whose groups are clusters of sentences.
    """

    def __init__(self, relevance: np.ndarray, groups: np.ndarray) -> None:
        """Start with nothing taken.

        Args:
            relevance: r, (n,), at least 0.
            groups: label of each row's group, integers (n,).
        """
        self._relevance = relevance
        self._group = np.unique(groups, return_inverse=True)[1]  # (n,), from 0
        self._sums = np.zeros(int(self._group.max(initial=-1)) + 1)  # (groups,)

    def value(self, rows: Sequence[int]) -> float:
        """Return Div of a set, read literally, whatever was taken."""
        chosen = np.asarray(rows, np.intp)
        sums = np.bincount(self._group[chosen], self._relevance[chosen])
        return float(np.sqrt(sums).sum())

    def gains(self, rows: np.ndarray) -> np.ndarray:
        """Return what each row would add to Div, float64 (m,), at least 0.

        The difference of the roots is written as r / (new root + old root), which never rises with
        the group's sum, rounding included.
        """
        added, old = self._relevance[rows], self._sums[self._group[rows]]
        roots = np.sqrt(old + added) + np.sqrt(old)
        gains: np.ndarray = np.divide(added, roots, out=np.zeros_like(roots), where=roots > 0.0)
        return gains

    def take(self, row: int) -> None:
        """Count a row as taken."""
        self._sums[self._group[row]] += self._relevance[row]

    def reset(self) -> None:
        """Count nothing as taken."""
        self._sums[:] = 0.0

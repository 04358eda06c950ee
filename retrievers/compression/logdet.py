"""Log determinant: the volume that a set of relevant vectors spans."""

from collections.abc import Sequence

import numpy as np

from retrievers.cosines import products


class LogDet:
    """Div(S) = log det(I + L_S), with L_uv = sqrt(r_u) cos(u, v) sqrt(r_v).

    Monotone and submodular. The Cholesky factor of I + L_S grows by a row a pick: for every
    candidate u, what remains of 1 + L_uu above 1 gives the gain log(1 + excess_u). A pick number m
    costs n * (dim + m), and no matrix of all pairs is made. Cosines keep their sign here, or L
    would not be positive semidefinite. Source: Chen, Zhang and Zhou 2018, arXiv:1709.05135, which
    factors L_S without the identity.
    """

    def __init__(self, unit: np.ndarray, relevance: np.ndarray) -> None:
        """Start with nothing taken.

        Args:
            unit: vectors of length 1 or 0, float64 (n, dim).
            relevance: r, (n,), at least 0.
        """
        self._rows = unit * np.sqrt(relevance)[:, None]  # (n, dim); their products are L
        self._start: np.ndarray = np.einsum("nd,nd->n", self._rows, self._rows)  # (n,)
        self._excess = self._start.copy()
        self._factor = np.empty((len(unit), 16))  # a column a pick; doubled when full
        self._count = 0

    def value(self, rows: Sequence[int]) -> float:
        """Return Div of a set, read literally, whatever was taken."""
        chosen = self._rows[np.asarray(rows, np.intp)]
        return float(np.linalg.slogdet(np.eye(len(chosen)) + chosen @ chosen.T).logabsdet)

    def gains(self, rows: np.ndarray) -> np.ndarray:
        """Return what each row would add to Div, float64 (m,), at least 0."""
        gains: np.ndarray = np.log1p(self._excess[rows])
        return gains

    def take(self, row: int) -> None:
        """Count a row as taken."""
        count = self._count
        if count == self._factor.shape[1]:
            self._factor = np.hstack([self._factor, np.empty_like(self._factor)])
        known = self._factor[:, :count]
        column = products(self._rows, self._rows[row]) - products(known, known[row])
        column /= np.sqrt(1.0 + self._excess[row])
        self._factor[:, count] = column
        # Rounding may take a little too much of what is nearly spanned.
        self._excess = np.maximum(0.0, self._excess - column * column)
        self._count += 1

    def reset(self) -> None:
        """Count nothing as taken."""
        self._excess = self._start.copy()
        self._count = 0

"""A set that grows: what each candidate would add to the objective, term by term."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from retrievers.compression.coverage import Coverage
from retrievers.compression.dispersion import Dispersion
from retrievers.compression.groups import Groups
from retrievers.compression.logdet import LogDet
from retrievers.compression.objective import Objective
from retrievers.compression.redundancy import Redundancy
from retrievers.cosines import unit


class Term(Protocol):
    """A part of the objective that depends on more than one passage."""

    def value(self, rows: Sequence[int]) -> float:
        """Return the term for a set of distinct rows, read literally, whatever was taken."""

    def gains(self, rows: np.ndarray) -> np.ndarray:
        """Return what each row would add to what was taken, float64 (m,)."""

    def take(self, row: int) -> None:
        """Count a row as taken."""

    def reset(self) -> None:
        """Count nothing as taken."""


class Chosen:
    """The rows taken so far, and what any other would add to F.

    `take` and `restart` change it; nothing else does.

    Attributes:
        open: bool (n,), which rows may still be taken; a caller may close rows.
        rows: what was taken, in order.
        parts: what each of `rows` added: relevance, coverage and diversity, coefficients included.
    """

    def __init__(
        self,
        objective: Objective,
        relevance: np.ndarray,
        coverage: Coverage,
        diversity: Term | None,
    ) -> None:
        """Start with nothing taken.

        Args:
            objective: coefficients; a term whose coefficient is 0 is never asked.
            relevance: r, float64 (n,).
            coverage: the pool's.
            diversity: the term of the objective's kind, or None where it does not count.
        """
        self.objective = objective
        self._relevance = relevance
        self._coverage = coverage
        self._diversity = diversity
        self._quality = 1.0 if objective.submodular else 0.5
        self.open = np.ones(len(relevance), np.bool_)
        self.rows: list[int] = []
        self.parts: list[tuple[float, float, float]] = []

    @property
    def value(self) -> float:
        """F of what was taken: the sum of what each row added."""
        return float(sum(map(sum, self.parts)))

    def restart(self, first: Sequence[int] = ()) -> None:
        """Take nothing but `first`, in order, and open all other rows."""
        self.open[:] = True
        self.rows.clear()
        self.parts.clear()
        self._coverage.reset()
        if self._diversity is not None:
            self._diversity.reset()
        for row in first:
            self.take(row)

    def gains(self, rows: np.ndarray) -> np.ndarray:
        """Return what each row would add to F, float64 (m,)."""
        relevance, coverage, diversity = self._split(rows)
        gains: np.ndarray = relevance + coverage + diversity
        return gains

    def worth(self, rows: np.ndarray) -> np.ndarray:
        """Return what greedy goes by, float64 (m,): the gain.

        For dispersion it is half the gain in relevance and coverage plus the whole gain in
        distance: the potential of Borodin et al. 2012, arXiv:1203.6397.
        """
        relevance, coverage, diversity = self._split(rows)
        worth: np.ndarray = self._quality * (relevance + coverage) + diversity
        return worth

    def take(self, row: int) -> None:
        """Add a row and close it."""
        relevance, coverage, diversity = self._split(np.array([row]))
        self.parts.append((float(relevance[0]), float(coverage[0]), float(diversity[0])))
        self.rows.append(row)
        self.open[row] = False
        if self.objective.coverage:
            self._coverage.take(row)
        if self._diversity is not None:
            self._diversity.take(row)

    def _split(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        none = np.zeros(len(rows))
        covered = self._coverage.gains(rows) if self.objective.coverage else none
        diverse = none if self._diversity is None else self._diversity.gains(rows)
        return (
            self.objective.relevance * self._relevance[rows],
            self.objective.coverage * covered,
            self.objective.diversity * diverse,
        )


def diversity_term(
    objective: Objective, vectors: np.ndarray, relevance: np.ndarray, groups: np.ndarray | None
) -> Term | None:
    """Return the term of an objective's kind, or None where diversity does not count.

    Raises:
        ValueError: if the kind is `groups` and there are none.
    """
    if objective.kind == "none" or objective.diversity == 0.0:
        return None
    if objective.kind == "groups":
        if groups is None:
            raise ValueError("groups must be one label a row for the kind 'groups', got None")
        return Groups(relevance, groups)
    units = unit(vectors)
    if objective.kind == "redundancy":
        return Redundancy(units)
    return LogDet(units, relevance) if objective.kind == "logdet" else Dispersion(units)

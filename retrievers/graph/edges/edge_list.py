"""Edges as three arrays, before they become a matrix."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class EdgeList:
    """Directed edges of one kind; an edge that is listed twice counts with its larger weight.

    Attributes:
        sources: rows where they start, int64, (e,).
        targets: rows where they end, int64, (e,).
        weights: above 0, at most 1; float64, (e,).
    """

    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, edges: Iterable[tuple[int, int, float]]) -> Self:
        """Take edges as triples of source, target and weight."""
        taken = list(edges)
        return cls(
            np.array([source for source, _, _ in taken], np.int64),
            np.array([target for _, target, _ in taken], np.int64),
            np.array([weight for _, _, weight in taken], np.float64),
        )

    @classmethod
    def joined(cls, lists: Iterable["EdgeList"]) -> Self:
        """Put lists end to end."""
        kept: list[EdgeList] = [cls.of(()), *lists]
        return cls(
            np.concatenate([one.sources for one in kept]),
            np.concatenate([one.targets for one in kept]),
            np.concatenate([one.weights for one in kept]),
        )

    def __len__(self) -> int:
        return len(self.sources)

"""Lists of numbers, one a row, in flat arrays that a file can be mapped to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """One list of ints a row.

    Attributes:
        starts: where each list begins in `values`, and the end: int64, (n + 1,).
        values: the lists, end to end: int32, (m,).
    """

    starts: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, lists: Iterable[Sequence[int]]) -> Self:
        """Pack lists, in order."""
        kept = [np.asarray(one, np.int32) for one in lists]
        starts = np.zeros(len(kept) + 1, np.int64)
        np.cumsum([len(one) for one in kept], out=starts[1:])
        return cls(starts, np.concatenate([*kept, np.zeros(0, np.int32)]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        found: np.ndarray = self.values[self.starts[row] : self.starts[row + 1]]
        return found

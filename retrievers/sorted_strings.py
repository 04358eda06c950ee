"""Sorted strings in two arrays: looked up and decoded one by one, so that a file can be mapped."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import numpy as np

# A lookup by halving costs about as much as a dictionary of this many strings does each.
_DICTIONARY_PAYS = 16


class SortedStrings:
    """Ascending, unique strings; a string's row is its place. Immutable, safe for many threads.

    Attributes:
        blob: the strings in UTF-8, end to end, uint8 (bytes,).
        starts: where each begins, and the end: int64 (n + 1,).
    """

    def __init__(self, blob: np.ndarray, starts: np.ndarray) -> None:
        """Wrap finished arrays; `of` makes them."""
        self.blob = blob
        self.starts = starts
        self._asked = 0
        self._decoded: list[str] | None = None

    @classmethod
    def of(cls, strings: Iterable[str]) -> Self:
        """Pack strings that are ascending and unique already; they are kept beside the arrays.

        What is opened from a file has the arrays alone, and looks its strings up in them.
        """
        decoded = list(strings)
        # UTF-8 sorts as code points do, lone surrogates included.
        encoded = [one.encode("utf-8", "surrogatepass") for one in decoded]
        starts = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=starts[1:])
        packed = cls(np.frombuffer(b"".join(encoded), np.uint8), starts)
        packed._decoded = decoded
        return packed

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self.blob.nbytes + self.starts.nbytes

    def all(self) -> list[str]:
        """Return every string, in order."""
        if self._decoded is not None:
            return list(self._decoded)
        whole = self.blob.tobytes()
        return [
            whole[start:end].decode("utf-8", "surrogatepass")
            for start, end in pairwise(self.starts.tolist())
        ]

    def take(self, rows: np.ndarray) -> list[str]:
        """Return the strings of some rows, int (m,), in their order."""
        if self._decoded is not None:
            return [self._decoded[row] for row in rows.tolist()]
        whole: Any = self.blob.data  # a buffer
        spans = zip(self.starts[rows].tolist(), self.starts[rows + 1].tolist(), strict=True)
        return [str(whole[start:end], "utf-8", "surrogatepass") for start, end in spans]

    def row(self, string: str) -> int:
        """Return the row of a string, -1 if there is none."""
        if "_rows" in self.__dict__:
            return self._rows.get(string, -1)
        if self._decoded is not None:
            low = bisect_left(self._decoded, string)
            return low if low < len(self) and self._decoded[low] == string else -1
        wanted = string.encode("utf-8", "surrogatepass")
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._at(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self._at(low) == wanted else -1

    def rows(self, strings: Sequence[str]) -> np.ndarray:
        """Return the row of each string, -1 where there is none: int64 (m,)."""
        self._asked += 0 if self._decoded is not None else len(strings)
        if self._asked * _DICTIONARY_PAYS > len(self):
            found = self._rows
            return np.fromiter((found.get(one, -1) for one in strings), np.int64, len(strings))
        return np.fromiter(map(self.row, strings), np.int64, len(strings))

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {string: row for row, string in enumerate(self.all())}

    def _at(self, row: int) -> bytes:
        return self.blob[self.starts[row] : self.starts[row + 1]].tobytes()

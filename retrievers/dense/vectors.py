"""Vectors by passage id: rows that are appended and marked dead, on disk as one `.npy` file."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Self, get_args

import numpy as np

from retrievers.ranking import rows_by_id

VectorDtype = Literal["float32", "float16"]
_UNIT = 1e-3
_BLOCK = 8_192  # rows converted at a time, so that half precision needs no second copy in memory


class VectorStore:
    """Unit vectors of passages, with which every dense index scores.

    A base, which may be a read-only memory map, is never written to; what is added goes into a
    tail in memory, and what is deleted or replaced is marked dead. So a row, once given, keeps its
    vector until `compact`. `add`, `delete` and `compact` change the store; each either happens or
    raises and leaves it as it was. Any number of readers may share it while nobody changes it.

    `float16` halves the size and rounds: vectors are first made exactly unit, then each component
    moves by at most 2^-11 of itself, so an inner product with a unit vector is less than 5e-4 from
    that of the exactly unit vector. Scores are float64 products of what is stored.

    Attributes:
        dim: width of a vector.
        dtype: how components are kept, `float32` or `float16`.
    """

    def __init__(self, dim: int, *, dtype: VectorDtype = "float32") -> None:
        """Make an empty store.

        Raises:
            ValueError: if dim is below 1 or the dtype unknown.
        """
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        if dtype not in get_args(VectorDtype):
            raise ValueError(f"dtype must be one of {get_args(VectorDtype)}, got {dtype!r}")
        self.dim = dim
        self.dtype: VectorDtype = dtype
        self._names: list[str | None] = []
        self._row: dict[str, int] = {}
        self._base = np.empty((0, dim), dtype)
        self._tail = np.empty((0, dim), dtype)
        self._alive = np.empty(0, np.bool_)

    @classmethod
    def wrap(cls, names: Sequence[str | None], vectors: np.ndarray) -> Self:
        """Take finished arrays as the base, without copying or checking the vectors.

        Args:
            names: id of each row, None for a dead one.
            vectors: float32 or float16 (rows, dim), of about unit length; may be a memory map.

        Raises:
            ValueError: if an id occurs twice, the shapes do not fit or the dtype is another.
        """
        if vectors.ndim != 2 or len(vectors) != len(names):
            raise ValueError(f"vectors must be ({len(names)}, dim), got {vectors.shape}")
        name = vectors.dtype.name
        store = cls(vectors.shape[1], dtype="float16" if name == "float16" else "float32")
        if name != store.dtype:
            raise ValueError(f"vectors must be one of {get_args(VectorDtype)}, got {name}")
        store._names = list(names)
        store._row = {name: row for row, name in enumerate(names) if name is not None}
        if len(store._row) != len(names) - store._names.count(None):
            rows_by_id([name for name in names if name is not None])
        store._base = np.asarray(vectors)
        store._alive = np.array([name is not None for name in names], np.bool_)
        return store

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, id_: object) -> bool:
        return id_ in self._row

    @property
    def rows(self) -> int:
        """Rows in use, dead ones included."""
        return len(self._names)

    @property
    def dead(self) -> int:
        """Rows that were deleted or replaced."""
        return len(self._names) - len(self._row)

    @property
    def tail(self) -> int:
        """Rows that are in memory only."""
        return len(self._names) - len(self._base)

    @property
    def alive(self) -> np.ndarray:
        """Which rows are not dead: bool (rows,), a copy."""
        return self._alive[: self.rows].copy()

    def add(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        """Add passages, in the order of their ids; a vector replaces an earlier one of its id.

        Args:
            ids: unique; may be empty.
            vectors: (n, dim), of unit length within 1e-3.

        Raises:
            ValueError: if shapes do not fit, an id occurs twice, or a vector is not of unit length
                (zero, NaN and infinity are not); the message names its id.
        """
        order = rows_by_id(list(ids))
        kept = self._checked(ids, vectors)[order]
        start, used = self.rows, self.tail
        if used + len(kept) > len(self._tail):
            grown = np.empty((max(used + len(kept), 2 * used), self.dim), self.dtype)
            grown[:used] = self._tail[:used]
            self._tail = grown
            alive = np.zeros(len(self._base) + len(grown), np.bool_)
            alive[:start] = self._alive[:start]
            self._alive = alive
        self._tail[used : used + len(kept)] = kept
        self._alive[start : start + len(kept)] = True
        self.delete(ids)
        for row, place in enumerate(order, start=start):
            self._names.append(ids[place])
            self._row[ids[place]] = row

    def delete(self, ids: Iterable[str]) -> int:
        """Forget passages; return how many there were. Unknown ids are no error."""
        rows = [self._row.pop(id_) for id_ in ids if id_ in self._row]
        for row in rows:
            self._names[row] = None
        self._alive[rows] = False
        return len(rows)

    def compact(self) -> None:
        """Drop dead rows and order the others by id; every row may move."""
        rows = self.in_order()
        names = [self._names[row] for row in rows]
        self._base = self.stored(rows)
        self._tail = np.empty((0, self.dim), self.dtype)
        self._alive = np.ones(len(rows), np.bool_)
        self._names = names
        self._row = {name: row for row, name in enumerate(names) if name is not None}

    def ids(self) -> tuple[str, ...]:
        """Return the ids, ascending."""
        return tuple(sorted(self._row))

    def name(self, row: int) -> str:
        """Return the id of a row that is not dead."""
        name = self._names[row]
        assert name is not None, "only live rows are ranked"
        return name

    def names(self) -> list[str | None]:
        """Return the id of each row, None for a dead one."""
        return list(self._names)

    def in_order(self) -> np.ndarray:
        """Return the rows that are not dead, by ascending id: int64 (n,)."""
        return np.array([self._row[id_] for id_ in sorted(self._row)], np.int64)

    def rows_of(self, ids: Iterable[str]) -> np.ndarray:
        """Return the row of each id: int64 (n,).

        Raises:
            KeyError: for an unknown id.
        """
        rows = []
        for id_ in ids:
            if id_ not in self._row:
                raise KeyError(f"no vector for passage {id_!r}")
            rows.append(self._row[id_])
        return np.array(rows, np.int64)

    def known_rows(self, ids: Iterable[str]) -> np.ndarray:
        """Return the rows of those ids that are known, ascending: int64 (at most n,)."""
        row = self._row
        return np.array(sorted({row[id_] for id_ in ids if id_ in row}), np.int64)

    def vectors(self, ids: Iterable[str]) -> np.ndarray:
        """Return the vectors of passages: float32 (n, dim), in the order asked for.

        Raises:
            KeyError: for an unknown id.
        """
        return self.stored(self.rows_of(ids)).astype(np.float32, copy=False)

    def stored(self, rows: np.ndarray) -> np.ndarray:
        """Return a copy of rows as they are kept: `dtype` (n, dim)."""
        base = len(self._base)
        if not self.tail:
            return np.asarray(self._base[rows])
        if not base:
            return np.asarray(self._tail[rows])
        out = np.empty((len(rows), self.dim), self.dtype)
        low = rows < base
        out[low] = self._base[rows[low]]
        out[~low] = self._tail[rows[~low] - base]
        return out

    def scores(self, rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """Return inner products, float64 (n,): a row's is the same, whatever the others are.

        Args:
            rows: int64 (n,).
            vector: float64 (dim,).
        """
        scores = np.empty(len(rows))
        for start in range(0, len(rows), _BLOCK):
            block = self.stored(rows[start : start + _BLOCK]).astype(np.float64)
            # einsum adds up each row by itself; a matrix product may add up equal rows differently.
            scores[start : start + _BLOCK] = np.einsum("nd,d->n", block, vector)
        return scores

    def blocks(self, start: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Yield all rows from `start` on, as a first row and float32 (n, dim), copied if need be.

        Float32 parts come whole; half precision comes converted, a few thousand rows at a time.
        """
        base = len(self._base)
        for offset, part in ((0, self._base), (base, self._tail[: self.tail])):
            begin = max(start - offset, 0)
            step = _BLOCK if part.dtype != np.float32 else max(len(part), 1)
            for first in range(begin, len(part), step):
                block = np.ascontiguousarray(part[first : first + step], np.float32)
                yield offset + first, block

    def _checked(self, ids: Sequence[str], vectors: np.ndarray) -> np.ndarray:
        """Return the vectors as they are to be kept."""
        if vectors.shape != (len(ids), self.dim):
            raise ValueError(f"vectors must be ({len(ids)}, {self.dim}), got {vectors.shape}")
        with np.errstate(over="ignore"):
            exact = vectors.astype(np.float64)
            norms = np.linalg.norm(exact, axis=1)
        wrong = np.flatnonzero(~(np.abs(norms - 1.0) <= _UNIT))  # a NaN is no comparison's friend
        if len(wrong):
            row = int(wrong[0])
            raise ValueError(f"vectors must have unit length, got {norms[row]} for {ids[row]!r}")
        if self.dtype == "float16":
            exact /= norms[:, None]
        return exact.astype(self.dtype)

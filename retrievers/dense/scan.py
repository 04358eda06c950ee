"""Scanning: the rows nearest to queries by comparing every allowed vector, in numpy."""

from dataclasses import dataclass

import numpy as np

from retrievers.dense.vectors import VectorStore

# Largest error of a float32 inner product of unit vectors, with room to spare: what lies this
# close to the last place is compared again in float64.
MARGIN = 1e-5
_CELLS = 1 << 24  # scores held at a time, 64 MiB
_ROWS = 16_384  # rows gathered at a time


@dataclass(frozen=True, slots=True, eq=False)
class Allowed:
    """Rows of a store that a search may return.

    Attributes:
        mask: bool (rows,).
        rows: where the mask is true, ascending, int64.
    """

    mask: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> "Allowed":
        """Return the rows of a mask."""
        return cls(mask, np.flatnonzero(mask))

    @property
    def share(self) -> float:
        """Allowed rows as a share of all, in [0, 1]."""
        return len(self.rows) / max(len(self.mask), 1)


def scan(store: VectorStore, units: np.ndarray, top_k: int, allowed: Allowed) -> list[np.ndarray]:
    """Return rows of each query that surely include its best `top_k` among the allowed.

    Args:
        store: the rows.
        units: float32 (queries, dim), of unit length.
        top_k: at least 1.
        allowed: which rows may be returned.
    """
    if len(allowed.rows) <= top_k:
        return [allowed.rows] * len(units)
    # Gathering copies each vector once before it is read, so it pays for few of them only.
    gather = 3 * len(allowed.rows) < store.rows
    step = max(1, _CELLS // (len(allowed.rows) if gather else store.rows))
    found: list[np.ndarray] = []
    for start in range(0, len(units), step):
        asked = units[start : start + step]
        scores = _gathered(store, asked, allowed.rows) if gather else _all(store, asked)
        if not gather and len(allowed.rows) < store.rows:
            scores = scores[:, allowed.rows]
        found.extend(allowed.rows[near_best(row, top_k)] for row in scores)
    return found


def near_best(scores: np.ndarray, top_k: int) -> np.ndarray:
    """Return the places of the best `top_k` float32 scores, and of those too close to tell."""
    last = np.partition(scores, len(scores) - top_k)[len(scores) - top_k]
    return np.flatnonzero(scores >= last - MARGIN)


def _gathered(store: VectorStore, units: np.ndarray, rows: np.ndarray) -> np.ndarray:
    scores = np.empty((len(units), len(rows)), np.float32)
    for start in range(0, len(rows), _ROWS):
        block = store.stored(rows[start : start + _ROWS]).astype(np.float32, copy=False)
        scores[:, start : start + _ROWS] = units @ block.T
    return scores


def _all(store: VectorStore, units: np.ndarray) -> np.ndarray:
    scores = np.empty((len(units), store.rows), np.float32)
    for start, block in store.blocks():
        scores[:, start : start + len(block)] = units @ block.T
    return scores

"""Rows of a store inside a faiss index, and searches that know which of them still count."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rag.errors import MissingExtraError
from retrievers.dense.scan import Allowed, scan
from retrievers.dense.vectors import VectorStore

FEW = 2_000  # rows that are always scanned sooner than searched


def faiss() -> Any:
    """Return the package, whose types say less than it does."""
    import faiss as package

    return package


def installed(package: str) -> bool:
    """Tell whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def need_faiss(kind: str, *, extra: str = "cpu") -> None:
    """Make sure that faiss can be imported.

    Raises:
        MissingExtraError: if not; the message names the extra.
    """
    if not installed("faiss"):
        raise MissingExtraError(
            f"{kind} needs faiss, which is not installed; pip install 'dovetail-rag[{extra}]'"
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """A faiss selector of the allowed rows; it must outlive the search that uses it.

    faiss can neither remove rows from a graph nor notice an id that is added twice, so rows are
    only ever appended here, and a search is told which of them still count.

    Attributes:
        selector: what faiss asks, or None if every row is allowed.
        bits: memory that the selector points into.
    """

    selector: Any
    bits: np.ndarray

    @classmethod
    def of(cls, allowed: Allowed) -> "Selection":
        """Return the selector of some rows."""
        bits = np.packbits(allowed.mask, bitorder="little")
        every = len(allowed.rows) == len(allowed.mask)
        selector = None if every else faiss().IDSelectorBitmap(bits)
        return cls(selector, bits)


class FaissRows:
    """The rows of a store inside a faiss index: appended as the store grows, never removed."""

    def __init__(self, store: VectorStore, make: Callable[[VectorStore], Any]) -> None:
        """Start without rows.

        Args:
            store: whose rows.
            make: returns an empty faiss index, trained if need be, or None for too few rows.
        """
        self._store = store
        self._make = make
        self.index: Any = None

    def sync(self) -> None:
        """Append the store's new rows."""
        if self.index is None:
            self.index = self._make(self._store)
        if self.index is not None and self.index.ntotal < self._store.rows:
            for _, block in self._store.blocks(self.index.ntotal):
                self.index.add(block)

    def reset(self) -> None:
        """Forget the rows, not what was learnt from them in training."""
        if self.index is not None:
            self.index.reset()

    def dump(self) -> np.ndarray | None:
        """Return the faiss index as bytes, uint8; None if there is none yet."""
        return None if self.index is None else np.asarray(faiss().serialize_index(self.index))

    def restore(self, data: np.ndarray) -> bool:
        """Take up what `dump` gave, if it holds as many rows as the store, of its width."""
        try:
            index = faiss().deserialize_index(data)
        except RuntimeError:
            return False
        fits = bool(index.ntotal == self._store.rows and index.d == self._store.dim)
        if fits:
            self.index = index
        return fits


def approximate(
    store: VectorStore,
    units: np.ndarray,
    top_k: int,
    allowed: Allowed,
    *,
    scan_up_to: int,
    search: Callable[[Selection], np.ndarray],
) -> list[np.ndarray]:
    """Return candidate rows by an approximate search, or by a scan where that is no more work.

    Also scanned are the rows of a query for which the search found too few.

    Args:
        store: the rows.
        units: float32 (queries, dim), of unit length.
        top_k: at least 1.
        allowed: which rows may be returned.
        scan_up_to: how many allowed rows are scanned in no more time than they are searched.
        search: returns rows, int64 (queries, any), -1 where it found no more.
    """
    if len(allowed.rows) <= max(scan_up_to, top_k):
        return scan(store, units, top_k, allowed)
    found = []
    for unit, places in zip(units, search(Selection.of(allowed)), strict=True):
        rows = places[places >= 0]
        if len(rows) < min(top_k, len(allowed.rows)):
            rows = scan(store, unit[None], top_k, allowed)[0]
        found.append(rows)
    return found

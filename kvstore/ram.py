"""RAM tier: the most recently used segments, up to a number of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection

from rag.protocols import SegmentKV


class RamTier:
    """Segments in memory, least recently used first out. All methods are thread-safe.

    The tier holds references and copies nothing: a tensor that it evicts lives on for whoever
    holds it. It counts `SegmentKV.nbytes`; a segment loaded from disk keeps some 2 kB more alive.

    Attributes:
        budget_bytes: the most bytes held at any moment.
        evictions: entries removed to make room, so far.

    Raises:
        ValueError: if `budget_bytes` is negative.
    """

    def __init__(self, budget_bytes: int) -> None:
        if budget_bytes < 0:
            raise ValueError(f"budget_bytes must be at least 0, got {budget_bytes}")
        self.budget_bytes = budget_bytes
        self.evictions = 0
        self._entries: OrderedDict[str, tuple[SegmentKV, str]] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> SegmentKV | None:
        """Return an entry, which becomes the most recently used, or None."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def contains(self, key: str) -> bool:
        """Say whether an entry is held; nothing changes."""
        with self._lock:
            return key in self._entries

    def put(self, key: str, document: str, kv: SegmentKV) -> bool:
        """Hold an entry, replace one of the same key, and evict others as needed.

        Args:
            key: the segment's key.
            document: whose deletion drops the entry.
            kv: tensors that nobody writes to any more.

        Returns:
            False if the entry alone exceeds the budget; then nothing changes.
        """
        if kv.nbytes > self.budget_bytes:
            return False
        with self._lock:
            self._remove(key)
            self._entries[key] = kv, document
            self._nbytes += kv.nbytes
            while self._nbytes > self.budget_bytes:
                self._remove(next(iter(self._entries)))
                self.evictions += 1
        return True

    def drop_documents(self, document_ids: Collection[str]) -> set[str]:
        """Remove the entries of these documents and return their keys."""
        with self._lock:
            dropped = {k for k, (_, document) in self._entries.items() if document in document_ids}
            for key in dropped:
                self._remove(key)
        return dropped

    def clear(self) -> None:
        """Remove every entry."""
        with self._lock:
            self._entries.clear()
            self._nbytes = 0

    def usage(self) -> tuple[int, int]:
        """Return the number of entries and their bytes."""
        with self._lock:
            return len(self._entries), self._nbytes

    def _remove(self, key: str) -> None:
        if key in self._entries:
            self._nbytes -= self._entries.pop(key)[0].nbytes

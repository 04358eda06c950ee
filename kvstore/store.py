"""The KV store: segments in RAM over segments on disk, behind one `PassageCache`."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from kvstore.codecs import RAW, pack, unpack
from kvstore.disk import DiskTier
from kvstore.keys import segment_key
from kvstore.ram import RamTier
from rag.protocols import Lookup, SegmentKV
from rag.records import Segment


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a store holds now and did since it was opened.

    Attributes:
        ram_entries: segments in RAM.
        ram_bytes: bytes of their KV.
        disk_entries: files on disk.
        disk_bytes: bytes of these files, headers included.
        hits_ram: lookups answered from RAM.
        hits_disk: lookups answered from disk.
        misses: lookups not answered, corrupt ones included.
        corrupt: lookups that met a damaged, foreign or unreadable file.
        evictions: entries removed from either tier to make room.
        failed_writes: puts that the disk refused, for example because it is full.
    """

    ram_entries: int
    ram_bytes: int
    disk_entries: int
    disk_bytes: int
    hits_ram: int
    hits_disk: int
    misses: int
    corrupt: int
    evictions: int
    failed_writes: int


class KVStore:
    """Keeps KV across requests and processes: a `PassageCache` with a RAM and a disk tier.

    Lookups try RAM, then disk, and what was read from disk moves to RAM; each lookup counts as a
    use in both tiers, and each tier evicts its least recently used entries. Tensors come back on
    the CPU, as views of memory that the store shares: never write to them. They stay valid and
    unchanged after any later put, eviction or close. All methods may be called from several
    threads, and a hit never waits for a put. After `close` every other method is an error.

    Attributes:
        folder: where the disk tier lies, or None for RAM alone.
        ram_bytes: budget of the RAM tier.
        disk_bytes: budget of the disk tier; 0 without a folder. Compare it with tokens x bytes
            per token (and about 1 kB a segment) before filling the store.
        read_only: whether the folder is only read: no lock is taken, puts go to RAM alone, and
            damaged files stay.

    Raises:
        ValueError: if a budget is negative.
        FolderLockedError: if another process writes to the folder; the message names it.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        ram_bytes: int = 4_000_000_000,
        disk_bytes: int = 10_000_000_000,
        read_only: bool = False,
    ) -> None:
        self.folder = folder
        self.ram_bytes = ram_bytes
        self.disk_bytes = disk_bytes if folder is not None else 0
        self.read_only = read_only
        self._ram = RamTier(ram_bytes)
        self._disk = None if folder is None else DiskTier(folder, disk_bytes, read_only=read_only)
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._closed = False

    def get(self, segment: Segment) -> Lookup:
        """Return the KV of exactly this segment, or a miss with its reason.

        Raises:
            ValueError: after `close`.
        """
        self._check_open()
        key = segment_key(segment, RAW)
        kv = self._ram.get(key)
        if kv is not None:
            found = Lookup(kv, "hit (ram)", kv.nbytes)
            if self._disk is not None:
                self._disk.touch(key)
        elif self._disk is not None:
            found = self._disk.get(key, segment)
            if found.kv is not None:
                self._ram.put(key, segment.document, found.kv)
        else:
            found = Lookup(None, "absent")
        with self._counting:
            self._counts[found.reason.partition(":")[0]] += 1
        return found

    def put(self, segment: Segment, kv: SegmentKV) -> bool:
        """Keep a copy of the KV in every tier that it fits; an older one is replaced.

        Returns:
            With a folder to write to: whether it is safely on disk, even if the process is killed
            next; after False (too large, or a full disk) RAM may still hold it. Otherwise:
            whether it is in RAM.

        Raises:
            ValueError: if the tensors do not belong to the segment by shape or dtype, or after
                `close`.
        """
        self._check_open()
        key = segment_key(segment, RAW)
        packed = pack(segment, kv)
        in_ram = self._ram.put(key, segment.document, unpack(packed))
        if self._disk is None or self.read_only:
            return in_ram
        return self._disk.put(key, segment, packed)

    def contains(self, segment: Segment) -> bool:
        """Say, without loading or changing anything, whether what `put` promised still holds.

        With a folder to write to that is: whether its file is there, not whether it is undamaged.

        Raises:
            ValueError: after `close`.
        """
        self._check_open()
        key = segment_key(segment, RAW)
        if self._disk is None:
            return self._ram.contains(key)
        return self._disk.contains(key) or (self.read_only and self._ram.contains(key))

    def touch(self, segment: Segment) -> bool:
        """Mark a segment as just used, without loading it; return what `contains` returns.

        Raises:
            ValueError: after `close`.
        """
        self._check_open()
        key = segment_key(segment, RAW)
        self._ram.get(key)
        if self._disk is not None:
            self._disk.touch(key)
        return self.contains(segment)

    def drop_documents(self, document_ids: Iterable[str]) -> int:
        """Delete what was put for these documents, from RAM and disk; return how many entries.

        Raises:
            ValueError: if the store is read-only or closed.
        """
        self._check_open()
        documents = frozenset(document_ids)
        on_disk = set() if self._disk is None else self._disk.drop_documents(documents)
        return len(on_disk | self._ram.drop_documents(documents))

    def stats(self) -> StoreStats:
        """Return counts and bytes; without pauses for other threads, so a moment's picture.

        Raises:
            ValueError: after `close`.
        """
        self._check_open()
        ram_entries, ram_bytes = self._ram.usage()
        disk_entries, disk_bytes = (0, 0) if self._disk is None else self._disk.usage()
        with self._counting:
            counts = self._counts.copy()
        return StoreStats(
            ram_entries=ram_entries,
            ram_bytes=ram_bytes,
            disk_entries=disk_entries,
            disk_bytes=disk_bytes,
            hits_ram=counts["hit (ram)"],
            hits_disk=counts["hit (disk)"],
            misses=counts["absent"] + counts["corrupt"],
            corrupt=counts["corrupt"],
            evictions=self._ram.evictions + (self._disk.evictions if self._disk else 0),
            failed_writes=self._disk.failed_writes if self._disk else 0,
        )

    def close(self) -> None:
        """Finish a put in progress, empty RAM and free the folder; twice is harmless."""
        self._closed = True
        if self._disk is not None:
            self._disk.close()
        self._ram.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            place = "in RAM" if self.folder is None else f"in {self.folder}"
            raise ValueError(f"the KV store {place} is closed")

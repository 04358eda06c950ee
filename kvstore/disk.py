"""Disk tier: one file a segment, within a byte budget, safe against crashes and second writers."""

from __future__ import annotations

import contextlib
import heapq
import os
import re
import threading
import time
from collections.abc import Collection, Iterator
from io import FileIO
from pathlib import Path

import torch
from torch import Tensor

from kvstore.codecs import CorruptBlobError, decode, encode, stored_document
from rag.files import FolderLock, sync_folder, write_atomically
from rag.protocols import Lookup
from rag.records import Segment

_KEY = re.compile(r"[0-9a-f]{64}")
_SUBFOLDER = re.compile(r"[0-9a-f]{2}")
_SUFFIX = ".safetensors"


class DiskTier:
    """Segments in files `folder/<2 hex>/<key>.safetensors`, readable by their owner alone.

    One writer at a time holds the folder's lock; any number of readers need none. Methods are
    thread-safe, and reading waits for writing only to delete a corrupt file. A file's modification
    time is the time of its last use, by any process, so recency outlives them all: eviction looks
    at it again before it believes that a file is the least recently used. Names are keys, which
    are hashes, so no text from outside ever becomes a path.

    A file is read into memory of its own rather than mapped, though mapping 3 MB takes 1.8 ms with
    its checksum and reading 3.2 ms: pages of a mapped file may be fetched again, unverified, after
    the checksum held, and a file cut short by another program would kill the process.

    Attributes:
        folder: where the files lie; a writer creates it, mode 0700.
        budget_bytes: the most bytes of files, headers included; enforced by a writer.
        read_only: whether this is a reader, which changes nothing but modification times.
        evictions: files deleted to make room, so far.
        failed_writes: puts that the system refused, for example on a full disk, so far.

    Raises:
        ValueError: if `budget_bytes` is negative.
        FolderLockedError: if another writer has the folder open.
    """

    def __init__(self, folder: Path, budget_bytes: int, *, read_only: bool = False) -> None:
        if budget_bytes < 0:
            raise ValueError(f"budget_bytes must be at least 0, got {budget_bytes}")
        self.folder = folder
        self.budget_bytes = budget_bytes
        self.read_only = read_only
        self.evictions = 0
        self.failed_writes = 0
        self._writing = threading.Lock()  # guards everything below
        self._closed = False
        self._sizes: dict[str, int] = {}
        self._nbytes = 0
        # Each key of _sizes with a time not later than its last use.
        self._ages: list[tuple[int, str]] = []
        if read_only:
            return
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FolderLock(folder).acquire()
        try:
            for leftover in folder.glob("[0-9a-f][0-9a-f]/.*.tmp"):
                leftover.unlink()
            for key, _ in self._files():
                self._account(key)
            self._evict(budget_bytes)
        except BaseException:
            self._lock.release()
            raise

    def get(self, key: str, segment: Segment) -> Lookup:
        """Read a segment's KV, verify all of it, and mark it as just used.

        Returns:
            A hit, or a miss with reason `absent` or `corrupt: …`. A writer deletes the corrupt
            file; one that the system will not read is left alone.
        """
        path = self._path(key)
        try:
            with path.open("rb", buffering=0) as file:
                blob = _read(file)
                try:
                    kv = decode(key, segment, blob)
                except CorruptBlobError as error:
                    self._delete_corrupt(key, file)
                    return Lookup(None, f"corrupt: {error}")
        except (FileNotFoundError, NotADirectoryError):
            return Lookup(None, "absent")
        except OSError as error:
            return Lookup(None, f"corrupt: unreadable, {error.strerror}")
        self.touch(key)
        return Lookup(kv, "hit (disk)", kv.nbytes)

    def contains(self, key: str) -> bool:
        """Say whether a file of this key is there, without opening it; nothing changes."""
        return self._path(key).is_file()

    def touch(self, key: str) -> bool:
        """Mark a file as just used; False if there is none or its times may not be changed."""
        now = time.time_ns()
        try:
            os.utime(self._path(key), ns=(now, now))
        except OSError:
            return False
        return True

    def put(self, key: str, segment: Segment, packed: Tensor) -> bool:
        """Write a segment's KV durably, replace a file of the same key, evict others as needed.

        Returns:
            False if the file alone exceeds the budget, or if the system refuses to write it; then
            a file of this key is exactly as it was before.

        Raises:
            ValueError: on a reader, or after `close`.
        """
        pieces = encode(key, segment, packed)
        size = sum(len(piece) for piece in pieces)
        with self._writing:
            self._check_writer()
            if size > self.budget_bytes:
                return False
            path = self._path(key)
            try:
                self._forget(key)
                self._evict(self.budget_bytes - size)
                if not path.parent.is_dir():
                    path.parent.mkdir(mode=0o700)
                    sync_folder(self.folder)
                write_atomically(path, lambda file: file.writelines(pieces))
                self.touch(key)
            except OSError:
                self.failed_writes += 1
                return False
            finally:
                self._account(key)
        return True

    def drop_documents(self, document_ids: Collection[str]) -> set[str]:
        """Delete the files of these documents, durably, and return their keys.

        Only headers are read. A file whose header names no document is useless and goes as well.

        Raises:
            ValueError: on a reader, or after `close`.
        """
        dropped = set()
        with self._writing:
            self._check_writer()
            for key in list(self._sizes):
                try:
                    with self._path(key).open("rb") as file:
                        document = stored_document(file)
                except FileNotFoundError:
                    self._forget(key)
                    continue
                if document is None or document in document_ids:
                    self._delete(key)
                    dropped.add(key)
            for subfolder in {self._path(key).parent for key in dropped}:
                sync_folder(subfolder)
        return dropped

    def usage(self) -> tuple[int, int]:
        """Return the number of files and their bytes; a reader looks at the folder each time."""
        if self.read_only:
            sizes = [size for _, size in self._files()]
            return len(sizes), sum(sizes)
        with self._writing:
            return len(self._sizes), self._nbytes

    def close(self) -> None:
        """Wait for a put in progress and give the lock back; twice is harmless."""
        with self._writing:
            self._closed = True
            if not self.read_only:
                self._lock.release()

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"key must be 64 lower-case hex digits, got {key!r}")
        return self.folder / key[:2] / f"{key}{_SUFFIX}"

    def _check_writer(self) -> None:
        if self.read_only or self._closed:
            state = "read-only" if self.read_only else "closed"
            raise ValueError(f"the KV store in {self.folder} is {state}")

    def _files(self) -> Iterator[tuple[str, int]]:
        """Yield key and bytes of every file that bears a key's name in its place."""
        if not self.folder.is_dir():
            return
        for subfolder in sorted(self.folder.iterdir()):
            if not (_SUBFOLDER.fullmatch(subfolder.name) and subfolder.is_dir()):
                continue
            for path in subfolder.iterdir():
                key = path.name.removesuffix(_SUFFIX)
                if key == path.name or key[:2] != subfolder.name or not _KEY.fullmatch(key):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    yield key, path.lstat().st_size

    def _account(self, key: str) -> None:
        """Make the books say what is on the disk."""
        self._forget(key)
        with contextlib.suppress(OSError):
            stat = self._path(key).stat()
            self._sizes[key] = stat.st_size
            self._nbytes += stat.st_size
            heapq.heappush(self._ages, (stat.st_mtime_ns, key))

    def _forget(self, key: str) -> None:
        self._nbytes -= self._sizes.pop(key, 0)

    def _delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)
        self._forget(key)

    def _evict(self, limit_bytes: int) -> None:
        """Delete the least recently used files until the rest has at most `limit_bytes`."""
        while self._nbytes > limit_bytes:
            known_ns, key = self._ages[0]
            if key not in self._sizes:
                heapq.heappop(self._ages)
                continue
            try:
                used_ns = self._path(key).stat().st_mtime_ns
            except FileNotFoundError:
                self._forget(key)
                continue
            if used_ns > known_ns:
                heapq.heapreplace(self._ages, (used_ns, key))
                continue
            self._delete(key)
            self.evictions += 1

    def _delete_corrupt(self, key: str, file: FileIO) -> None:
        """Delete the very file that was read, unless a put has replaced it since."""
        if self.read_only:
            return
        with self._writing, contextlib.suppress(OSError):
            if not self._closed and os.path.samestat(
                os.fstat(file.fileno()), self._path(key).stat()
            ):
                self._delete(key)


def _read(file: FileIO) -> Tensor:
    """Return a whole file, uint8 (bytes,); shorter than its size if it shrinks meanwhile."""
    blob = torch.empty(os.fstat(file.fileno()).st_size, dtype=torch.uint8)
    view, filled = blob.numpy().data, 0
    while filled < len(view) and (count := file.readinto(view[filled:])):
        filled += count
    return blob[:filled]

"""Folders that survive a crash: atomic writes, and one writer at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from rag.errors import FolderLockedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self


def write_atomically(path: Path, write: Callable[[BinaryIO], object], *, mode: int = 0o600) -> None:
    """Replace `path` by what `write` writes, or leave it exactly as it was.

    The bytes reach the disk before the name does, so a crash or a full disk at any moment leaves
    either the old file or the new one.

    Args:
        path: file to replace; its folder must exist.
        write: gets an open binary file.
        mode: permission bits of the new file.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and deletions inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LineFile:
    """A file of lines that one process at a time appends to, durably.

    An interrupt may cut off the last line: `whole` leaves it out, `drop_rest` takes it away.

    Attributes:
        path: the file.
        whole: its complete lines, as they were when it was opened.
    """

    def __init__(self, path: Path, error: type[Exception]) -> None:
        """Open or make the file.

        Args:
            path: its folder must exist.
            error: what is raised if it cannot be written, or another process holds it.
        """
        self.path = path
        try:
            self._file = path.open("a+b")
        except OSError as failed:
            raise error(f"{path} cannot be written: {failed.strerror}") from failed
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise error(f"{path} is being written by another run") from None
        self._file.seek(0)
        content = self._file.read()
        self.whole = content[: content.rfind(b"\n") + 1]
        self._cut_off = len(self.whole) < len(content)

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._file.closed

    def drop_rest(self) -> None:
        """Take away a line that was cut off."""
        if self._cut_off:
            self._file.truncate(len(self.whole))
            self._cut_off = False

    def append(self, lines: str) -> None:
        """Add lines, each with its line feed; they reach the disk before this returns."""
        self._file.write(lines.encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, which lets others write; twice is harmless."""
        self._file.close()


class FolderLock:
    """The right to write into a folder, held by one process; the system frees it if that dies.

    Use as a context manager, or call `acquire` and `release`.

    Attributes:
        path: the lock file; it holds the process id of the last holder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._descriptor: int | None = None

    def acquire(self) -> Self:
        """Take the lock now.

        Raises:
            FolderLockedError: if another process, or another lock object, holds it.
        """
        import fcntl

        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise FolderLockedError(
                f"{self.path.parent} is being written by process {holder}; "
                "wait for it to finish, or end it"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def release(self) -> None:
        """Give the lock back; twice is harmless."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

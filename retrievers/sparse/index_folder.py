"""Sparse index folders: segments, deletions, and the one file that says which belong together."""

import contextlib
import hashlib
import io
import json
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rag.errors import IndexFolderError
from rag.files import write_atomically
from retrievers.sparse.postings import Snapshot
from retrievers.sparse.segment import LiveSegment
from retrievers.sparse.segment_files import open_segment, segment_folder, store_segment

MANIFEST = "sparse.json"
_FORMAT = 1
_NAME = re.compile(r"[0-9a-f]{16}")
_OURS = re.compile(
    r"segment-[0-9a-f]{16}|dead-[0-9a-f]{16}-[0-9a-f]{16}\.npy"
    r"|\.(?:segment-[0-9a-f]{16}|dead-[0-9a-f]{16}-[0-9a-f]{16}\.npy|sparse\.json)"
    r"\.[0-9a-f]{12}\.tmp"
)


def write_snapshot(folder: Path, snapshot: Snapshot, about: Mapping[str, Any]) -> None:
    """Make a folder, made if need be, hold exactly a snapshot.

    Segments that it holds already stay as they are. The manifest is replaced last and at once, so a
    writer that is killed at any moment leaves the old index or the new one; what it left over is
    removed by the next. One process writes at a time: that is for the caller to see to.

    Args:
        folder: where to; may hold other files, which are let alone.
        snapshot: what to write.
        about: more entries for the manifest, for `read_snapshot` to return.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    entries = []
    for part in snapshot.parts:
        store_segment(part.segment, folder)
        entry = {"name": part.segment.name, "dead": None}
        if len(part.dead):
            entry["dead"] = _store_dead(folder, part)
        entries.append(entry)
    manifest = {
        **about,
        "format": _FORMAT,
        "passages": snapshot.passages,
        "total_length": snapshot.total_length,
        "segments": entries,
    }
    text = json.dumps(manifest, indent=1).encode()
    write_atomically(folder / MANIFEST, lambda file: file.write(text))
    _remove_leftovers(folder, entries)


def read_snapshot(folder: Path) -> tuple[Snapshot, dict[str, Any]]:
    """Open what a folder holds, and return it with its manifest; postings are mapped, not read.

    Raises:
        IndexFolderError: if there is no index, or a file is missing, damaged or of another format.
    """
    while True:
        text = _manifest(folder)
        try:
            return _opened(folder, text)
        except IndexFolderError:
            # A writer may have replaced the index between the two readings.
            if _manifest(folder) == text:
                raise


def _manifest(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise IndexFolderError(f"{folder} holds no readable sparse index: {error!r}") from error


def _opened(folder: Path, text: bytes) -> tuple[Snapshot, dict[str, Any]]:
    try:
        manifest = json.loads(text)
        written = manifest["format"]
        entries = [(str(entry["name"]), entry["dead"]) for entry in manifest["segments"]]
        expected = (manifest["passages"], manifest["total_length"])
    except (ValueError, KeyError, TypeError) as error:
        raise IndexFolderError(f"{folder / MANIFEST} is damaged: {error!r}") from error
    if written != _FORMAT:
        raise IndexFolderError(
            f"{folder} holds a sparse index of format {written!r}, this version reads {_FORMAT}; "
            "index again"
        )
    parts = []
    for name, dead in entries:
        if not _NAME.fullmatch(name) or not (dead is None or _NAME.fullmatch(str(dead))):
            raise IndexFolderError(f"{folder / MANIFEST} is damaged: it names {name!r}, {dead!r}")
        segment = open_segment(folder, name)
        part = LiveSegment(segment)
        if dead is not None:
            part = LiveSegment(segment, _read_dead(_dead_path(folder, name, dead), len(segment)))
        parts.append(part)
    snapshot = Snapshot(tuple(parts))
    found = (snapshot.passages, snapshot.total_length)
    kinds = {part.segment.holds_impacts for part in parts}
    if found != expected or len(kinds) > 1:
        raise IndexFolderError(
            f"{folder} holds parts of several sparse indexes: passages and their total length must "
            f"be {expected}, got {found}; index again"
        )
    return snapshot, manifest


def _dead_path(folder: Path, name: str, digest: str) -> Path:
    return folder / f"dead-{name}-{digest}.npy"


def _store_dead(folder: Path, part: LiveSegment) -> str:
    """Write the deleted rows of a segment under a name that says their content; return that."""
    buffer = io.BytesIO()
    np.save(buffer, part.dead, allow_pickle=False)
    digest = hashlib.sha256(part.dead.tobytes()).hexdigest()[:16]
    path = _dead_path(folder, part.segment.name, digest)
    if not path.exists():
        write_atomically(path, lambda file: file.write(buffer.getbuffer()))
    return digest


def _read_dead(path: Path, rows: int) -> np.ndarray:
    try:
        dead: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IndexFolderError(f"{path} is no readable list of deletions: {error!r}") from error
    right = dead.ndim == 1 and dead.dtype == np.int32 and len(dead) <= rows
    if not right or not (np.diff(dead, prepend=-1, append=rows) > 0).all():
        raise IndexFolderError(f"{path} does not list rows of its segment; index again")
    return dead


def _remove_leftovers(folder: Path, entries: list[dict[str, Any]]) -> None:
    """Remove what an index folder holds of ours and the manifest does not name."""
    named = {segment_folder(folder, entry["name"]) for entry in entries}
    named |= {_dead_path(folder, entry["name"], e) for entry in entries if (e := entry["dead"])}
    for path in folder.iterdir():
        if path not in named and _OURS.fullmatch(path.name):
            # What cannot be removed now is tried again by the next save.
            with contextlib.suppress(OSError):
                _remove(path)


def _remove(path: Path) -> None:
    if not path.is_dir():
        path.unlink()
        return
    if not path.name.startswith("."):
        # Without its name first: half a segment must never be taken for a whole one.
        path = path.rename(path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp"))
    shutil.rmtree(path)

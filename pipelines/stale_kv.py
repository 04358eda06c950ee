"""KV entries of documents that changed or are gone: noted before a commit, dropped after it."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from rag.errors import FolderLockedError
from rag.files import write_atomically

NOTE = "stale_kv.json"


def note_stale(index: Path, kv: Path, documents: Iterable[str]) -> None:
    """Write down whose entries in the store `kv` are out of date, beside those noted before.

    The note outlives a crash before they are dropped: nothing of a deleted document stays behind.
    """
    stale = {*documents, *_noted(index)}
    if stale and kv.exists():
        text = json.dumps(sorted(stale)).encode()
        write_atomically(index / NOTE, lambda file: file.write(text))


def drop_stale(index: Path, kv: Path) -> tuple[int, int]:
    """Drop what was noted; return how many entries went, and how many documents still wait.

    They wait while another process writes to the store.
    """
    stale = _noted(index)
    dropped = 0
    if stale and kv.exists():
        from kvstore.store import KVStore

        try:
            with KVStore(kv, ram_bytes=0, disk_bytes=sys.maxsize) as store:
                dropped = store.drop_documents(stale)
        except FolderLockedError:
            return 0, len(stale)
    (index / NOTE).unlink(missing_ok=True)
    return dropped, 0


def _noted(index: Path) -> list[str]:
    try:
        noted: list[str] = json.loads((index / NOTE).read_bytes())
    except FileNotFoundError:
        return []
    return noted

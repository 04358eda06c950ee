"""Hashes of model files, remembered: hashing gigabytes at every start would cost seconds."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from rag.files import write_atomically
from rag.models.user_cache import user_cache

WORTH_REMEMBERING = 16_000_000


def file_sha(path: Path) -> str:
    """Return the SHA-256 of a file's content in hex.

    That of a large file is kept in the user's cache by path, size and modification time.
    """
    stat = path.stat()
    memory = user_cache() / "fingerprints.json"
    label = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
    known = _remembered(memory) if stat.st_size >= WORTH_REMEMBERING else {}
    if label in known:
        return known[label]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if stat.st_size >= WORTH_REMEMBERING:
        content = json.dumps(known | {label: found}, indent=1).encode()
        write_atomically(memory, lambda file: file.write(content))
    return found


def fingerprint(files: Iterable[Path]) -> str:
    """Return one SHA-256 over names and contents of files, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(files, key=lambda file: file.name):
        total.update(f"{path.name}:{file_sha(path)}\n".encode())
    return total.hexdigest()


def _remembered(memory: Path) -> dict[str, str]:
    """Return what is known; nothing if the file is missing or damaged."""
    try:
        known = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {k: v for k, v in known.items() if isinstance(v, str)}

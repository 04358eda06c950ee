"""The user's runs: every run leaves its trace in one folder, and the newest are kept."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from rag.models.user_cache import user_cache
from rag.tracing.trace import Trace, TraceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

KEPT = 200
_OURS = re.compile(r"\d{8}T\d{9}Z-.*-[0-9a-f]{8}\.jsonl")


def runs_folder() -> Path:
    """Return the folder `runs` in the user's cache, made if it is missing."""
    folder = user_cache() / "runs"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def save(trace: Trace, folder: Path | None = None) -> Path:
    """Write a trace under a name that sorts by time, for its owner's eyes only.

    Of the files so named the newest 200 stay; no other file is touched.

    Args:
        trace: the run.
        folder: by default the user's runs.
    """
    folder = folder or runs_folder()
    path = folder / _name(trace.run)
    trace.write(path)
    for old in _runs(folder)[:-KEPT]:
        # Another run that ends just now may have deleted it already.
        with contextlib.suppress(FileNotFoundError):
            old.unlink()
    return path


def latest(folder: Path | None = None) -> Path:
    """Return the newest saved trace.

    Raises:
        TraceError: if there is none.
    """
    folder = folder or runs_folder()
    runs = _runs(folder)
    if not runs:
        raise TraceError(f"no run has been recorded yet in {folder}")
    return runs[-1]


def _runs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _OURS.fullmatch(path.name))


def _name(run: Mapping[str, Any]) -> str:
    digits = re.sub(r"\D", "", str(run["started"]).partition("+")[0])
    pipeline = re.sub(r"[^A-Za-z0-9_]+", "-", str(run.get("pipeline") or "run")).strip("-")[:40]
    return f"{digits[:8]}T{digits[8:17]:0<9}Z-{pipeline or 'run'}-{str(run['id'])[:8]}.jsonl"

"""What benchmarks share: how long calls take, and what to say of where they ran."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def milliseconds(work: Callable[[], Any]) -> float:
    """Return how long one call takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def times(
    works: Sequence[Callable[[], Any]], share: int = 1, *, warm: bool = False
) -> dict[str, float]:
    """Return median, 95th percentile, best and worst of calls that do alike work, in ms.

    Args:
        works: the calls.
        share: how many queries a call answers; times are those of one.
        warm: whether the first runs once more before all, untimed.
    """
    if warm:
        works[0]()
    taken = sorted(milliseconds(work) / share for work in works)
    return {
        "median_ms": round(statistics.median(taken), 4),
        "p95_ms": round(taken[int(0.95 * (len(taken) - 1))], 4),
        "best_ms": round(taken[0], 4),
        "worst_ms": round(taken[-1], 4),
    }


def markdown_table(
    columns: Sequence[tuple[str, str, str]], records: Sequence[Mapping[str, Any]]
) -> str:
    """Return records as a Markdown table; columns of text stand left, of numbers right.

    Args:
        columns: title, key of the record, and format of the value; what is None is shown as a dash.
        records: one a row, at least one.
    """
    texts = [isinstance(records[0][key], str) for _, key, _ in columns]
    lines = [
        "| " + " | ".join(title for title, _, _ in columns) + " |",
        "|" + "".join(" --- |" if text else " ---: |" for text in texts),
    ]
    for record in records:
        cells = [
            "-" if record[key] is None else form.format(record[key]) for _, key, form in columns
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """Return the commit, processor, threads and Python of this run."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    ).stdout.strip()
    return {
        "commit": commit,
        "cpu": _processor(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "python": sys.version.split()[0],
    }


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())

"""Journal of a training: one JSON record a line, for whoever wants to see its course."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rag.files import write_atomically

JOURNAL = "losses.jsonl"


class Journal:
    """Records of steps and looks, in the file `losses.jsonl` of a folder.

    `record` keeps a record in memory, `flush` writes what is new. A run that resumes drops what
    came after its state, so that the file holds every step once.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL
        self._new: list[str] = []

    def begin(self, step: int) -> None:
        """Drop the records of later steps than this one; 0 drops all.

        Args:
            step: steps done.
        """
        self._keep(step or -1)

    def resume(self, step: int) -> None:
        """Drop the records of later steps than this one, 0 or more: a first look stays.

        Args:
            step: steps done.
        """
        self._keep(step)

    def _keep(self, last: int) -> None:
        kept = [one for one in read_journal(self._path) if one["step"] <= last]
        text = "".join(json.dumps(one) + "\n" for one in kept)
        write_atomically(self._path, lambda file: file.write(text.encode()), mode=0o644)
        self._new = []

    def record(self, step: int, **told: float) -> None:
        """Note what there is to say of a step."""
        self._new.append(json.dumps({"step": step} | _rounded(told)) + "\n")

    def flush(self) -> None:
        """Write what is new."""
        if self._new:
            with self._path.open("a") as file:
                file.write("".join(self._new))
            self._new = []


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the records of a journal; a line that a crash cut off is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and "step" in found:
            records.append(found)
    return records


def of_steps(records: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """Return (step, value) of every record that has a value of that name."""
    return [(int(one["step"]), float(one[name])) for one in records if name in one]


def _rounded(told: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.6g}") for name, value in told.items()}

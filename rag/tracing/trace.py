"""A run's trace: one JSON object a line, in the order in which things happened."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rag.files import write_atomically


class Trace:
    """Collects the records of one run: spans with wall times, and events inside them.

    Attributes:
        records: plain JSON objects, each with `kind` (`run`, `span` or `event`), `name`, and
            `at_ms` since the run began.
    """

    def __init__(self, **about: Any) -> None:
        """Begin a run; `about` describes it."""
        self._began = time.perf_counter()
        self.records: list[dict[str, Any]] = []
        self._add("run", "run", about)

    @contextmanager
    def span(self, step: str) -> Iterator[None]:
        """Time a step; it is recorded when it ends, also by an error, which it names."""
        began = time.perf_counter()
        outcome: dict[str, Any] = {}
        try:
            yield
        except BaseException as error:
            outcome["error"] = f"{type(error).__name__}: {error}"
            raise
        finally:
            wall_ms = (time.perf_counter() - began) * 1e3
            self._add("span", step, {"wall_ms": round(wall_ms, 3), **outcome})

    def event(self, name: str, **data: Any) -> None:
        """Record that something happened."""
        self._add("event", name, data)

    def wall_ms(self, step: str) -> float:
        """Return the summed wall time of a step so far; 0 if it did not run."""
        return sum(
            float(record["wall_ms"])
            for record in self.records
            if record["kind"] == "span" and record["name"] == step
        )

    def lines(self) -> str:
        """Return the trace as JSON lines."""
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in self.records)

    def write(self, path: Path) -> None:
        """Write the trace to a file, whole or not at all."""
        content = self.lines().encode("utf-8", "backslashreplace")
        write_atomically(path, lambda file: file.write(content))

    def _add(self, kind: str, name: str, data: dict[str, Any]) -> None:
        at_ms = round((time.perf_counter() - self._began) * 1e3, 3)
        self.records.append({"kind": kind, "name": name, "at_ms": at_ms, **data})

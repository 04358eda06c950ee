"""A run's trace: one JSON object a line, in the order in which things ended."""

from __future__ import annotations

import json
import math
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rag.errors import DovetailError
from rag.files import write_atomically
from rag.tracing.describe import events_of
from rag.tracing.redaction import without_content, without_secrets

_KINDS = ("run", "span", "event")


class TraceError(DovetailError):
    """A file that is not a trace, or a damaged one; the message holds file and line."""


class Trace:
    """Collects the records of one run: spans with times, and events inside them.

    The first record is the run: `id`, `started` (UTC), `versions`, and what the caller says about
    it. A span is recorded when it ends; its `at_ms` is when it began, its `path` the step below the
    blocks that it runs in, `loop[2]/map[0]/retrieve`. An event belongs to the span of its `path`.

    Attributes:
        records: plain JSON objects, each with `kind` (`run`, `span` or `event`), `name`, and
            `at_ms` since the run began. Secrets and unwanted content are never among them.
        notes: what a person should know about how the trace was read.
    """

    def __init__(
        self,
        *,
        content: bool = True,
        secrets: Sequence[str] = (),
        **about: Any,
    ) -> None:
        """Begin a run.

        Args:
            content: whether texts are kept: of passages, prompts, answers, questions. Without, only
                ids, names and numbers are.
            secrets: texts that are replaced by `***` wherever they appear.
            **about: describes the run: `pipeline`, `pipeline_sha`, `overrides`, `inputs`.
        """
        self._began = time.perf_counter()
        self._content = content
        self._secrets = sorted({text for text in secrets if text}, key=len, reverse=True)
        self._described: set[tuple[str, str]] = set()
        self._open: list[str] = []
        self._live = True
        self.records: list[dict[str, Any]] = []
        self.notes: list[str] = []
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        known = {"id": uuid.uuid4().hex, "started": started} | (
            {} if content else {"content": False}
        )
        self._add("run", "run", 0.0, known | about)

    @classmethod
    def read(cls, path: Path) -> Trace:
        """Return the trace in a file.

        A last line that is cut off, as a full disk leaves it, is left out and said in `notes`.

        Raises:
            TraceError: naming file and line, if it is missing or not a trace.
        """
        try:
            text = path.read_bytes().decode("utf-8")
        except OSError as error:
            raise TraceError(f"cannot read the trace {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise TraceError(f"{path} is not a trace: {error}") from error
        trace = cls()
        trace._live = False
        trace.records = []
        lines = text.split("\n")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = _checked(line)
            except ValueError as error:
                if number == len(lines) > 1:
                    trace.notes.append(f"{path}:{number}: the last line is cut off and left out")
                    break
                raise TraceError(f"{path}:{number}: {error}") from error
            if (record["kind"] == "run") != (not trace.records):
                raise TraceError(f"{path}:{number}: a trace is one run, its first line")
            trace.records.append(record)
        if not trace.records:
            raise TraceError(f"{path} holds no run: it is empty")
        return trace

    @property
    def run(self) -> dict[str, Any]:
        """The record of the run."""
        return self.records[0]

    def about(self, **about: Any) -> None:
        """Say more of the run: `pipeline`, `pipeline_sha`, `overrides`, `inputs`."""
        self.records[0] = self._kept({**self.run, **about})

    @contextmanager
    def span(self, step: str, *, use: str = "", path: str = "") -> Iterator[None]:
        """Time a step; it is recorded when it ends, also by an error, which it names.

        Events without a path of their own that come meanwhile belong to it.

        Args:
            step: its id.
            use: short name of its operator.
            path: where it runs; by default below the spans that are open.
        """
        path = path or "/".join([*self._open[-1:], step])
        began, cpu = time.perf_counter(), time.process_time()
        error: str | None = None
        self._open.append(path)
        try:
            yield
        except BaseException as raised:
            error = f"{type(raised).__name__}: {raised}"
            raise
        finally:
            self._open.pop()
            wall_ms = (time.perf_counter() - began) * 1e3
            cpu_ms = (time.process_time() - cpu) * 1e3
            self.add_span(
                step, use=use, path=path, began=began, wall_ms=wall_ms, cpu_ms=cpu_ms, error=error
            )

    def add_span(
        self,
        name: str,
        *,
        use: str,
        path: str,
        began: float,
        wall_ms: float,
        cpu_ms: float | None = None,
        cached: bool = False,
        batch: int = 1,
        skipped: bool = False,
        error: str | None = None,
    ) -> None:
        """Record a step that has ended.

        Args:
            name: id of the step.
            use: short name of its operator, or empty.
            path: the step below the blocks that it ran in.
            began: `time.perf_counter()` of its begin.
            wall_ms: how long it took, shared by all items of a batch.
            cpu_ms: CPU time of the process meanwhile, where known.
            cached: whether the result came from the step's cache.
            batch: items that shared the call.
            skipped: whether its condition did not hold, so that it did not run.
            error: type and message of the error that ended it.
        """
        data: dict[str, Any] = {
            **({"use": use} if use else {}),
            "path": path,
            "wall_ms": round(wall_ms, 3),
            **({} if cpu_ms is None else {"cpu_ms": round(cpu_ms, 3)}),
            "peak_mb": _peak_mb(),
            "cached": cached,
            "batch": batch,
            **({"skipped": True} if skipped else {}),
            **({} if error is None else {"error": error}),
        }
        self._add("span", name, began - self._began, data)

    def event(self, name: str, *, step: str = "", path: str = "", **data: Any) -> None:
        """Record that something happened.

        Args:
            name: what: `retrieved`, `pruned`, `kv`, `prompt`, `generated`, `route`, `judge`, …
            step: id of the step that it happened in.
            path: of that step; by default of the span that is open.
            **data: plain JSON; `None` among its values is kept.
        """
        path = path or (self._open[-1] if self._open else "")
        where = ({"step": step} if step else {}) | ({"path": path} if path else {})
        self._add("event", name, time.perf_counter() - self._began, where | data)

    def output(self, value: Any, *, step: str = "", path: str = "") -> None:
        """Record what a step gave, as `events_of` tells it; a passage's text is kept once."""
        for name, data in events_of(value, self._described):
            self.event(name, step=step, path=path, **data)

    def wall_ms(self, step: str) -> float:
        """Return the summed wall time of a step so far; 0 if it did not run."""
        return sum(
            float(record["wall_ms"])
            for record in self.records
            if record["kind"] == "span" and record["name"] == step
        )

    def lines(self) -> str:
        """Return the trace as JSON lines; a number that JSON lacks (NaN, infinity) is null."""
        if self._live:
            self.run.setdefault("versions", _versions())
        return "".join(_line(record) + "\n" for record in self.records)

    def write(self, path: Path) -> None:
        """Write the trace to a file, whole or not at all."""
        content = self.lines().encode("utf-8", "backslashreplace")
        write_atomically(path, lambda file: file.write(content))

    def save(self, folder: Path | None = None) -> Path:
        """Write the trace where `dovetail inspect last` finds it; see `rag.tracing.runs.save`."""
        from rag.tracing.runs import save

        return save(self, folder)

    def _repr_html_(self) -> str:
        from rag.tracing.html import fragment

        return fragment(self)

    def _add(self, kind: str, name: str, at_s: float, data: Mapping[str, Any]) -> None:
        record = {"kind": kind, "name": name, "at_ms": round(at_s * 1e3, 3), **data}
        self.records.append(self._kept(record))

    def _kept(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return a record without what this trace must not hold."""
        if not self._content:
            record = without_content(record)
        return without_secrets(record, self._secrets) if self._secrets else record


def _checked(line: str) -> dict[str, Any]:
    """Return the record on a line, or say in a ValueError what it lacks."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(  # noqa: TRY004
            f"a record is a JSON object, got {type(record).__name__}"
        )
    if record.get("kind") not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {record.get('kind')!r}")
    numbers = ("at_ms", "wall_ms") if record["kind"] == "span" else ("at_ms",)
    for key in numbers:
        if not _is_number(record.get(key)):
            raise ValueError(f"{key} must be a number, got {record.get(key)!r}")
    for key in ("name", *(key for key in ("path", "use", "error") if key in record)):
        if not isinstance(record.get(key), str):
            raise ValueError(f"{key} must be a text, got {record.get(key)!r}")  # noqa: TRY004
    return record


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _line(record: dict[str, Any]) -> str:
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(record), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _versions() -> dict[str, str]:
    """Return versions of Python, of Dovetail and of those libraries that the run has loaded."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    loaded = [name for name in ("torch", "transformers") if name in sys.modules]
    for name, package in [("dovetail", "dovetail-rag"), *((name, name) for name in loaded)]:
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def _peak_mb() -> float:
    """Return the most memory that the process has held so far, in megabytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)

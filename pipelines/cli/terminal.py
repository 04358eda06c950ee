"""The terminal: results go to standard output, progress and remarks to standard error."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipelines.progress import Progress, Unwatched, watched_by

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

_SLOW_S = 2.0


def say(text: str = "") -> None:
    """Print a line of the result."""
    sys.stdout.write(_printable(text, sys.stdout.encoding) + "\n")


def say_json(value: Any) -> None:
    """Print the result as one JSON object."""
    say(json.dumps(value, ensure_ascii=False, indent=1))


def remark(text: str) -> None:
    """Print a line that is not part of the result."""
    sys.stderr.write(_printable(text, sys.stderr.encoding) + "\n")


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """Yield a progress to report to: bars on a terminal, a line per tenth elsewhere, or silence.

    Work that nobody handed a progress to finds it by `pipelines.progress.watching`.
    """
    with _shown(quiet=quiet) as shown, watched_by(shown):
        yield shown


@contextmanager
def _shown(*, quiet: bool) -> Iterator[Progress]:
    if quiet:
        yield Unwatched()
    elif not sys.stderr.isatty():
        yield _Lines()
    else:
        bars = _Bars()
        try:
            yield bars
        finally:
            bars.stop()


def plural(count: int, noun: str) -> str:
    """Return `1 passage`, `2,000 passages`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


class _Lines:
    """A line per stage and per tenth of it; a stage that takes no time has its first line only."""

    def __init__(self) -> None:
        self._name = ""
        self._total = self._done = self._shown = 0
        self._last = 0.0

    def stage(self, name: str, total: int) -> None:
        self._name, self._total, self._done, self._shown = name, total, 0, 0
        self._last = time.monotonic()
        if total:
            remark(f"{name}: {total:,}")

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        tenth = 10 * self._done // self._total if self._total else 0
        now = time.monotonic()
        if self._shown < tenth < 10 and now - self._last > _SLOW_S:
            remark(f"{self._name}: {10 * tenth} %")
            self._shown, self._last = tenth, now


class _Bars:
    """One bar a stage, on the terminal from its first step to its last only."""

    def __init__(self) -> None:
        self._bar: Bars | None = None
        self._left = 0

    def stage(self, name: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.stop()
        if not total:
            return
        columns = (
            TextColumn("{task.description:<20}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self._bar.add_task(name, total=total)
        self._left = total
        self._bar.start()

    def advance(self, steps: int = 1) -> None:
        if self._bar is None:
            return
        self._bar.advance(self._bar.task_ids[-1], steps)
        self._left -= steps
        if self._left <= 0:
            self.stop()

    def stop(self) -> None:
        """Take the bar off the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _printable(text: str, encoding: str | None) -> str:
    """Return a text that the stream can write: what its encoding lacks is escaped."""
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def edges_line(counts: Mapping[str, int]) -> str:
    """Return how many edges of each kind a corpus graph has, as a person reads it."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
    return f"corpus graph: {kinds or 'no edges'}"

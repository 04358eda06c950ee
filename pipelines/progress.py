"""Progress: what long work tells whoever watches it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Watches work that goes through stages, one after the other."""

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of `total` steps; the one before is over."""

    def advance(self, steps: int = 1) -> None:
        """Count steps of the current stage as done."""


class Unwatched:
    """A `Progress` that shows nothing."""

    def stage(self, name: str, total: int) -> None:
        """Ignore it."""

    def advance(self, steps: int = 1) -> None:
        """Ignore it."""


@dataclass(frozen=True)
class Named:
    """A `Progress` whose stages say what they are a part of.

    Attributes:
        progress: sees them.
        part: stands before the name of each.
    """

    progress: Progress
    part: str

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of `total` steps."""
        self.progress.stage(f"{self.part}: {name}", total)

    def advance(self, steps: int = 1) -> None:
        """Count steps of the current stage as done."""
        self.progress.advance(steps)


_watching: ContextVar[Progress | None] = ContextVar("progress", default=None)


def watching() -> Progress:
    """Return who watches the work of this context; nobody by default.

    For long work that a first question sets off deep inside a pipeline, such as encoding a corpus
    for another model.
    """
    return _watching.get() or Unwatched()


@contextmanager
def watched_by(progress: Progress) -> Iterator[Progress]:
    """Let `watching` return a progress while the block runs, in threads it starts for calls too."""
    token = _watching.set(progress)
    try:
        yield progress
    finally:
        _watching.reset(token)

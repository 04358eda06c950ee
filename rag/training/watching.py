"""Watching: what a trainer tells whoever waits for it."""

from collections.abc import Callable
from typing import Protocol


class Watcher(Protocol):
    """Watches work that goes through stages, one after the other."""

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of `total` steps; the one before is over."""

    def advance(self, steps: int = 1) -> None:
        """Count steps of the current stage as done."""


class Unwatched:
    """A watcher that shows nothing."""

    def stage(self, name: str, total: int) -> None:
        """Ignore it."""

    def advance(self, steps: int = 1) -> None:
        """Ignore it."""


def counting_up(watcher: Watcher) -> Callable[[int], None]:
    """Return what is told how many steps of the current stage are done so far."""
    before = 0

    def told(done: int) -> None:
        nonlocal before
        watcher.advance(done - before)
        before = done

    return told

"""Policies to measure a router under: what each takes of a route."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rag.records import Route
from rag.routing.policies import Policy, taken

Take = Callable[[Route], Sequence[str]]
BELOW = (0.7, 0.8, 0.9, 0.95)


def measured_policies(labels: Sequence[str]) -> dict[str, Take]:
    """Return what the policies take of a route, by the names that pages give them.

    Args:
        labels: all that the router knows.
    """
    return {
        name: partial(taken, policy=policy, threshold=threshold, labels=frozenset(labels))
        for name, policy, threshold in _POLICIES
    }


_POLICIES: tuple[tuple[str, Policy, float], ...] = (
    ("single", "single", 0.5),
    ("threshold 0.2", "threshold", 0.2),
    ("top_p 0.8", "top_p", 0.8),
    ("top_p 0.9", "top_p", 0.9),
    ("all", "all", 0.5),
    *((f"two below {below:g}", "unsure", below) for below in BELOW),
)

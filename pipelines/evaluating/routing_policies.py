"""Policies to measure a router under: what each takes of a route."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from pipelines.flow import blocks
from pipelines.flow.routing import chosen
from rag.evaluation.routing import most_probable
from rag.records import Route

Take = Callable[[Route], Sequence[str]]
BELOW = (0.7, 0.8, 0.9, 0.95)


def measured_policies(labels: Sequence[str]) -> dict[str, Take]:
    """Return what a pipeline's policies take of a route, and the two best where it is unsure.

    Args:
        labels: all that the router knows; each has an arm.
    """
    found: dict[str, Take] = {
        name: partial(chosen, block=_block(labels, policy, threshold))
        for name, policy, threshold in _POLICIES
    }
    for below in BELOW:
        found[f"two below {below:g}"] = partial(most_probable, most=2, below=below)
    return found


_POLICIES: tuple[tuple[str, blocks.Policy, float], ...] = (
    ("single", "single", 0.5),
    ("threshold 0.2", "threshold", 0.2),
    ("top_p 0.8", "top_p", 0.8),
    ("top_p 0.9", "top_p", 0.9),
    ("all", "all", 0.5),
)


def _block(labels: Sequence[str], policy: blocks.Policy, threshold: float) -> blocks.Route:
    arms: dict[str, tuple[blocks.Block, ...]] = dict.fromkeys(labels, ())
    return blocks.Route(by="router", arms=arms, policy=policy, threshold=threshold)

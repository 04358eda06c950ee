"""Which arms of a route are taken."""

from __future__ import annotations

from pipelines.flow import blocks
from rag.records import Judgement, Route
from rag.routing.policies import taken


def as_route(decision: Route | Judgement) -> Route:
    """Return a decision as a route; a judgement goes to `yes` or `no`."""
    if isinstance(decision, Judgement):
        label, other = ("yes", "no") if decision.passed else ("no", "yes")
        return Route((label,), {label: 1.0, other: 0.0}, source="judge")
    return decision


def chosen(route: Route, block: blocks.Route) -> list[str]:
    """Return the labels of the arms that a route takes under a block's policy.

    Labels without an arm are left out, and several arms go in declared order.
    `rag.routing.policies` says what each policy takes.
    """
    labels = taken(route, block.policy, block.threshold, labels=block.arms)
    return [label for label in block.arms if label in labels]

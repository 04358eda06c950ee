"""Which arms of a route are taken."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.flow import blocks
from rag.records import Judgement, Route


def as_route(decision: Route | Judgement) -> Route:
    """Return a decision as a route; a judgement goes to `yes` or `no`."""
    if isinstance(decision, Judgement):
        label, other = ("yes", "no") if decision.passed else ("no", "yes")
        return Route((label,), {label: 1.0, other: 0.0}, source="judge")
    return decision


def chosen(route: Route, block: blocks.Route) -> list[str]:
    """Return the labels of the arms that a route takes under a block's policy.

    `single` takes the first label; `threshold` every label whose probability reaches it; `top_p`
    the most probable labels until their probabilities add up to it, ties by label; `all` every
    label. Labels without an arm are left out, and several arms go in declared order.
    """
    if block.policy == "single":
        labels: Sequence[str] = route.labels[:1]
    elif block.policy == "all":
        labels = route.labels
    elif block.policy == "threshold":
        labels = [label for label, prob in route.probs.items() if prob >= block.threshold]
    else:
        labels = _most_probable(route, block.threshold)
    return [label for label in block.arms if label in labels]


def _most_probable(route: Route, sum_wanted: float) -> list[str]:
    labels: list[str] = []
    total = 0.0
    for label in sorted(route.probs, key=lambda label: (-route.probs[label], label)):
        # Probabilities such as 0.7, 0.2 and 0.1 add up to a little less than 1.
        if total >= sum_wanted - 1e-9:
            break
        labels.append(label)
        total += route.probs[label]
    return labels

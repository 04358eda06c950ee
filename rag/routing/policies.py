"""Policies: which labels of a route are taken."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

from rag.records import Route

Policy = Literal["single", "threshold", "top_p", "all", "unsure"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


def taken(
    route: Route,
    policy: Policy = "single",
    threshold: float = 0.5,
    *,
    most: int = 2,
    labels: Collection[str] | None = None,
    alone: str | None = None,
) -> tuple[str, ...]:
    """Return the labels that a policy takes of a route, each once, best first.

    `single` takes the route's first label and `all` its labels. The others go by the probabilities:
    `threshold` takes every label whose own reaches it; `top_p` the most probable labels until their
    probabilities add up to it; `unsure` the first label alone if its probability reaches it and the
    router did not fall back, else also the most probable of the others, `most` in all. Ties go by
    label.

    Args:
        route: with the probability of every label.
        policy: of the above.
        threshold: of `threshold`, `top_p` and `unsure`, in [0, 1].
        most: of `unsure`: labels where the router is not sure, at least 1.
        labels: those that may be taken; the others are passed over once the policy has chosen.
            None allows all.
        alone: a label that is not taken together with others: it is taken alone where it is more
            probable than all others together, and gives way elsewhere.

    Raises:
        ValueError: for an unknown policy, or a number outside its range.
    """
    _check(policy, threshold, most)
    if policy == "single":
        chosen = list(route.labels[:1])
    elif policy == "all":
        chosen = list(dict.fromkeys(route.labels))
    elif policy == "threshold":
        chosen = [label for label in _by_probability(route) if route.probs[label] >= threshold]
    elif policy == "top_p":
        chosen = _adding_up_to(route, threshold)
    else:
        chosen = _more_where_unsure(route, threshold, most)
    allowed = [label for label in chosen if labels is None or label in labels]
    if alone in allowed and route.probs.get(alone, 0.0) > 0.5:
        return (alone,)
    return tuple([label for label in allowed if label != alone] or allowed)


def _by_probability(route: Route) -> list[str]:
    return sorted(route.probs, key=lambda label: (-route.probs[label], label))


def _adding_up_to(route: Route, wanted: float) -> list[str]:
    labels: list[str] = []
    total = 0.0
    for label in _by_probability(route):
        # Probabilities such as 0.7, 0.2 and 0.1 add up to a little less than 1.
        if total >= wanted - 1e-9:
            break
        labels.append(label)
        total += route.probs[label]
    return labels


def _more_where_unsure(route: Route, threshold: float, most: int) -> list[str]:
    first = list(route.labels[:1])
    if first and route.probs.get(first[0], 0.0) >= threshold and not route.fallback:
        return first
    return [*first, *(label for label in _by_probability(route) if label not in first)][:most]


def _check(policy: Policy, threshold: float, most: int) -> None:
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold must be in [0, 1], got {threshold}")
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")

"""What every fusion asks of its rankings, weights and options."""

import math
from collections.abc import Sequence
from typing import Any

from rag.records import Hit

# The square of a score must not overflow: no search engine comes near.
_LARGEST = 1e150


def check_merge(top_k: int, weights: tuple[float, ...] | None = None) -> None:
    """Check the options of a fusion.

    Raises:
        ValueError: if top_k is below 1, or a weight is negative or not finite.
    """
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if weights is not None:
        _check_each(weights)


def check_weights(rankings: Sequence[Any], weights: Sequence[float]) -> None:
    """Check that there is one weight a ranking.

    Raises:
        ValueError: if the lengths differ, or a weight is negative or not finite.
    """
    if len(rankings) != len(weights):
        raise ValueError(
            f"rankings and weights must be as long, got {len(rankings)} and {len(weights)}"
        )
    _check_each(weights)


def scores_by_id(ranking: Sequence[Hit], place: int) -> dict[str, float]:
    """Return a ranking's scores by id, in its order.

    Args:
        ranking: the hits.
        place: its place among the rankings, for messages.

    Raises:
        ValueError: if an id occurs twice, or a score is not finite or beyond 1e150.
    """
    scores = {hit.id: float(hit.score) for hit in ranking}
    if len(scores) != len(ranking):
        raise ValueError(f"rankings[{place}] must hold each id once, got one twice")
    for score in scores.values():
        if not abs(score) <= _LARGEST:  # a NaN is no comparison's friend
            raise ValueError(
                f"rankings[{place}] must hold finite scores within 1e150 of 0, got {score}"
            )
    return scores


def check_one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise ValueError, naming the option, if its value is none of the allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")


def _check_each(weights: Sequence[float]) -> None:
    if not all(weight >= 0.0 and math.isfinite(weight) for weight in weights):
        raise ValueError(f"weights must be at least 0 and finite, got {list(weights)}")

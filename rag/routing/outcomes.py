"""Labels from outcomes: run every route alone, and send a question where it fares best for least.

The alternative is to label a question by the data set that it comes from, which teaches a router
the style of data sets. Source of both: Yeo et al. 2025 (UniversalRAG), arXiv:2504.20734, which
labels so where one modality has two granularities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rag.bounds import require_share

ORDER = ("none", "paragraph", "table", "image", "clip", "document", "video")
"""Labels of the usual corpora from cheap to dear: between equals the earlier one is taken."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one route fares alone on one question.

    Attributes:
        route: label of the corpus, or `none`.
        score: quality, in [0, 1]; 0 is a failure.
        cost: tokens that are read for it, at least 0.

    Raises:
        ValueError: if score or cost is out of range.
    """

    route: str
    score: float
    cost: float = 0.0

    def __post_init__(self) -> None:
        require_share(f"score of {self.route!r}", self.score)
        require_cost(f"cost of {self.route!r}", self.cost)


def best_routes(outcomes: Sequence[Outcome], tolerance: float = 0.0) -> tuple[str, ...]:
    """Return the routes whose score ties for the best, in their order.

    Where every route fails there is none: a tolerance makes no failure good.

    Args:
        outcomes: of one question, each route once.
        tolerance: how much less than the best still ties, in [0, 1].

    Raises:
        ValueError: if a route comes twice, or the tolerance is out of range.
    """
    require_share("tolerance", tolerance)
    routes = [one.route for one in outcomes]
    if len(set(routes)) < len(routes):
        raise ValueError(f"outcomes must hold each route once, got {', '.join(routes)}")
    best = max((one.score for one in outcomes), default=0.0)
    # Scores such as 0.8 and 0.7 differ by a little more than 0.1.
    least = best - tolerance - 1e-9
    return tuple(one.route for one in outcomes if one.score > 0.0 and one.score >= least)


def label_of(
    outcomes: Sequence[Outcome], order: Sequence[str] = ORDER, tolerance: float = 0.0
) -> str | None:
    """Return the cheapest of the best routes; None where every route fails.

    Args:
        outcomes: of one question, each route once.
        order: of routes that cost the same, the earliest here is taken; one that is not here comes
            after those that are, ties by name.
        tolerance: as of `best_routes`.
    """
    best = set(best_routes(outcomes, tolerance))
    place = {route: row for row, route in enumerate(order)}
    ranked = sorted(
        (one.cost, place.get(one.route, len(place)), one.route)
        for one in outcomes
        if one.route in best
    )
    return ranked[0][2] if ranked else None


def require_cost(name: str, value: float) -> None:
    """Refuse what is below 0 or not finite, by a ValueError that names it."""
    if not (math.isfinite(value) and value >= 0.0):
        raise ValueError(f"{name} must be at least 0 and finite, got {value}")

"""A labelling in figures: which labels, what is left out, how good each route is alone."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rag.evaluation.route_scores import best_single, mean_scores, oracle_scores

if TYPE_CHECKING:
    from pipelines.routing.outcomes import LabelledByOutcomes


def summary(found: LabelledByOutcomes, *, unjudged: int = 0) -> dict[str, Any]:
    """Return the figures of a labelling as plain JSON.

    Scores and costs are means over all questions that were tried, with those that every route
    fails.

    Args:
        found: with at least one question.
        unjudged: questions that were not tried, as nothing is known to judge them by.
    """
    scores = [{one.route: one.score for one in outcomes} for outcomes in found.outcomes.values()]
    costs = [{one.route: one.cost for one in outcomes} for outcomes in found.outcomes.values()]
    means, spent = mean_scores(scores), mean_scores(costs)
    single = best_single(scores, costs)
    oracle = oracle_scores(scores)
    labels = Counter(label for query in found.queries for label in query.labels)
    return {
        "tried": len(scores),
        "labelled": len(found.queries),
        "left_out": {"every route fails": len(found.failed), "nothing to judge by": unjudged},
        "labels": dict(sorted(labels.items())),
        "routes": {route: {"score": means[route], "cost": spent[route]} for route in means},
        "oracle": sum(oracle) / len(oracle),
        "best_single": {"route": single, "score": means[single]},
    }

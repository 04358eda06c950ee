"""Fusion: several rankings into one, by a weighted sum of min-max normalised scores."""

import math
from collections import defaultdict
from collections.abc import Sequence

from rag.records import Hit


def minmax_fusion(rankings: Sequence[Sequence[Hit]], weights: Sequence[float]) -> list[Hit]:
    """Return every id of the rankings once, best first, ties by id.

    An id's score is `sum over rankings of weight * (score - min) / (max - min)`; a ranking that
    lacks the id adds 0, and one whose scores are all equal adds its whole weight. The minimum is
    that of the ranking as given, so give each at one fixed depth, whatever is shown in the end. A
    ranking of weight 0 adds nothing, not even its ids. Source: Wang et al. 2021,
    doi:10.1145/3471158.3472233, whose code normalises every list.

    Args:
        rankings: hits with unique ids, in any order; each may be empty.
        weights: one a ranking, at least 0.

    Raises:
        ValueError: if the lengths differ, a weight is negative, a score is not finite, or an id
            occurs twice in a ranking.
    """
    if len(rankings) != len(weights):
        raise ValueError(
            f"rankings and weights must be as long, got {len(rankings)} and {len(weights)}"
        )
    if not all(weight >= 0.0 and math.isfinite(weight) for weight in weights):
        raise ValueError(f"weights must be at least 0 and finite, got {list(weights)}")
    fused: defaultdict[str, float] = defaultdict(float)
    for place, (ranking, weight) in enumerate(zip(rankings, weights, strict=True)):
        scores = {hit.id: hit.score for hit in ranking}
        if len(scores) != len(ranking):
            raise ValueError(f"rankings[{place}] must hold each id once, got one twice")
        if not all(map(math.isfinite, scores.values())):
            raise ValueError(f"rankings[{place}] must hold finite scores, got one that is not")
        if weight == 0.0 or not scores:
            continue
        low, high = min(scores.values()), max(scores.values())
        for id_, score in scores.items():
            fused[id_] += weight * ((score - low) / (high - low) if high > low else 1.0)
    ranked = [Hit(id_, score) for id_, score in fused.items()]
    return sorted(ranked, key=lambda hit: (-hit.score, hit.id))

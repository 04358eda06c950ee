"""Weighted sums of normalised scores: what score and rank fusions have in common."""

import math
from collections.abc import Callable, Sequence

from rag.records import Hit
from retrievers.fusion.checking import check_weights, scores_by_id
from retrievers.fusion.gaps import ZERO, Gaps, ListMissing

Scale = Callable[[float], float]
"""Takes a score of one ranking to where scores of all rankings compare."""

Normalise = Callable[[int, Sequence[float]], Scale]
"""`normalise(i, scores)`: the scale of ranking i, from all its scores, ascending, at least one."""


def weighted_sum(
    rankings: Sequence[Sequence[Hit]],
    weights: Sequence[float],
    normalise: Normalise,
    gaps: Gaps = ZERO,
) -> list[Hit]:
    """Return every id of the rankings once, by `sum of weight * scale(score)`, ties by id.

    A ranking of weight 0 adds nothing, not even its ids. Neither the order of the rankings nor that
    of the hits in them makes a difference, not in the last bit.

    Args:
        rankings: hits with unique ids and finite scores, in any order; each may be empty.
        weights: one a ranking, at least 0.
        normalise: gives the scale of each ranking.
        gaps: what an id counts in a ranking that lacks it.

    Raises:
        ValueError: if there are more or fewer weights or minima than rankings, a weight is negative
            or not finite, an id occurs twice in a ranking, or a score is not finite.
    """
    check_weights(rankings, weights)
    gaps.check_minima(len(rankings))
    listed = {place: scores_by_id(ranking, place) for place, ranking in enumerate(rankings)}
    counted = {place: scores for place, scores in listed.items() if weights[place] > 0.0}
    union = frozenset(id_ for scores in counted.values() for id_ in scores)
    terms: dict[str, list[float]] = {id_: [] for id_ in union}
    for place, scores in gaps.completed(counted, union).items():
        if not scores:
            continue
        weight, scale = weights[place], normalise(place, sorted(scores.values()))
        for id_, score in scores.items():
            terms[id_].append(weight * scale(score))
        filler = gaps.filler(place, scores)
        if filler is not None:
            added = weight * scale(filler)
            for id_ in union - scores.keys():
                terms[id_].append(added)
    # fsum rounds once, so the sum does not depend on the order of the rankings.
    hits = [Hit(id_, math.fsum(of_one)) for id_, of_one in terms.items()]
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


def weighted_points(
    rankings: Sequence[Sequence[Hit]],
    weights: Sequence[float],
    points: Callable[[int, int], float],
    missing: ListMissing = "zero",
) -> list[Hit]:
    """Return every id of the rankings once, by `sum of weight * points(rank, length)`, ties by id.

    Args:
        rankings: hits, best first, with unique ids; their scores are not read.
        weights: one a ranking, at least 0; one of weight 0 adds nothing, not even its ids.
        points: of a rank, from 1, in a ranking of some length.
        missing: `zero` adds 0 for a ranking that lacks the id, `min` what its last rank adds.

    Raises:
        ValueError: if there are more or fewer weights than rankings, a weight is negative or not
            finite, or an id occurs twice in a ranking.
    """
    pointed = [
        [Hit(hit.id, points(rank, len(ranking))) for rank, hit in enumerate(ranking, 1)]
        for ranking in rankings
    ]
    return weighted_sum(pointed, weights, lambda *_: float, Gaps(missing))

"""Z-score fusion: several rankings into one, by standard deviations from each ranking's mean."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, get_args

from rag.bounds import Bounds
from rag.records import Hit, Passage
from retrievers.fusion.checking import check_merge, check_one_of
from retrievers.fusion.gaps import ZERO, Gaps, ListMissing
from retrievers.fusion.merging import fused
from retrievers.fusion.weighted_sum import Scale, weighted_sum


@dataclass(frozen=True)
class ZScore:
    """Fuses rankings by a weighted sum of scores, each ranking's at mean 0 and deviation 1.

    A passage without a score counts as scored 0 before that. Only what stands in some ranking as a
    passage can be returned as one; `retrievers.fusion.merging.merged` says what becomes of the
    rest.
    Source: Montague and Aslam 2001, doi:10.1145/502585.502657.

    Attributes:
        top_k: passages to return, at least 1.
        weights: one a ranking, at least 0; None weighs all the same, and scores are their mean.
        missing: what a passage counts in a ranking that lacks it: `min` the least score there;
            `zero` is the mean there, more than the lower half gets.
    """

    top_k: Annotated[int, Bounds(low=1)] = 3
    weights: tuple[float, ...] | None = None
    missing: ListMissing = "min"

    def __post_init__(self) -> None:
        check_merge(self.top_k, self.weights)
        check_one_of("missing", self.missing, get_args(ListMissing))

    def __call__(self, rankings: Sequence[Sequence[Passage]]) -> list[Passage]:
        """Return the best passages of all rankings, ties by id, the rest as the tail.

        Args:
            rankings: each with unique ids and finite scores; each may be empty, as may all.

        Raises:
            ValueError: if there are more or fewer weights than rankings, or a ranking holds an id
                twice or a score that is not finite.
        """
        gaps = Gaps(self.missing)
        return fused(
            lambda hits, weights: zscore_fusion(hits, weights, gaps),
            rankings,
            self.weights,
            self.top_k,
        )


def zscore_fusion(
    rankings: Sequence[Sequence[Hit]], weights: Sequence[float], gaps: Gaps = ZERO
) -> list[Hit]:
    """Return every id of the rankings once, best first, ties by id.

    An id's score is `sum over rankings of weight * (score - mean) / sd`, with the population's
    standard deviation; a ranking whose scores are all equal adds 0. Beware of `missing="zero"`: 0
    is the mean of a ranking, so an id that it lacks beats the lower half of what it lists; `min`
    counts it as the least. A ranking of weight 0 adds nothing, not even its ids.
    Source: Montague and Aslam 2001, doi:10.1145/502585.502657 (their ZMUV).

    Args:
        rankings: hits with unique ids and finite scores, in any order; each may be empty.
        weights: one a ranking, at least 0.
        gaps: what an id counts in a ranking that lacks it.

    Raises:
        ValueError: if the lengths differ, a weight is negative, a score is not finite, or an id
            occurs twice in a ranking.
    """

    def scale(_: int, scores: Sequence[float]) -> Scale:
        mean, deviation = mean_and_deviation(scores)
        if deviation == 0.0:
            return lambda _: 0.0
        return lambda score: (score - mean) / deviation

    return weighted_sum(rankings, weights, scale, gaps)


def mean_and_deviation(scores: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the population's standard deviation, exactly 0 for equal scores.

    Args:
        scores: ascending, at least one.
    """
    if scores[0] == scores[-1]:
        return scores[0], 0.0
    mean = math.fsum(scores) / len(scores)
    # hypot neither overflows nor loses small deviations, as a sum of squares would.
    return mean, math.hypot(*(score - mean for score in scores)) / math.sqrt(len(scores))

"""TM2C2: a convex combination of scores, scaled from the theoretical minimum to the maximum."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, get_args

from rag.bounds import Bounds
from rag.records import Hit, Passage
from retrievers.fusion.checking import check_merge, check_one_of
from retrievers.fusion.gaps import Gaps, ListMissing
from retrievers.fusion.merging import fused
from retrievers.fusion.weighted_sum import Scale, weighted_sum

# A cosine may round to just below -1.
_MARGIN = 1e-6


@dataclass(frozen=True)
class TM2C2:
    """Fuses rankings by a weighted sum of scores, scaled from the least possible to the best found.

    Unlike min-max the scale does not depend on how deep a ranking goes. A passage without a score
    counts as scored 0 before scaling. Only what stands in some ranking as a passage can be returned
    as one; `retrievers.fusion.merging.merged` says what becomes of the rest.
    Source: Bruch et al. 2022, arXiv:2210.11934.

    Attributes:
        minima: the least possible score of each ranking: 0 for BM25, -1 for cosines.
        top_k: passages to return, at least 1.
        weights: one a ranking, at least 0; None weighs all the same, and scores stay in [0, 1].
        missing: what a passage counts in a ranking that lacks it: `zero` the least possible score,
            `min` the least found.
    """

    minima: tuple[float, ...]
    top_k: Annotated[int, Bounds(low=1)] = 3
    weights: tuple[float, ...] | None = None
    missing: ListMissing = "zero"

    def __post_init__(self) -> None:
        check_merge(self.top_k, self.weights)
        check_one_of("missing", self.missing, get_args(ListMissing))
        Gaps(self.missing, self.minima)

    def __call__(self, rankings: Sequence[Sequence[Passage]]) -> list[Passage]:
        """Return the best passages of all rankings, ties by id, the rest as the tail.

        Args:
            rankings: each with unique ids and finite scores; each may be empty, as may all.

        Raises:
            ValueError: if there are more or fewer weights or minima than rankings, or a ranking
                holds an id twice or a score that is not finite, or only scores below its minimum.
        """
        gaps = Gaps(self.missing, self.minima)
        return fused(
            lambda hits, weights: tm2c2_fusion(hits, weights, gaps),
            rankings,
            self.weights,
            self.top_k,
        )


def tm2c2_fusion(
    rankings: Sequence[Sequence[Hit]], weights: Sequence[float], gaps: Gaps
) -> list[Hit]:
    """Return every id of the rankings once, best first, ties by id.

    An id's score is `sum over rankings of weight * (score - m) / (max - m)`, with m the least score
    that the ranking's engine can give and max the best of the ranking. A ranking whose best is m
    tells nothing and adds 0. The theoretical minimum becomes 0, so `missing="zero"` and
    `"theoretical"` are the same. A ranking of weight 0 adds nothing, not even its ids. The source
    combines two rankings by weights that sum to 1; here any number, by any weights.
    Source: Bruch et al. 2022, arXiv:2210.11934.

    Args:
        rankings: hits with unique ids and finite scores, in any order; each may be empty.
        weights: one a ranking, at least 0.
        gaps: with minima; what an id counts in a ranking that lacks it.

    Raises:
        ValueError: if there are no minima, the lengths differ, a weight is negative, a score is not
            finite, an id occurs twice in a ranking, or all scores of one lie below its minimum.
    """
    minima = gaps.minima
    if minima is None:
        raise ValueError("tm2c2 needs minima, one a ranking, got None")

    def scale(place: int, scores: Sequence[float]) -> Scale:
        low, high = minima[place], scores[-1]
        if high < low - _MARGIN * max(1.0, abs(low)):
            raise ValueError(
                f"minima[{place}] must be at most the scores of rankings[{place}], got {low} "
                f"and at most {high}"
            )
        if high <= low:
            return lambda _: 0.0
        return lambda score: (score - low) / (high - low)

    return weighted_sum(rankings, weights, scale, gaps)

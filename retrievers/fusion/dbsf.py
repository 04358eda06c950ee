"""Distribution-based score fusion: each ranking scaled by its mean and three deviations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, get_args

from rag.bounds import Bounds
from rag.records import Hit, Passage
from retrievers.fusion.checking import check_merge, check_one_of
from retrievers.fusion.gaps import ZERO, Gaps, ListMissing
from retrievers.fusion.merging import fused
from retrievers.fusion.weighted_sum import Scale, weighted_sum
from retrievers.fusion.zscore import mean_and_deviation


@dataclass(frozen=True)
class DBSF:
    """Fuses rankings by a weighted sum of scores, each ranking's mean ± 3 deviations at [0, 1].

    A passage without a score counts as scored 0 before scaling. Only what stands in some ranking as
    a passage can be returned as one; `retrievers.fusion.merging.merged` says what becomes of the
    rest.
    Source: Mazzeschi 2023, https://github.com/atlantis-nova/hybrid-dbsf; Qdrant's variant.

    Attributes:
        top_k: passages to return, at least 1.
        weights: one a ranking, at least 0; None weighs all the same, and scores are their mean.
        missing: what a passage counts in a ranking that lacks it: 0, or the least score there.
    """

    top_k: Annotated[int, Bounds(low=1)] = 3
    weights: tuple[float, ...] | None = None
    missing: ListMissing = "zero"

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
            lambda hits, weights: dbsf_fusion(hits, weights, gaps),
            rankings,
            self.weights,
            self.top_k,
        )


def dbsf_fusion(
    rankings: Sequence[Sequence[Hit]], weights: Sequence[float], gaps: Gaps = ZERO
) -> list[Hit]:
    """Return every id of the rankings once, best first, ties by id.

    An id's score is `sum over rankings of weight * (score - (mean - 3 sd)) / (6 sd)`. As in Qdrant,
    Haystack and LlamaIndex nothing is clamped, so an outlier of a long ranking passes 1 and keeps
    its lead. They differ elsewhere. We sum over rankings as Qdrant and LlamaIndex do (Haystack
    keeps the largest); the deviation is the population's, as in Haystack and LlamaIndex (Qdrant
    divides by n - 1); a ranking of equal scores gives 1/2, the place of its mean (Haystack 0,
    LlamaIndex 1 or 0). A gap counts 0, as in all three: clearly less than the least listed id,
    which seldom stands three deviations low. A ranking of weight 0 adds nothing, not even its ids.
    Source: Mazzeschi 2023, https://github.com/atlantis-nova/hybrid-dbsf.

    Args:
        rankings: hits with unique ids and finite scores, in any order; each may be empty.
        weights: one a ranking, at least 0.
        gaps: what an id counts in a ranking that lacks it. A theoretical minimum counts 0 in a
            ranking of equal scores if it is lower than they are.

    Raises:
        ValueError: if the lengths differ, a weight is negative, a score is not finite, or an id
            occurs twice in a ranking.
    """

    def scale(_: int, scores: Sequence[float]) -> Scale:
        mean, deviation = mean_and_deviation(scores)
        if deviation == 0.0:
            return lambda score: 0.5 if score >= scores[0] else 0.0
        return lambda score: 0.5 + (score - mean) / deviation / 6.0

    return weighted_sum(rankings, weights, scale, gaps)

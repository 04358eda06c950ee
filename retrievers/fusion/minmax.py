"""Min-max fusion: several rankings into one, each ranking's scores scaled to [0, 1]."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.records import Hit, Passage
from retrievers.fusion.checking import check_merge
from retrievers.fusion.gaps import ZERO, Gaps
from retrievers.fusion.merging import fused
from retrievers.fusion.weighted_sum import Scale, weighted_sum


@dataclass(frozen=True)
class MinMax:
    """Fuses rankings by a weighted sum of scores, each ranking's scaled to [0, 1].

    The least score of a ranking, its tail included, counts 0, so rankings should be of one depth.
    A passage without a score counts as scored 0 before scaling. Only what stands in some ranking as
    a passage can be returned as one; `retrievers.fusion.merging.merged` says what becomes of the
    rest.
    Source: Wang et al. 2021, doi:10.1145/3471158.3472233.

    Attributes:
        top_k: passages to return, at least 1.
        weights: one a ranking, at least 0; None weighs all the same, and scores stay in [0, 1].
    """

    top_k: Annotated[int, Bounds(low=1)] = 3
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_merge(self.top_k, self.weights)

    def __call__(self, rankings: Sequence[Sequence[Passage]]) -> list[Passage]:
        """Return the best passages of all rankings, ties by id, the rest as the tail.

        Args:
            rankings: each with unique ids and finite scores; each may be empty, as may all.

        Raises:
            ValueError: if there are more or fewer weights than rankings, or a ranking holds an id
                twice or a score that is not finite.
        """
        return fused(minmax_fusion, rankings, self.weights, self.top_k)


def minmax_fusion(
    rankings: Sequence[Sequence[Hit]], weights: Sequence[float], gaps: Gaps = ZERO
) -> list[Hit]:
    """Return every id of the rankings once, best first, ties by id.

    An id's score is `sum over rankings of weight * (score - min) / (max - min)`; a ranking that
    lacks the id adds 0, and one whose scores are all equal adds its whole weight. The minimum is
    that of the ranking as given, so give each at one fixed depth, whatever is shown in the end. A
    ranking of weight 0 adds nothing, not even its ids. Source: Wang et al. 2021,
    doi:10.1145/3471158.3472233, whose code normalises every list.

    `missing="min"` is the same as `zero` but for a ranking of equal scores, whose least is also its
    most: there a gap counts 1. A theoretical minimum counts 0 in such a ranking if it is lower than
    the scores, and in any other as much below 0 as it is below the least.

    Args:
        rankings: hits with unique ids and finite scores, in any order; each may be empty.
        weights: one a ranking, at least 0.
        gaps: what an id counts in a ranking that lacks it.

    Raises:
        ValueError: if the lengths differ, a weight is negative, a score is not finite, or an id
            occurs twice in a ranking.
    """

    def scale(_: int, scores: Sequence[float]) -> Scale:
        low, high = scores[0], scores[-1]
        if low == high:
            return lambda score: 1.0 if score >= low else 0.0
        return lambda score: (score - low) / (high - low)

    return weighted_sum(rankings, weights, scale, gaps)

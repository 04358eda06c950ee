"""Reciprocal rank fusion: several rankings into one, by ranks alone."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.records import Hit, Passage
from retrievers.fusion.merging import check_merge, checked_weights, merged, ranking_hits


@dataclass(frozen=True)
class RRF:
    """Fuses rankings by a weighted sum of `1 / (k + rank)`.

    Ranks count from 1 and run on through the tails. A ranking that lacks a passage adds 0, and one
    of weight 0 adds nothing, not even its passages. Only what stands in some ranking as a passage
    can be returned as one (`retrievers.fusion.merging.merged` says what becomes of the rest).
    Source: Cormack et al. 2009, doi:10.1145/1571941.1572114, whose k is 60.

    Attributes:
        top_k: passages to return, at least 1.
        k: how slowly the weight of a rank falls, at least 0.
        weights: one a ranking, at least 0; None weighs all the same.
    """

    top_k: Annotated[int, Bounds(low=1)] = 3
    k: Annotated[int, Bounds(low=0)] = 60
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_merge(self.top_k, self.weights)
        if self.k < 0:
            raise ValueError(f"k must be at least 0, got {self.k}")

    def __call__(self, rankings: Sequence[Sequence[Passage]]) -> list[Passage]:
        """Return the best passages of all rankings, ties by id, the rest as the tail.

        Args:
            rankings: each best first with unique ids; each may be empty, as may all.

        Raises:
            ValueError: if there are more or fewer weights than rankings.
        """
        weights = checked_weights(self.weights, rankings)
        hits = reciprocal_rank_fusion(ranking_hits(rankings), weights, k=self.k)
        return merged(hits, rankings, self.top_k)


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[Hit]], weights: Sequence[float], *, k: int = 60
) -> list[Hit]:
    """Return every id of the rankings once, best first, ties by id.

    Args:
        rankings: hits, best first, with unique ids; their scores are not read.
        weights: one a ranking, at least 0.
        k: added to each rank, which counts from 1.
    """
    fused: defaultdict[str, float] = defaultdict(float)
    for ranking, weight in zip(rankings, weights, strict=True):
        if weight == 0.0:
            continue
        for rank, hit in enumerate(ranking, 1):
            fused[hit.id] += weight / (k + rank)
    ranked = [Hit(id_, score) for id_, score in fused.items()]
    return sorted(ranked, key=lambda hit: (-hit.score, hit.id))

"""Reciprocal rank fusion: several rankings into one, by ranks alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.records import Hit, Passage
from retrievers.fusion.checking import check_merge
from retrievers.fusion.gaps import ListMissing
from retrievers.fusion.merging import fused
from retrievers.fusion.weighted_sum import weighted_points


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
        weights: one a ranking, at least 0; None gives each weight 1, as the source does.
    """

    top_k: Annotated[int, Bounds(low=1)] = 3
    k: Annotated[int, Bounds(low=0)] = 60
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_merge(self.top_k, self.weights)
        _check_k(self.k)

    def __call__(self, rankings: Sequence[Sequence[Passage]]) -> list[Passage]:
        """Return the best passages of all rankings, ties by id, the rest as the tail.

        Args:
            rankings: each best first with unique ids; each may be empty, as may all.

        Raises:
            ValueError: if there are more or fewer weights than rankings, or a ranking holds an id
                twice.
        """
        return fused(
            lambda hits, weights: reciprocal_rank_fusion(hits, weights, k=self.k),
            rankings,
            (1.0,) * len(rankings) if self.weights is None else self.weights,
            self.top_k,
        )


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[Hit]],
    weights: Sequence[float],
    *,
    k: int = 60,
    missing: ListMissing = "zero",
) -> list[Hit]:
    """Return every id of the rankings once, best first, ties by id.

    Ranks count from 1. Others count from 0: Haystack's 61 is our 60, LlamaIndex's 60 our 59, and
    Qdrant's default of 2 our 1.

    Args:
        rankings: hits, best first, with unique ids; their scores are not read.
        weights: one a ranking, at least 0; one of weight 0 adds nothing, not even its ids.
        k: added to each rank, which counts from 1.
        missing: `zero` adds 0 for a ranking that lacks the id, `min` what its last rank adds.

    Raises:
        ValueError: if the lengths differ, a weight or k is negative, or an id occurs twice in a
            ranking.
    """
    _check_k(k)
    return weighted_points(rankings, weights, lambda rank, _: 1.0 / (k + rank), missing)


def _check_k(k: int) -> None:
    if k < 0:
        raise ValueError(f"k must be at least 0, got {k}")

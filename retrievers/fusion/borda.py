"""Borda count: several rankings into one, each rank worth its distance to the ranking's end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, get_args

from rag.bounds import Bounds
from rag.records import Hit, Passage
from retrievers.fusion.checking import check_merge, check_one_of
from retrievers.fusion.gaps import ListMissing
from retrievers.fusion.merging import fused
from retrievers.fusion.weighted_sum import weighted_points


@dataclass(frozen=True)
class Borda:
    """Fuses rankings by a weighted sum of `(n - rank + 1) / n`, n the ranking's length.

    Ranks count from 1 and run on through the tails, which count in n. Only what stands in some
    ranking as a passage can be returned as one (`retrievers.fusion.merging.merged` says what
    becomes of the rest).
    Source: Aslam and Montague 2001, doi:10.1145/383952.384007.

    Attributes:
        top_k: passages to return, at least 1.
        weights: one a ranking, at least 0; None weighs all the same, and scores stay in [0, 1].
        missing: what a passage counts in a ranking that lacks it: 0, or `1 / n` as the last.
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
            rankings: each best first with unique ids; each may be empty, as may all.

        Raises:
            ValueError: if there are more or fewer weights than rankings, or a ranking holds an id
                twice.
        """
        return fused(
            lambda hits, weights: borda_fusion(hits, weights, missing=self.missing),
            rankings,
            self.weights,
            self.top_k,
        )


def borda_fusion(
    rankings: Sequence[Sequence[Hit]], weights: Sequence[float], *, missing: ListMissing = "zero"
) -> list[Hit]:
    """Return every id of the rankings once, best first, ties by id.

    A rank is worth `(n - rank + 1) / n` with n the length of its own ranking, not of the union: so
    the last of a ranking is worth next to nothing, as an absent id is, and what a ranking adds does
    not depend on the others. The count of the source, where voters rank all candidates, shares the
    points that are left among those absent; we give none.
    Source: Aslam and Montague 2001, doi:10.1145/383952.384007; divided by n as in Li et al. 2021,
    arXiv:2108.11044.

    Args:
        rankings: hits, best first, with unique ids; their scores are not read.
        weights: one a ranking, at least 0; one of weight 0 adds nothing, not even its ids.
        missing: `zero` adds 0 for a ranking that lacks the id, `min` what its last rank adds.

    Raises:
        ValueError: if the lengths differ, a weight is negative, or an id occurs twice in a ranking.
    """
    return weighted_points(rankings, weights, lambda rank, n: (n - rank + 1) / n, missing)

"""Interleaving: the best of each ranking in turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Annotated

from rag.bounds import Bounds
from rag.records import Hit, Passage
from retrievers.fusion.checking import check_merge, check_weights
from retrievers.fusion.merging import fused, in_order


@dataclass(frozen=True)
class Interleave:
    """Takes the first of each ranking in declared order, then the second of each, and so on.

    What came already is passed over. Each ranking gets a voice, whatever its scores, so parts of a
    question that were searched one by one are all answered for. Scores are `1 / rank` in the
    result. Only what stands in some ranking as a passage can be returned as one
    (`retrievers.fusion.merging.merged` says what becomes of the rest).

    Attributes:
        top_k: passages to return, at least 1.
    """

    top_k: Annotated[int, Bounds(low=1)] = 3

    def __post_init__(self) -> None:
        check_merge(self.top_k)

    def __call__(self, rankings: Sequence[Sequence[Passage]]) -> list[Passage]:
        """Return the passages in turn, the rest as the tail.

        Args:
            rankings: each best first; each may be empty, as may all.
        """
        return fused(interleave, rankings, None, self.top_k)


def interleave(rankings: Sequence[Sequence[Hit]], weights: Sequence[float]) -> list[Hit]:
    """Return every id of the rankings once, the first of each ranking first, and so on.

    An id that came already is passed over. Scores are `1 / rank` in the result. Turns go in the
    order of the rankings, so that order counts, unlike in every other fusion.

    Args:
        rankings: hits, best first; their scores are not read.
        weights: one a ranking, at least 0; one of weight 0 has no turn, and otherwise the weight
            makes no difference.

    Raises:
        ValueError: if the lengths differ, or a weight is negative or not finite.
    """
    check_weights(rankings, weights)
    voices = [ranking for ranking, w in zip(rankings, weights, strict=True) if w > 0.0]
    turns = chain.from_iterable(zip_longest(*voices))
    return in_order([hit.id for hit in turns if hit is not None])

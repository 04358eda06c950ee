"""Interleaving: the best of each ranking in turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Annotated

from rag.bounds import Bounds
from rag.records import Passage
from retrievers.fusion.merging import check_merge, in_order, merged, ranking_hits


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
        turns = zip_longest(*ranking_hits(rankings))
        ids = [hit.id for hit in chain.from_iterable(turns) if hit is not None]
        return merged(in_order(ids), rankings, self.top_k)

"""Union: passages found so far, and then what a new search found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.ranking import Ranking
from rag.records import Passage
from retrievers.fusion.checking import check_merge
from retrievers.fusion.merging import in_order, merged


@dataclass(frozen=True)
class Union:
    """Gathers passages over the rounds of a loop; what is there keeps its place.

    New passages follow the earlier ones, in their order; what is there already is passed over, and
    the earlier copy stays. Scores of different queries do not compare, so they become `1 / rank`
    in the result. Tails follow the passages, the earlier first.
    Source: Trivedi et al. 2022 (IRCoT), arXiv:2212.10509, which gathers at most 15 paragraphs.

    Attributes:
        top_k: most passages to keep, at least 1; once there, later rounds add none.
    """

    top_k: Annotated[int, Bounds(low=1)] = 15

    def __post_init__(self) -> None:
        check_merge(self.top_k)

    def __call__(self, passages: Sequence[Passage], found: Sequence[Passage]) -> list[Passage]:
        """Return the passages and then what is new in `found`.

        Args:
            passages: from earlier rounds; may be empty.
            found: from this round, best first; may be empty.
        """
        both = (Ranking.of(passages), Ranking.of(found))
        read = [passage.id for ranking in both for passage in ranking]
        unread = [hit.id for ranking in both for hit in ranking.tail]
        return merged(in_order([*read, *unread]), both, self.top_k)

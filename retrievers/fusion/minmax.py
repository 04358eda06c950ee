"""Min-max fusion of passages: several rankings into one, by their normalised scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.records import Passage
from retrievers.fusion.merging import check_merge, checked_weights, merged, ranking_hits
from retrievers.fusion.scores import minmax_fusion


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
        weights = checked_weights(self.weights, rankings)
        share = 1.0 / max(1, len(rankings)) if self.weights is None else 1.0
        hits = minmax_fusion(ranking_hits(rankings), [share * weight for weight in weights])
        return merged(hits, rankings, self.top_k)

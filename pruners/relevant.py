"""Relevant passages: drop whole passages that are not about the question."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.protocols import Encoder
from rag.records import Passage, Query
from rag.similarity import passage_cosines


@dataclass(frozen=True)
class RelevantPassages:
    """Keeps the passages whose cosine with the question reaches a threshold, in their order.

    Training-free stand-in for the source's ISREL token. Title and whole text are compared, whatever
    was pruned; scores stay the retriever's, and a tail is dropped with what was not read.
    Source: Asai et al. 2023 (Self-RAG), arXiv:2310.11511.

    Attributes:
        encoder: makes the vectors of question and passages.
        threshold: least cosine, in [-1, 1]; at -1 all stay.
        min_keep: passages that stay whatever their cosine, the closest, ties to the earlier.
    """

    encoder: Encoder
    threshold: Annotated[float, Bounds(low=-1, high=1)] = 0.3
    min_keep: Annotated[int, Bounds(low=0)] = 1

    def __post_init__(self) -> None:
        if not -1.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold must be in [-1, 1], got {self.threshold}")
        if self.min_keep < 0:
            raise ValueError(f"min_keep must be at least 0, got {self.min_keep}")

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[Passage]:
        """Return the relevant passages, unchanged and in the same order; may be empty."""
        return self.batch(query=[query], passages=[passages])[0]

    def batch(
        self, *, query: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[Passage]]:
        """Return the relevant passages of each query; all texts are encoded in one call."""
        cosines = passage_cosines(self.encoder, query, passages)
        return [self._kept(p, c) for p, c in zip(passages, cosines, strict=True)]

    def _kept(self, passages: Sequence[Passage], cosines: Sequence[float]) -> list[Passage]:
        closest = sorted(range(len(passages)), key=lambda row: (-cosines[row], row))
        saved = set(closest[: self.min_keep])
        return [
            passage
            for row, passage in enumerate(passages)
            if cosines[row] >= self.threshold or row in saved
        ]

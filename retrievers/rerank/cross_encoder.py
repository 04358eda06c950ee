"""Cross-encoder: query and passage read together by one model, which scores the pair."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np

from rag.bounds import Bounds
from rag.records import Passage, Query
from retrievers.rerank.reordering import check_top_k, reranked


class Scorer(Protocol):
    """Pairs to scores; `rag.models.cross_encoder.PairScorer` is one."""

    def scores(self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 32) -> np.ndarray:
        """Return the score of each pair of query and passage, (n,), finite."""


@dataclass(frozen=True)
class CrossEncoderReranker:
    """Reranker by a cross-encoder: slow and strong, for a few dozen passages.

    A passage is read with its title. Source: Nogueira and Cho 2019, arXiv:1901.04085.

    Attributes:
        model: scores pairs.
        top_k: passages to keep, at least 1; None keeps all.
        batch_size: pairs that the model reads at a time, at least 1.
    """

    model: Scorer
    top_k: Annotated[int, Bounds(low=1)] | None = None
    batch_size: Annotated[int, Bounds(low=1)] = 32

    def __post_init__(self) -> None:
        check_top_k(self.top_k)
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[Passage]:
        """Return the passages by the model's scores, best first, ties by id; a `Ranking`."""
        return self.batch(query=[query], passages=[passages])[0]

    def batch(
        self, *, query: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[Passage]]:
        """Return each query's passages reranked; all pairs go to the model in one call."""
        pairs = [
            (one.text, passage.searchable)
            for one, found in zip(query, passages, strict=True)
            for passage in found
        ]
        scores = self.model.scores(pairs, batch_size=self.batch_size)
        ends = np.cumsum([len(found) for found in passages])
        parts = np.split(scores, ends[:-1]) if len(passages) else []
        return [
            reranked(found, of_query.tolist(), self.top_k)
            for found, of_query in zip(passages, parts, strict=True)
        ]

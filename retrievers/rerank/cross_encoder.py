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

    A passage is read with its title; of a pair over the model's window the end of the longer text
    is not read, so passages should fit. Equal pairs are read once. Scores move with the batch by
    the model's rounding, about 1e-6. Source: Nogueira and Cho 2019, arXiv:1901.04085.

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
        """Return the passages by the model's scores, best first, ties by id; a `Ranking`.

        Raises:
            ValueError: if a score is not finite.
        """
        return self.batch(query=[query], passages=[passages])[0]

    def batch(
        self, *, query: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[Passage]]:
        """Return each query's passages reranked; all pairs go to the model in one call."""
        asked = [
            [(one.text, passage.searchable) for passage in found]
            for one, found in zip(query, passages, strict=True)
        ]
        pairs = list(dict.fromkeys(pair for of_query in asked for pair in of_query))
        scores = self.model.scores(pairs, batch_size=self.batch_size).tolist()
        of_pair = dict(zip(pairs, scores, strict=True))
        return [
            reranked(found, [of_pair[pair] for pair in of_query], self.top_k)
            for found, of_query in zip(passages, asked, strict=True)
        ]

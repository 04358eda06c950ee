"""Maximal marginal relevance: keep passages that are relevant and say different things."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from rag.bounds import Bounds
from rag.protocols import Encoder
from rag.ranking import Ranking
from rag.records import Passage, Query
from retrievers.cosines import products, unit
from retrievers.falling_scores import tail_after, with_falling_scores
from retrievers.pairs import check_pairs
from retrievers.stored_vectors import StoredVectors, VectorsOf, stored_or_encoded


@dataclass(frozen=True)
class MMR:
    """Reranker that weighs relevance to the query against likeness to what was taken before.

    Passages come in the order in which they are taken, and score what they were taken for:
    `w * cos(query, p) - (1 - w) * nearest`, lowered where that would rise. Ties go to the lower id.
    Source: Carbonell and Goldstein 1998, doi:10.1145/290941.291025.

    Attributes:
        stored: gives the passages' vectors, by its method `vectors` or called with ids.
        encoder: made them; encodes the query, and passages that have no stored vector.
        top_k: passages to keep, at least 1; what is left goes to the tail in its old order.
        relevance_weight: w, in [0, 1]; 1 ranks by similarity alone.
    """

    stored: StoredVectors | VectorsOf
    encoder: Encoder
    top_k: Annotated[int, Bounds(low=1)] = 3
    relevance_weight: Annotated[float, Bounds(low=0, high=1)] = 0.5

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if not 0.0 <= self.relevance_weight <= 1.0:
            raise ValueError(f"relevance_weight must be in [0, 1], got {self.relevance_weight}")

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[Passage]:
        """Return the passages taken, in order; a `Ranking`."""
        return self.batch(query=[query], passages=[passages])[0]

    def batch(
        self, *, query: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[Passage]]:
        """Return each query's passages; all queries are encoded in one call."""
        check_pairs(query, passages)
        read = {passage.id: passage for found in passages for passage in found}
        vectors = stored_or_encoded(self.stored, self.encoder, read)
        asked = self.encoder.encode_queries([one.text for one in query])
        return [
            self._taken(vector, found, vectors)
            for vector, found in zip(asked, passages, strict=True)
        ]

    def _taken(
        self, query: np.ndarray, passages: Sequence[Passage], vectors: dict[str, np.ndarray]
    ) -> Ranking:
        # In the order of ids, so that ties go by id.
        by_id = sorted(passages, key=lambda passage: passage.id)
        if not by_id:
            return Ranking((), Ranking.of(passages).tail)
        stacked = np.stack([vectors[passage.id] for passage in by_id])
        rows, gains = mmr_order(query, stacked, self.top_k, self.relevance_weight)
        found = with_falling_scores(zip((by_id[row] for row in rows), gains.tolist(), strict=True))
        return Ranking(found, tail_after(found, passages))


def mmr_order(
    query: np.ndarray, passages: np.ndarray, k: int, relevance_weight: float
) -> tuple[list[int], np.ndarray]:
    """Return the rows taken, in order, and what each was taken for, float64 (min(k, n),).

    The first is the most relevant; ties go to the lower row. The largest similarity of each passage
    to one taken is kept from step to step, so the cost grows with n * k. A vector of length 0 has
    cosine 0 with all.

    Args:
        query: (dim,), any norm.
        passages: (n, dim), any norms; n may be 0.
        k: rows to take, at least 1; all if there are fewer.
        relevance_weight: in [0, 1].

    Raises:
        ValueError: if the shapes do not fit together.
    """
    if passages.ndim != 2 or query.shape != passages.shape[1:]:
        raise ValueError(
            f"query and passages must be (dim,) and (n, dim), got {query.shape} and "
            f"{passages.shape}"
        )
    units = unit(passages)
    relevance = products(units, unit(query[None])[0])  # (n,)
    gains = relevance_weight * relevance
    score, nearest = relevance.copy(), np.full(len(units), -np.inf)
    rows: list[int] = []
    worth: list[float] = []
    for _ in range(min(k, len(units))):
        best = int(score.argmax())
        worth.append(float(gains[best] if not rows else score[best]))
        rows.append(best)
        np.maximum(nearest, products(units, units[best]), out=nearest)
        score = gains - (1.0 - relevance_weight) * nearest
        score[rows] = -np.inf
    return rows, np.array(worth)

"""Maximal marginal relevance: keep passages that are relevant and say different things."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Protocol

import numpy as np

from rag.bounds import Bounds
from rag.protocols import Encoder
from rag.ranking import Ranking
from rag.records import Hit, Passage, Query


class StoredVectors(Protocol):
    """What hands back vectors of passages: any `VectorSearch`, or a retriever."""

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return the vectors of passages, (n, dim); raises KeyError for an unknown id."""


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

    stored: StoredVectors | Callable[[Sequence[str]], np.ndarray]
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
        if len(query) != len(passages):
            raise ValueError(
                f"query and passages must be as long, got {len(query)} and {len(passages)}"
            )
        vectors = self._vectors({passage.id: passage for found in passages for passage in found})
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
        found: list[Passage] = []
        for row, gain in zip(rows, gains.tolist(), strict=True):
            found.append(replace(by_id[row], score=_below(found, gain, by_id[row].id)))
        taken = {passage.id for passage in found}
        rest = [hit.id for hit in Ranking.of(passages).hits if hit.id not in taken]
        last = found[-1].score or 0.0
        return Ranking(found, [Hit(id_, last - rank) for rank, id_ in enumerate(rest, 1)])

    def _vectors(self, passages: dict[str, Passage]) -> dict[str, np.ndarray]:
        """Return a vector for each id: the stored one, or that of the text where there is none."""
        ids = list(passages)
        stored = self.stored.vectors if hasattr(self.stored, "vectors") else self.stored
        if not ids:
            return {}
        try:
            return dict(zip(ids, stored(ids), strict=True))
        except KeyError:
            vectors: dict[str, np.ndarray] = {}
            for id_ in ids:
                with suppress(KeyError):
                    (vectors[id_],) = stored([id_])
            missing = [id_ for id_ in ids if id_ not in vectors]
            encoded = self.encoder.encode([passages[id_].searchable for id_ in missing])
            return vectors | dict(zip(missing, encoded, strict=True))


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
    unit = _unit(passages)
    relevance = _products(unit, _unit(query[None])[0])  # (n,)
    gains = relevance_weight * relevance
    score, nearest = relevance.copy(), np.full(len(unit), -np.inf)
    rows: list[int] = []
    worth: list[float] = []
    for _ in range(min(k, len(unit))):
        best = int(score.argmax())
        worth.append(float(gains[best] if not rows else score[best]))
        rows.append(best)
        np.maximum(nearest, _products(unit, unit[best]), out=nearest)
        score = gains - (1.0 - relevance_weight) * nearest
        score[rows] = -np.inf
    return rows, np.array(worth)


def _below(taken: Sequence[Passage], gain: float, id_: str) -> float:
    """Return a gain, lowered to what keeps a ranking in order: scores fall, ties go by id."""
    if not taken or taken[-1].score is None:
        return gain
    last = taken[-1].score
    return min(gain, last if id_ > taken[-1].id else math.nextafter(last, -math.inf))


def _products(rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return inner products that are the same, bit for bit, for equal rows.

    A matrix product sums some rows in another order than others, which would break ties.
    """
    found: np.ndarray = np.einsum("nd,d->n", rows, vector)
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    exact = vectors.astype(np.float64)
    norms = np.linalg.norm(exact, axis=-1, keepdims=True)
    unit: np.ndarray = np.divide(exact, norms, out=np.zeros_like(exact), where=norms > 0)
    return unit

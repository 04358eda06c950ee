"""Hybrid retrieval: sparse and dense rankings of one query, interpolated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from rag.bounds import Bounds
from rag.protocols import Encoder
from rag.records import Hit, Passage, Query
from retrievers.dense.index import DenseIndex
from retrievers.distinct import DEPTH, distinct_passages
from retrievers.fusion.scores import minmax_fusion
from retrievers.sparse.bm25 import BM25Index


@dataclass(frozen=True)
class Hybrid:
    """Retriever that scores a passage `w * minmax(sparse) + (1 - w) * minmax(dense)`.

    At weight 0 or 1 the other leg is not searched. Source: Li et al. 2022, arXiv:2205.00235, with
    both legs normalised (`retrievers.fusion.scores` says how).

    Attributes:
        sparse: term index of the passages.
        dense: vector index of the same passages.
        encoder: what made the vectors of `dense`.
        passages: every indexed passage by id.
        top_k: passages to return, at least 1.
        sparse_weight: w, in [0, 1]; the source's 0.5. Which leg is stronger depends on the corpus.
        depth: hits taken from each leg, at least `top_k`. Normalisation pins the last of them to 0,
            so it is fixed rather than following `top_k`.
    """

    sparse: BM25Index
    dense: DenseIndex
    encoder: Encoder
    passages: Mapping[str, Passage]
    top_k: Annotated[int, Bounds(low=1)] = 3
    sparse_weight: Annotated[float, Bounds(low=0, high=1)] = 0.5
    depth: Annotated[int, Bounds(low=1)] = DEPTH

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if self.depth < self.top_k:
            raise ValueError(f"depth must be at least top_k = {self.top_k}, got {self.depth}")
        if not 0.0 <= self.sparse_weight <= 1.0:
            raise ValueError(f"sparse_weight must be in [0, 1], got {self.sparse_weight}")
        if self.dense.dim != self.encoder.dim:
            raise ValueError(
                f"encoder must give vectors as wide as dense, {self.dense.dim}, got "
                f"{self.encoder.dim} from {self.encoder.name!r}"
            )
        if self.sparse.ids != self.dense.ids:
            raise ValueError(
                "sparse and dense must index the same passages, got "
                f"{len(self.sparse)} and {len(self.dense)}, or other ids"
            )

    def __call__(self, query: Query) -> list[Passage]:
        """Return at most `top_k` passages, best first, ties by id, `score` in [0, 1].

        Of passages with the very same text only the best is returned: a second copy would take a
        place and tell the reader nothing. What follows them is the tail of the `Ranking`.
        """
        return self.batch(query=[query])[0]

    def batch(self, *, query: Sequence[Query]) -> list[list[Passage]]:
        """Return the passages for each query; all queries are encoded in one call."""
        weights = (self.sparse_weight, 1.0 - self.sparse_weight)
        by_terms: list[list[Hit]] = [[] for _ in query]
        by_vector: list[list[Hit]] = [[] for _ in query]
        if weights[0]:
            by_terms = [self.sparse.search(one, self.depth) for one in query]
        if weights[1]:
            vectors = self.encoder.encode_queries([one.text for one in query])
            by_vector = [self.dense.search_vector(vector, self.depth) for vector in vectors]
        return [
            distinct_passages(minmax_fusion(legs, weights), self.passages, self.top_k)
            for legs in zip(by_terms, by_vector, strict=True)
        ]

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return the passages' vectors, float32 (n, dim).

        Raises:
            KeyError: for an unknown id.
        """
        return self.dense.vectors(ids)

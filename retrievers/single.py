"""Retrieval by one index: by terms alone, or by vectors alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from rag.bounds import Bounds
from rag.protocols import Encoder, SparseSearch, VectorSearch
from rag.records import Passage, Query
from retrievers.distinct import DEPTH, distinct_passages
from retrievers.in_thread import in_thread


@dataclass(frozen=True)
class Sparse:
    """Retriever by the terms of a question; it may find less than `top_k`, or nothing.

    Attributes:
        sparse: ranks the passages: BM25, its expansions, or a learned sparse encoder.
        passages: every indexed passage by id.
        top_k: passages to return, at least 1.
        within: the only ids that are searched; None means all.
    """

    sparse: SparseSearch
    passages: Mapping[str, Passage]
    top_k: Annotated[int, Bounds(low=1)] = 3
    within: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")

    def __call__(self, query: Query) -> list[Passage]:
        """Return at most `top_k` passages, best first, ties by id, no text twice; a `Ranking`."""
        return self.batch(query=[query])[0]

    def batch(self, *, query: Sequence[Query]) -> list[list[Passage]]:
        """Return the passages for each query."""
        depth = max(self.top_k, DEPTH)
        rankings = self.sparse.search_batch(query, depth, within=self.within)
        return [distinct_passages(hits, self.passages, self.top_k) for hits in rankings]

    acall = in_thread(__call__)
    abatch = in_thread(batch)

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return no vectors, shape (0, 0): a term index has none.

        Raises:
            KeyError: for any id.
        """
        if ids:
            raise KeyError(f"no vector for passage {ids[0]!r}: sparse retrieval keeps none")
        return np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class Dense:
    """Retriever by cosine of question and passages; it always finds something.

    Source: Karpukhin et al. 2020, arXiv:2004.04906.

    Attributes:
        dense: vector index of the passages.
        encoder: what made the vectors of `dense`.
        passages: every indexed passage by id.
        top_k: passages to return, at least 1.
        within: the only ids that are searched; None means all.
    """

    dense: VectorSearch
    encoder: Encoder
    passages: Mapping[str, Passage]
    top_k: Annotated[int, Bounds(low=1)] = 3
    within: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if self.dense.dim != self.encoder.dim:
            raise ValueError(
                f"encoder must give vectors as wide as dense, {self.dense.dim}, got "
                f"{self.encoder.dim} from {self.encoder.name!r}"
            )

    def __call__(self, query: Query) -> list[Passage]:
        """Return at most `top_k` passages, best first, ties by id, no text twice; a `Ranking`."""
        return self.batch(query=[query])[0]

    def batch(self, *, query: Sequence[Query]) -> list[list[Passage]]:
        """Return the passages for each query; all queries are encoded in one call."""
        vectors = self.encoder.encode_queries([one.text for one in query])
        depth = max(self.top_k, DEPTH)
        rankings = self.dense.search_vectors(vectors, depth, within=self.within)
        return [distinct_passages(hits, self.passages, self.top_k) for hits in rankings]

    acall = in_thread(__call__)
    abatch = in_thread(batch)

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return the passages' vectors, float32 (n, dim).

        Raises:
            KeyError: for an unknown id.
        """
        return self.dense.vectors(ids)

"""Learned sparse retrieval: SPLADE and its kin, over the postings that BM25 uses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from rag.records import Hit, Query
from retrievers.sparse.index import SparseIndex
from retrievers.sparse.weighting import Impact


class TermWeigher(Protocol):
    """Texts to term weights; `rag.models.sparse_encoder.SparseTextEncoder` is one."""

    def encode(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return the weights of passages' terms, above 0."""

    def encode_queries(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return the weights of queries' terms, above 0."""


@dataclass(frozen=True)
class LearnedSparse:
    """Ranks by the dot product of learned term weights of query and passage.

    Sources: Formal et al. 2021 (SPLADE), arXiv:2109.10086; Lin and Ma 2021 (uniCOIL),
    arXiv:2106.14807.

    Attributes:
        index: impacts of the passages, as `encoder` weighs them.
        encoder: weighs the terms of queries.
    """

    index: SparseIndex
    encoder: TermWeigher

    def __post_init__(self) -> None:
        if not isinstance(self.index.weighting, Impact):
            raise ValueError(f"index must have weighting=Impact(), got {self.index.weighting!r}")  # noqa: TRY004

    @classmethod
    def build(cls, ids: Sequence[str], texts: Sequence[str], encoder: TermWeigher) -> Self:
        """Encode passages and index them.

        Args:
            ids: unique; may be empty.
            texts: one an id.
            encoder: weighs terms.

        Raises:
            ValueError: if the lengths differ, or an id occurs twice.
        """
        index = SparseIndex(Impact())
        index.add_vectors(ids, encoder.encode(texts))
        return cls(index, encoder)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all passages, ascending."""
        return self.index.ids

    def search(
        self, query: Query, top_k: int, *, within: frozenset[str] | None = None
    ) -> list[Hit]:
        """Return at most `top_k` hits, best first, ties by id; see `SparseSearch`.

        Raises:
            ValueError: if top_k is below 1.
        """
        return self.search_batch([query], top_k, within=within)[0]

    def search_batch(
        self, queries: Sequence[Query], top_k: int, *, within: frozenset[str] | None = None
    ) -> list[list[Hit]]:
        """Return what `search` returns for each query; all are encoded in one call.

        Weights of a text move with its batch by the model's rounding, about 1e-6 of them.
        """
        weighed = self.encoder.encode_queries([query.text for query in queries])
        return [self.index.search_terms(weights, top_k, within=within) for weights in weighed]

    def scores_of(
        self,
        query: Query,
        ids: Sequence[str],
        *,
        within: frozenset[str] | None = None,  # noqa: ARG002 (no passage has a say in the query)
    ) -> np.ndarray:
        """Return the scores of given passages, float64 (n,).

        Raises:
            KeyError: for an unknown id.
        """
        return self.index.scores_of_terms(self.encoder.encode_queries([query.text])[0], ids)

"""Late interaction: every query token looks for the passage token that fits it best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np

from rag.bounds import Bounds
from rag.records import Passage, Query
from retrievers.rerank.reordering import check_top_k, reranked


class TokenVectors(Protocol):
    """Texts to token vectors; `rag.models.multi_vector_encoder.TokenEncoder` is one."""

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the token vectors of passages, each (tokens, dim) of unit length."""

    def encode_queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the token vectors of queries, each (tokens, dim) of unit length."""


@dataclass(frozen=True)
class LateInteraction:
    """Reranker by MaxSim, as ColBERT scores passages.

    A passage is read with its title. Source: Khattab and Zaharia 2020, arXiv:2004.12832.

    Attributes:
        encoder: makes token vectors.
        top_k: passages to keep, at least 1; None keeps all.
    """

    encoder: TokenVectors
    top_k: Annotated[int, Bounds(low=1)] | None = None

    def __post_init__(self) -> None:
        check_top_k(self.top_k)

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[Passage]:
        """Return the passages by MaxSim, best first, ties by id; a `Ranking`."""
        return self.batch(query=[query], passages=[passages])[0]

    def batch(
        self, *, query: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[Passage]]:
        """Return each query's passages reranked; equal texts are encoded once, in one call."""
        texts = list(dict.fromkeys(p.searchable for found in passages for p in found))
        of_text = dict(zip(texts, self.encoder.encode(texts), strict=True))
        asked = self.encoder.encode_queries([one.text for one in query])
        return [
            reranked(found, [maxsim(tokens, of_text[p.searchable]) for p in found], self.top_k)
            for tokens, found in zip(asked, passages, strict=True)
        ]


def maxsim(query: np.ndarray, passage: np.ndarray) -> float:
    """Return the sum over query tokens of the largest inner product with a passage token.

    Args:
        query: (tokens, dim).
        passage: (tokens, dim); without a token the result is 0.

    Raises:
        ValueError: if the widths differ.
    """
    if query.ndim != 2 or passage.ndim != 2 or query.shape[1] != passage.shape[1]:
        raise ValueError(
            f"query and passage must be (tokens, dim), got {query.shape} and {passage.shape}"
        )
    if not len(passage):
        return 0.0
    similarities = query.astype(np.float64) @ passage.astype(np.float64).T
    return float(similarities.max(axis=1).sum())

"""Our encoders as LangChain embeddings."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings
from typing_extensions import override

from rag.protocols import Encoder


class DovetailEmbeddings(Embeddings):
    """An encoder as LangChain embeddings: unit vectors, queries in their own way.

    Attributes:
        encoder: makes the vectors.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    @override
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self.encoder.encode(texts).tolist()
        return vectors

    @override
    def embed_query(self, text: str) -> list[float]:
        vector: list[float] = self.encoder.encode_queries([text])[0].tolist()
        return vector


def as_embeddings(encoder: Encoder) -> DovetailEmbeddings:
    """Return an encoder as LangChain `Embeddings`.

    Raises:
        ValueError: if it is no encoder.
    """
    if not isinstance(encoder, Encoder):
        raise ValueError(  # noqa: TRY004
            f"encoder must have name, fingerprint, dim and encode, got {type(encoder).__name__}"
        )
    return DovetailEmbeddings(encoder)

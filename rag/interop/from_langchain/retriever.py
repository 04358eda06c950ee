"""LangChain retrievers as our retrievers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from rag.bounds import Bounds
from rag.interop.from_langchain.naming import needs
from rag.interop.langchain_documents import ranked, with_passages
from rag.records import Passage, Query

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class LangChainRetriever:
    """Retriever that asks a LangChain retriever, or anything with `invoke(str)` to documents.

    Scores are the passages' own where every document was once ours and they never rise; else
    1 / rank, as LangChain hands back an order only.

    Attributes:
        retriever: finds the documents.
        top_k: the most passages to return; None returns all that were found.
    """

    retriever: Any
    top_k: Annotated[int, Bounds(low=1)] | None = None

    def __post_init__(self) -> None:
        needs(self.retriever, "retriever", "invoke")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")

    def __call__(self, query: Query) -> list[Passage]:
        """Return passages, best first, ids unique."""
        return self._passages(self.retriever.invoke(query.text))

    async def acall(self, query: Query) -> list[Passage]:
        """Do the same with the retriever's `ainvoke`, or in a thread if it has none."""
        if not hasattr(self.retriever, "ainvoke"):
            return await asyncio.to_thread(self, query)
        return self._passages(await self.retriever.ainvoke(query.text))

    def batch(self, *, query: Sequence[Query]) -> list[list[Passage]]:
        """Return the passages of each query, with the retriever's `batch` if it has one."""
        if not hasattr(self.retriever, "batch"):
            return [self(one) for one in query]
        return [self._passages(found) for found in self.retriever.batch([q.text for q in query])]

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Refuse: LangChain retrievers hand back no vectors.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a LangChain retriever hands back no vectors")

    def _passages(self, found: Iterable[Any]) -> list[Passage]:
        documents = list(found)
        foreign = [type(d).__name__ for d in documents if not hasattr(d, "page_content")]
        if foreign:
            raise ValueError(f"retriever must return documents, got {foreign[0]}")
        return ranked([passage for passage, _ in with_passages(documents)][: self.top_k])


def from_retriever(retriever: Any, *, top_k: int | None = None) -> LangChainRetriever:
    """Return a LangChain retriever as an operator from a query to passages.

    Args:
        retriever: anything with `invoke(str)` that returns documents.
        top_k: the most passages to return, at least 1; None returns all.

    Raises:
        ValueError: if it has no `invoke`.
    """
    return LangChainRetriever(retriever, top_k)

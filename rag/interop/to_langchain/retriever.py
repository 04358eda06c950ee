"""Our retrievers as LangChain retrievers."""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun as AsyncRun
from langchain_core.callbacks import CallbackManagerForRetrieverRun as Run
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from typing_extensions import override

from rag.interop.calls import Target, target
from rag.interop.langchain_documents import as_document


class DovetailRetriever(BaseRetriever):
    """Any operator or pipeline that gives passages for a query, as a LangChain retriever.

    A passage of which a pruner kept nothing gives no document.

    Attributes:
        operator: takes `query`, returns passages best first.
        k: the most documents to return; None leaves it to the operator. An operator with an option
            `top_k` is asked for so many, of any other the list is cut.
    """

    operator: Any
    k: int | None = None

    @override
    def _get_relevant_documents(
        self, query: str, *, run_manager: Run, k: int | None = None
    ) -> list[Document]:
        asked, most = self._asked(k)
        return _documents(asked.run({"query": query}), most)

    @override
    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncRun, k: int | None = None
    ) -> list[Document]:
        asked, most = self._asked(k)
        return _documents(await asked.arun({"query": query}), most)

    def _asked(self, k: int | None) -> tuple[Target, int | None]:
        most = self.k if k is None else k
        if most is not None and most < 1:
            raise ValueError(f"k must be at least 1, got {most}")
        operator = self.operator
        if most is not None and is_dataclass(operator) and hasattr(operator, "top_k"):
            operator = replace(operator, top_k=most)  # type: ignore[type-var]
        return target(operator), most


def as_retriever(operator: Any, *, k: int | None = None) -> DovetailRetriever:
    """Return an operator or a pipeline that finds passages as a LangChain `BaseRetriever`.

    Args:
        operator: a callable with a port `query` that returns passages, or a pipeline with the input
            `query` and passages as its only output.
        k: the most documents to return, at least 1; also an argument of `invoke`.
    """
    return DovetailRetriever(operator=operator, k=k, name=target(operator).name)


def _documents(passages: Any, most: int | None) -> list[Document]:
    if isinstance(passages, (str, dict)) or not hasattr(passages, "__iter__"):
        raise ValueError(f"a retriever must return passages, got {type(passages).__name__}")
    kept = [passage for passage in passages if passage.kept is None or passage.kept_rows]
    return [as_document(passage) for passage in kept[:most]]

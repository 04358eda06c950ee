"""Our pruners and rerankers as LangChain document compressors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict
from typing_extensions import override

from rag.interop.calls import target
from rag.interop.langchain_documents import RESERVED, as_document, with_passages
from rag.records import Passage


class DovetailCompressor(BaseDocumentCompressor):
    """Any operator from a query and passages to passages, as a LangChain compressor.

    A returned document's text is its kept sentences, each with its own trailing white space; its
    metadata stay, and `as_passage` still gives the whole passage with the selection. A document of
    which nothing is kept is dropped, as is a second copy of the same passage.

    Attributes:
        pruner: takes `query` and `passages`, returns passages.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    pruner: Any

    @override
    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        pairs = with_passages(documents)
        passages = [passage for passage, _ in pairs]
        pruned = target(self.pruner).run({"query": query, "passages": passages})
        return _shortened(pairs, pruned)

    @override
    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        pairs = with_passages(documents)
        passages = [passage for passage, _ in pairs]
        pruned = await target(self.pruner).arun({"query": query, "passages": passages})
        return _shortened(pairs, pruned)


def as_compressor(pruner: Any) -> DovetailCompressor:
    """Return a pruner, reranker or pipeline as a LangChain `BaseDocumentCompressor`.

    Args:
        pruner: a callable with the ports `query` and `passages` that returns passages, or a
            pipeline with these inputs and passages as its only output.
    """
    return DovetailCompressor(pruner=pruner)


def _shortened(
    pairs: Sequence[tuple[Passage, Document]], pruned: Sequence[Passage]
) -> list[Document]:
    """Return the pruned passages as documents, with the metadata that theirs came with."""
    sources = {passage.id: document for passage, document in pairs}
    shortened = []
    for passage in pruned:
        if passage.kept is not None and not passage.kept_rows:
            continue
        document = as_document(passage)
        if passage.id in sources:
            record = {RESERVED: document.metadata[RESERVED]}
            document.metadata |= sources[passage.id].metadata | record
        shortened.append(document)
    return shortened

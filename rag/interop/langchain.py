"""LangChain both ways. Importing this module does not import langchain-core; using a name does.

Ours as theirs: `as_document`, `as_retriever`, `as_compressor`, `as_embeddings`, `as_chat_model`,
`as_generator_runnable`, `as_runnable`. Theirs as ours: `as_passage`, `from_retriever`,
`from_compressor`, `from_embeddings`, `from_chat_model`.
"""

from rag.lazy import lazy_names

_HOMES = {
    "as_chat_model": "rag.interop.to_langchain.chat_model",
    "as_compressor": "rag.interop.to_langchain.compressor",
    "as_document": "rag.interop.langchain_documents",
    "as_embeddings": "rag.interop.to_langchain.embeddings",
    "as_generator_runnable": "rag.interop.to_langchain.runnable",
    "as_passage": "rag.interop.langchain_documents",
    "as_retriever": "rag.interop.to_langchain.retriever",
    "as_runnable": "rag.interop.to_langchain.runnable",
    "from_chat_model": "rag.interop.from_langchain.chat_model",
    "from_compressor": "rag.interop.from_langchain.compressor",
    "from_embeddings": "rag.interop.from_langchain.embeddings",
    "from_retriever": "rag.interop.from_langchain.retriever",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

"""Dovetail: retrieval-augmented generation that reuses precomputed per-passage KV caches."""

from rag.lazy import lazy_names

# Upper layers are named as strings only: they are imported when somebody asks for the name.
_HOMES = {
    "Answer": "rag.records",
    "Answering": "pipelines.answering",
    "AnsweringSession": "pipelines.answering",
    "AskOptions": "pipelines.answering",
    "BM25Index": "retrievers.bm25",
    "Budget": "rag.records",
    "Chunker": "rag.corpus.chunking",
    "Citation": "rag.records",
    "DenseIndex": "retrievers.dense",
    "Document": "rag.records",
    "DovetailError": "rag.errors",
    "GenerateCached": "rag.generation.cached",
    "Hybrid": "retrievers.hybrid",
    "IndexFolder": "pipelines.index_folder",
    "KVStore": "kvstore.store",
    "Passage": "rag.records",
    "Precompute": "kvstore.precompute",
    "Query": "rag.records",
    "Selection": "rag.records",
    "SentencePruner": "pruners.sentences",
    "Span": "rag.records",
    "build_index": "pipelines.indexing",
    "load_encoder": "rag.models.encoder",
    "load_language_model": "rag.models.language_model",
    "open_index": "pipelines.index_folder",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

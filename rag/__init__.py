"""Dovetail: retrieval-augmented generation that reuses precomputed per-passage KV caches."""

from rag.lazy import lazy_names

# Upper layers are named as strings only: they are imported when somebody asks for the name.
_HOMES = {
    "Answer": "rag.records",
    "Budget": "rag.records",
    "Chunker": "rag.corpus.chunking",
    "Citation": "rag.records",
    "Completion": "rag.records",
    "ContextPlanner": "rag.generation.context_planner",
    "CostModel": "rag.generation.cost_model",
    "DenseIndex": "retrievers.dense.index",
    "SparseIndex": "retrievers.sparse.index",
    "Document": "rag.records",
    "DovetailError": "rag.errors",
    "GenerateCached": "rag.generation.cached",
    "Hybrid": "retrievers.hybrid",
    "IndexFolder": "pipelines.index_folder",
    "Judgement": "rag.records",
    "KVStore": "kvstore.store",
    "LocalModel": "rag.generation.local_model",
    "OpenCorpora": "pipelines.corpora.open_corpora",
    "OpenIndex": "pipelines.open_index",
    "Passage": "rag.records",
    "Pipeline": "pipelines.flow.pipeline",
    "Precompute": "kvstore.precompute",
    "Query": "rag.records",
    "Ranking": "rag.ranking",
    "Route": "rag.records",
    "Selection": "rag.records",
    "SentencePruner": "pruners.sentences",
    "Span": "rag.records",
    "ThresholdPruner": "pruners.threshold",
    "Trace": "rag.tracing.trace",
    "Turn": "rag.records",
    "build_corpora": "pipelines.corpora.build",
    "build_index": "pipelines.indexing",
    "load_encoder": "rag.models.encoder",
    "load_language_model": "rag.models.language_model",
    "load_pipeline": "pipelines.loading",
    "open_corpora": "pipelines.corpora.opening",
    "open_index": "pipelines.index_folder",
    "operator": "rag.short_names",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

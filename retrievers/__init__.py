"""Retrievers: sparse, dense, their fusion, feedback, rerankers, filters and external stores."""

from rag.lazy import lazy_names

_HOMES = {
    "BM25": "retrievers.sparse.weighting",
    "BM25S": "retrievers.sparse.bm25s",
    "Borda": "retrievers.fusion.borda",
    "CrossEncoderReranker": "retrievers.rerank.cross_encoder",
    "DBSF": "retrievers.fusion.dbsf",
    "Dense": "retrievers.single",
    "DenseIndex": "retrievers.dense.index",
    "Exact": "retrievers.dense.exact",
    "Filter": "retrievers.filters",
    "Flat": "retrievers.dense.flat",
    "HNSW": "retrievers.dense.hnsw",
    "Hybrid": "retrievers.hybrid",
    "IVFPQ": "retrievers.dense.ivfpq",
    "Impact": "retrievers.sparse.weighting",
    "Interleave": "retrievers.fusion.interleave",
    "LateInteraction": "retrievers.rerank.late_interaction",
    "LearnedSparse": "retrievers.sparse.learned",
    "MMR": "retrievers.rerank.mmr",
    "MetadataIndex": "retrievers.filters",
    "MinMax": "retrievers.fusion.minmax",
    "RM3": "retrievers.sparse.rm3",
    "RRF": "retrievers.fusion.rrf",
    "RankBM25": "retrievers.sparse.rank_bm25",
    "Sparse": "retrievers.single",
    "SparseIndex": "retrievers.sparse.index",
    "SparseRocchio": "retrievers.sparse.rocchio",
    "TM2C2": "retrievers.fusion.tm2c2",
    "Union": "retrievers.fusion.union",
    "VectorFeedback": "retrievers.feedback.vector",
    "ZScore": "retrievers.fusion.zscore",
    "fuse": "retrievers.fusion.fuse",
    "measure_recall": "retrievers.dense.recall",
    "minmax_fusion": "retrievers.fusion.minmax",
    "reciprocal_rank_fusion": "retrievers.fusion.rrf",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

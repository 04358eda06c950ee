"""Retrievers: sparse, dense, and their fusion."""

from rag.lazy import lazy_names

_HOMES = {
    "BM25Index": "retrievers.bm25",
    "Dense": "retrievers.single",
    "DenseIndex": "retrievers.dense",
    "Hybrid": "retrievers.hybrid",
    "Interleave": "retrievers.interleave",
    "MinMax": "retrievers.minmax",
    "RRF": "retrievers.rrf",
    "Sparse": "retrievers.single",
    "Union": "retrievers.union",
    "minmax_fusion": "retrievers.fusion",
    "reciprocal_rank_fusion": "retrievers.rrf",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

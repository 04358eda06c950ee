"""Retrievers: sparse, dense, and their fusion."""

from rag.lazy import lazy_names

_HOMES = {
    "BM25Index": "retrievers.sparse.bm25",
    "Dense": "retrievers.single",
    "DenseIndex": "retrievers.dense.index",
    "Hybrid": "retrievers.hybrid",
    "Interleave": "retrievers.fusion.interleave",
    "MinMax": "retrievers.fusion.minmax",
    "RRF": "retrievers.fusion.rrf",
    "Sparse": "retrievers.single",
    "Union": "retrievers.fusion.union",
    "minmax_fusion": "retrievers.fusion.minmax",
    "reciprocal_rank_fusion": "retrievers.fusion.rrf",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

"""Retrievers: sparse, dense, and their fusion."""

from rag.lazy import lazy_names

_HOMES = {
    "BM25Index": "retrievers.bm25",
    "DenseIndex": "retrievers.dense",
    "Hybrid": "retrievers.hybrid",
    "minmax_fusion": "retrievers.fusion",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

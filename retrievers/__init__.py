"""Retrievers: sparse, dense, and their fusion."""

from typing import Any

_HOMES = {
    "BM25Index": "retrievers.bm25",
    "DenseIndex": "retrievers.dense",
    "Hybrid": "retrievers.hybrid",
    "minmax_fusion": "retrievers.fusion",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)

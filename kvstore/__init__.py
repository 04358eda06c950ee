"""KV store: keys, tiers and budgets for precomputed KV caches."""

from rag.lazy import lazy_names

_HOMES = {
    "KVStore": "kvstore.store",
    "Precompute": "kvstore.precompute",
    "PrecomputeReport": "kvstore.precompute",
    "StoreStats": "kvstore.store",
    "segment_key": "kvstore.keys",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

"""KV store: keys, tiers and budgets for precomputed KV caches."""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "KVStore": "kvstore.store",
    "Precompute": "kvstore.precompute",
    "PrecomputeReport": "kvstore.precompute",
    "StoreStats": "kvstore.store",
    "segment_key": "kvstore.keys",
}

__all__ = ["KVStore", "Precompute", "PrecomputeReport", "StoreStats", "segment_key"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'kvstore' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

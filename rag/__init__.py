"""Dovetail: retrieval-augmented generation that reuses precomputed per-passage KV caches."""

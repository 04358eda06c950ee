"""Nearness: how close a query is to those that a router learned from."""

import numpy as np

_ROWS = 1024  # queries compared at a time


def nearest_cosine(vectors: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the cosine of each vector to the nearest known one, float64 (n,), in [-1, 1].

    Args:
        vectors: unit vectors, (n, dim).
        known: unit vectors, (m, dim), m at least 1.
    """
    if not len(known):
        raise ValueError("known must hold at least one vector, got none")
    found = [
        (vectors[start : start + _ROWS].astype(np.float32) @ known.T.astype(np.float32)).max(axis=1)
        for start in range(0, len(vectors), _ROWS)
    ]
    nearest = np.concatenate(found) if found else np.empty(0)
    return np.clip(nearest, -1.0, 1.0).astype(np.float64)

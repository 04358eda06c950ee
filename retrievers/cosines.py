"""Unit vectors and inner products that equal rows share bit for bit, so that ties stay ties."""

import numpy as np


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors scaled to length 1, float64, (..., dim); a vector of length 0 stays 0."""
    exact = vectors.astype(np.float64)
    norms = np.linalg.norm(exact, axis=-1, keepdims=True)
    scaled: np.ndarray = np.divide(exact, norms, out=np.zeros_like(exact), where=norms > 0)
    return scaled


def products(rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return inner products, (n,), that are the same, bit for bit, for equal rows.

    A matrix product sums some rows in another order than others, which would break ties.

    Args:
        rows: (n, dim).
        vector: (dim,).
    """
    found: np.ndarray = np.einsum("nd,d->n", rows, vector)
    return found

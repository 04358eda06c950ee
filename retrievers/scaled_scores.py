"""Scores scaled to [0, 1] by their least and largest."""

import numpy as np


def scaled(scores: np.ndarray) -> np.ndarray:
    """Return scores scaled to [0, 1] by their least and largest, (n,); all 1 where they are equal.

    Args:
        scores: float64 (n,), finite; n is at least 1.
    """
    if scores.min() == scores.max():
        return np.ones_like(scores)
    near_one = scores / np.abs(scores).max()  # so that no difference overflows
    low, high = near_one.min(), near_one.max()
    relevance: np.ndarray = (near_one - low) / (high - low)
    return relevance

"""Checks of what a selection is given: messages name the argument, what is allowed, what came."""

from collections.abc import Sequence

import numpy as np


def checked_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return vectors in float64, (n, dim), or raise ValueError."""
    if vectors.ndim != 2:
        raise ValueError(f"vectors must be (n, dim), got {vectors.shape}")
    exact = vectors.astype(np.float64)
    if not np.isfinite(exact).all():
        raise ValueError("vectors must be finite, got NaN or infinity")
    return exact


def checked_row(name: str, values: np.ndarray, count: int) -> np.ndarray:
    """Return finite numbers of at least 0, float64 (count,), or raise ValueError."""
    if values.shape != (count,):
        raise ValueError(
            f"{name} must be ({count},) as vectors have {count} rows, got {values.shape}"
        )
    exact = values.astype(np.float64)
    wrong = exact[~((exact >= 0.0) & (exact < np.inf))]
    if len(wrong):
        raise ValueError(f"{name} must be finite and at least 0, got {wrong[0]}")
    return exact


def checked_costs(costs: np.ndarray, count: int) -> np.ndarray:
    """Return finite numbers above 0, float64 (count,), or raise ValueError."""
    exact = checked_row("costs", costs, count)
    if not (exact > 0.0).all():
        raise ValueError("costs must be above 0, got 0.0")
    return exact


def checked_groups(groups: np.ndarray, count: int) -> np.ndarray:
    """Return integer labels, (count,), or raise ValueError."""
    if groups.shape != (count,) or not np.issubdtype(groups.dtype, np.integer):
        raise ValueError(f"groups must be integers ({count},), got {groups.dtype} {groups.shape}")
    return groups


def checked_first(first: Sequence[int], count: int, k: int | None) -> list[int]:
    """Return distinct rows in [0, count), at most k, or raise ValueError."""
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    rows = [int(row) for row in first]
    if len(set(rows)) < len(rows) or not all(0 <= row < count for row in rows):
        raise ValueError(f"first must be distinct rows in [0, {count}), got {rows}")
    if k is not None and len(rows) > k:
        raise ValueError(f"first must be at most k = {k} rows, got {len(rows)}")
    return rows

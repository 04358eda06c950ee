"""Rankings: the best rows of an array of scores, under the one tie rule."""

from itertools import pairwise

import numpy as np


def best_rows(scores: np.ndarray, rows: np.ndarray, top_k: int) -> np.ndarray:
    """Return at most `top_k` of `rows`, best score first, ties to the lower row.

    Indexes keep their rows sorted by passage id, so the lower row is the lower id.

    Args:
        scores: score of every row, shape (n,), finite.
        rows: candidate rows, ascending, shape (m,).
        top_k: most rows to return, at least 1; may exceed m.

    Raises:
        ValueError: if top_k is below 1.
    """
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    found = scores[rows]
    if len(rows) > top_k:
        # Everything that ties with the last place stays until the stable sort has decided.
        last = np.partition(found, len(found) - top_k)[len(found) - top_k]
        rows, found = rows[found >= last], found[found >= last]
    return rows[np.argsort(-found, kind="stable")[:top_k]]


def rows_by_id(ids: list[str]) -> list[int]:
    """Return the rows in ascending order of their ids.

    Raises:
        ValueError: if an id occurs twice.
    """
    order = sorted(range(len(ids)), key=ids.__getitem__)
    for row, following in pairwise(order):
        if ids[row] == ids[following]:
            raise ValueError(f"ids must be unique, got {ids[row]!r} twice")
    return order

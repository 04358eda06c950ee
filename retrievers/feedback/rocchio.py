"""Rocchio's rule: move the query's vector towards good passages and away from bad ones."""

import numpy as np

from retrievers.feedback.checking import check_vectors, dtype_of


def rocchio(
    query: np.ndarray,
    positives: np.ndarray,
    negatives: np.ndarray | None = None,
    *,
    alpha: float,
    beta: float,
    gamma: float = 0.0,
) -> np.ndarray:
    """Return `alpha * query + beta * mean(positives) - gamma * mean(negatives)`, not normalised.

    Added up in float64. Source: Rocchio 1971; on dense vectors Li et al. 2021, arXiv:2108.11044,
    who have no negatives. Pyserini has.

    Args:
        query: (dim,), any norm.
        positives: (k, dim), any norms; with k = 0 the query is returned as it is, whatever the
            negatives.
        negatives: (m, dim), any norms; None or m = 0 subtracts nothing.
        alpha: weight of the query.
        beta: weight of the mean of the positives.
        gamma: weight of the mean of the negatives.

    Returns:
        (dim,), in the query's dtype, float32 at least.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    if negatives is None:
        negatives = np.empty((0, *query.shape))
    check_vectors(query, positives=positives, negatives=negatives)
    if not len(positives):
        return query
    moved = alpha * query.astype(np.float64) + beta * positives.mean(axis=0, dtype=np.float64)
    if len(negatives):
        moved -= gamma * negatives.mean(axis=0, dtype=np.float64)
    return np.asarray(moved, dtype_of(query))

"""Average feedback: the mean of the query's vector and those of passages it found."""

import numpy as np

from retrievers.feedback.checking import check_vectors, dtype_of


def average(query: np.ndarray, feedback: np.ndarray) -> np.ndarray:
    """Return the mean of the query and the feedback vectors, not normalised.

    The query weighs as much as one passage, so with k passages this is Rocchio's rule with
    `alpha = 1 / (k + 1)` and `beta = k / (k + 1)`. Added up in float64.
    Source: Li et al. 2021, arXiv:2108.11044.

    Args:
        query: (dim,), any norm.
        feedback: (k, dim), any norms; with k = 0 the query is returned as it is.

    Returns:
        (dim,), in the query's dtype, float32 at least.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    check_vectors(query, feedback=feedback)
    if not len(feedback):
        return query
    total = query.astype(np.float64) + feedback.sum(axis=0, dtype=np.float64)  # (dim,)
    return np.asarray(total / (1 + len(feedback)), dtype_of(query))

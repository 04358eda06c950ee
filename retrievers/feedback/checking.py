"""What feedback asks of its vectors."""

import numpy as np


def check_vectors(query: np.ndarray, **feedback: np.ndarray) -> None:
    """Check that feedback vectors are as wide as the query's.

    Args:
        query: (dim,).
        **feedback: (n, dim) each, by the name that messages give it; n may be 0.

    Raises:
        ValueError: if a shape does not fit.
    """
    for name, vectors in feedback.items():
        if query.ndim != 1 or vectors.ndim != 2 or vectors.shape[1] != len(query):
            raise ValueError(
                f"query and {name} must be (dim,) and (n, dim), got {query.shape} "
                f"and {vectors.shape}"
            )


def dtype_of(query: np.ndarray) -> np.dtype:
    """Return the dtype of a moved query: its own, but float32 at least."""
    return np.result_type(query.dtype, np.float32)

"""Arrays on disk: `.npy` files, never pickled."""

from pathlib import Path

import numpy as np

from rag.files import write_atomically


def write_array(path: Path, array: np.ndarray) -> None:
    """Replace `path` by an array's `.npy` form, or leave it as it was."""
    write_atomically(path, lambda file: np.save(file, array, allow_pickle=False))

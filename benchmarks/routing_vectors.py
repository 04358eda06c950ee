"""Vectors of queries that one run keeps for the next, as routers learn from the same ones often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rag.files import write_atomically
from rag.protocols import Encoder

FILE = "vectors.npz"


class KeptVectors:
    """An `Encoder` whose vectors lie in a file; it loads the model only for texts that are new.

    Queries and passages are not told apart, so it fits encoders that prompt both alike.
    """

    def __init__(self, path: Path, load: Callable[[], Encoder]) -> None:
        """Read what is kept.

        Args:
            path: file, which need not exist.
            load: gives the encoder.
        """
        self._path, self._load = path, load
        self._known: dict[str, np.ndarray] = {}
        self._encoder: Encoder | None = None
        if path.exists():
            with np.load(path, allow_pickle=False) as kept:
                self.name, self.fingerprint = str(kept["name"]), str(kept["fingerprint"])
                texts = kept["texts"].tolist()
                self._known = dict(zip(texts, kept["vectors"], strict=True))
                self.dim = kept["vectors"].shape[1]
        else:
            self._encoder = load()
            self.name, self.fingerprint = self._encoder.name, self._encoder.fingerprint
            self.dim = self._encoder.dim

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, float32 (n, dim), and keep those that are new."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new:
            if self._encoder is None:
                self._encoder = self._load()
            self._known.update(zip(new, self._encoder.encode_queries(new), strict=True))
            self._keep()
        if not texts:
            return np.empty((0, self.dim), np.float32)
        return np.stack([self._known[text] for text in texts])

    def encode(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Return what `encode_queries` returns."""
        found = self.encode_queries(texts)
        if progress is not None:
            progress(len(texts))
        return found

    def _keep(self) -> None:
        arrays = {
            "name": np.array(self.name),
            "fingerprint": np.array(self.fingerprint),
            "texts": np.array(list(self._known)),
            "vectors": np.stack(list(self._known.values())),
        }
        write_atomically(self._path, lambda file: np.savez(file, allow_pickle=False, **arrays))

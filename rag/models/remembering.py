"""An encoder that remembers its queries: the same ones are asked again and again when tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rag.protocols import Encoder

if TYPE_CHECKING:
    import numpy as np


class Remembering:
    """An `Encoder` over another one that encodes each query once, for as long as it lives.

    Memory grows by one vector a query; passages are not remembered.
    """

    def __init__(self, encoder: Encoder) -> None:
        """Wrap an encoder."""
        self._encoder = encoder
        self._known: dict[str, np.ndarray] = {}

    @property
    def name(self) -> str:
        """What the user called it."""
        return self._encoder.name

    @property
    def fingerprint(self) -> str:
        """Hash of the weights."""
        return self._encoder.fingerprint

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self._encoder.dim

    def encode(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Return unit vectors of passages, float32 (n, dim)."""
        return self._encoder.encode(texts, progress=progress)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors of queries, float32 (n, dim)."""
        import numpy as np

        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new:
            self._known.update(zip(new, self._encoder.encode_queries(new), strict=True))
        if not texts:
            return np.empty((0, self.dim), np.float32)
        return np.stack([self._known[text] for text in texts])

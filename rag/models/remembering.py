"""An encoder that remembers its queries: several steps of a pipeline ask for the same vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from rag.protocols import Encoder

if TYPE_CHECKING:
    import numpy as np


class Remembering:
    """An `Encoder` over another one that encodes each query once; passages are not remembered.

    It may be asked from several threads.
    """

    def __init__(self, encoder: Encoder, *, most: int | None = None) -> None:
        """Wrap an encoder.

        Args:
            encoder: asked for what is not known.
            most: queries to remember, at least 1: those of the last calls; None forgets nothing,
                and memory grows by one vector a query.

        Raises:
            ValueError: if `most` is below 1.
        """
        if most is not None and most < 1:
            raise ValueError(f"most must be at least 1, got {most}")
        self._encoder = encoder
        self._most = most
        self._known: dict[str, np.ndarray] = {}
        self._lock = Lock()

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

        asked = dict.fromkeys(texts)
        with self._lock:
            found = {text: self._known[text] for text in asked if text in self._known}
        new = [text for text in asked if text not in found]
        if new:
            found.update(zip(new, self._encoder.encode_queries(new), strict=True))
        with self._lock:
            for text in asked:
                self._known.pop(text, None)  # what was asked last is forgotten last
                self._known[text] = found[text]
            while self._most is not None and len(self._known) > self._most:
                del self._known[next(iter(self._known))]
        if not texts:
            return np.empty((0, self.dim), np.float32)
        return np.stack([found[text] for text in texts])

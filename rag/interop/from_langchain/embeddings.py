"""LangChain embeddings as our encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rag.interop.from_langchain.naming import class_path, model_name, needs
from rag.records import text_sha

if TYPE_CHECKING:
    import numpy as np

_PROBE = "Bread rises because yeast ferments sugar."
_SKETCH = 8


class LangChainEncoder:
    """Encoder over LangChain embeddings, or anything with `embed_documents`; unit vectors.

    Passages go to `embed_documents`, queries to `embed_query` where there is one.
    """

    def __init__(self, embeddings: Any, *, name: str | None = None) -> None:
        """Wrap embeddings; a text is embedded to learn about them.

        Args:
            embeddings: makes the vectors.
            name: what to call them; None takes the model's own name, or the class.

        Raises:
            ValueError: if it has no `embed_documents`, or its vectors have no direction.
        """
        needs(embeddings, "embeddings", "embed_documents")
        self._embeddings = embeddings
        self._name = model_name(embeddings) if name is None else name
        probe = _unit(embeddings.embed_documents([_PROBE]))[0]
        self._dim = len(probe)
        # The largest components' places, as services give slightly other numbers each time.
        places = sorted(abs(probe).argsort(kind="stable")[-_SKETCH:].tolist())
        facts = class_path(embeddings), model_name(embeddings), self._dim, places
        self._fingerprint = text_sha(repr(facts))

    @property
    def name(self) -> str:
        """What the user called it, else the model's own name."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """Hash of class, model name, width, and where a probe's vector is largest."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self._dim

    def encode(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Return unit vectors, float32 (n, dim); n may be 0.

        Raises:
            ValueError: if what the embeddings return is of another shape, or not finite, or zero.
        """
        import numpy as np

        if not texts:
            return np.empty((0, self._dim), np.float32)
        vectors = _unit(self._embeddings.embed_documents(list(texts)))
        if vectors.shape != (len(texts), self._dim):
            raise ValueError(
                f"embed_documents must return {(len(texts), self._dim)}, got {vectors.shape}"
            )
        if progress is not None:
            progress(len(texts))
        return vectors

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors of queries, float32 (n, dim); n may be 0.

        Raises:
            ValueError: if what the embeddings return is of another width, or not finite, or zero.
        """
        embed = getattr(self._embeddings, "embed_query", None)
        if not callable(embed) or not texts:
            return self.encode(texts)
        vectors = _unit([embed(text) for text in texts])
        if vectors.shape[1] != self._dim:
            raise ValueError(
                f"embed_query must return vectors of width {self._dim}, got {vectors.shape[1]}"
            )
        return vectors


def from_embeddings(embeddings: Any, *, name: str | None = None) -> LangChainEncoder:
    """Return LangChain embeddings as an `Encoder`.

    Args:
        embeddings: anything with `embed_documents`; queries go to `embed_query` if it has that.
        name: what to call it; None takes the model's own name.

    Raises:
        ValueError: if it has no `embed_documents`.
    """
    return LangChainEncoder(embeddings, name=name)


def _unit(vectors: Sequence[Sequence[float]]) -> np.ndarray:
    """Return float32 rows of unit length."""
    import numpy as np

    found = np.asarray(vectors, np.float64)
    if found.ndim != 2:
        raise ValueError(f"embeddings must return one vector a text, got shape {found.shape}")
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise ValueError("embeddings must be finite and not zero, got some that are not")
    unit: np.ndarray = (found / norms).astype(np.float32)
    return unit

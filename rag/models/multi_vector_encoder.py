"""Multi-vector encoders: texts to a vector a token, over sentence-transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rag.models.checkpoint import checkpoint_fingerprint, open_checkpoint
from rag.models.quiet import quiet_libraries
from rag.models.resolve import ENCODERS, resolve_model


class TokenEncoder:
    """Encodes texts as unit vectors of their tokens, as late interaction compares them.

    Attributes:
        name: what the user called it.
        fingerprint: hash of its weights.
    """

    def __init__(self, model: Any, *, name: str, fingerprint: str, plain: bool) -> None:
        """Wrap a loaded model; `load_multi_vector_encoder` loads one.

        Args:
            model: a `MultiVectorEncoder`, or a `SentenceTransformer` if `plain`.
            name: what the user called it.
            fingerprint: hash of its weights.
            plain: whether it is an ordinary encoder, whose token states are taken before pooling.
        """
        self._model = model
        self._plain = plain
        self.name = name
        self.fingerprint = fingerprint

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the token vectors of passages, each float32 (tokens, dim) of unit length."""
        return self._tokens(texts, "encode" if self._plain else "encode_document")

    def encode_queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the token vectors of queries, each float32 (tokens, dim) of unit length."""
        return self._tokens(texts, "encode" if self._plain else "encode_query")

    def _tokens(self, texts: Sequence[str], method: str) -> list[np.ndarray]:
        if not texts:
            return []
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        with quiet_libraries():
            found = getattr(self._model, method)(
                clean, output_value="token_embeddings", show_progress_bar=False
            )
        return [_unit(np.asarray(tokens.detach().float().cpu())) for tokens in found]


def load_multi_vector_encoder(name: str, *, download: bool = False) -> TokenEncoder:
    """Load a multi-vector encoder; on a CUDA device if there is one. No code of its folder runs.

    ColBERT-like checkpoints (of sentence-transformers, PyLate or Stanford's) read queries and
    passages in their own ways. An ordinary encoder works too, by its token states before pooling:
    it was not trained for that, and ranks less well.

    Args:
        name: a short name (`minilm`), a local folder, or a hub id `owner/name`.
        download: whether a name without `/` may be looked up on the hub.

    Raises:
        ModelNotFoundError: if nothing has that name, or the folder holds no safetensors weights.
    """
    folder = resolve_model(name, packages=ENCODERS, download=download)
    fingerprint = checkpoint_fingerprint(folder)
    plain = _pools(folder)
    model = open_checkpoint("SentenceTransformer" if plain else "MultiVectorEncoder", folder)
    return TokenEncoder(model, name=name, fingerprint=fingerprint, plain=plain)


def _pools(folder: Path) -> bool:
    """Return whether a checkpoint makes one vector of a text."""
    path = folder / "modules.json"
    modules = json.loads(path.read_bytes()) if path.exists() else []
    return any(str(module.get("type", "")).endswith(".Pooling") for module in modules)


def _unit(tokens: np.ndarray) -> np.ndarray:
    """Return rows of unit length; a row without a direction stays zero."""
    norms = np.linalg.norm(tokens, axis=-1, keepdims=True)
    unit: np.ndarray = np.divide(tokens, norms, out=np.zeros_like(tokens), where=norms > 0)
    return unit

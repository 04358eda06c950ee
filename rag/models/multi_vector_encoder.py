"""Multi-vector encoders: texts to a vector a token, over sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rag.errors import ModelNotFoundError
from rag.models.checkpoint import checkpoint_fingerprint, open_checkpoint
from rag.models.encoder import checkpoint_prompts
from rag.models.layout import check_safetensors, holds, settings_shas
from rag.models.quiet import quiet_libraries
from rag.models.resolve import ENCODERS, resolve_model


class TokenEncoder:
    """Encodes texts as unit vectors of their tokens, as late interaction compares them.

    A multi-vector encoder reads both sides as it was trained to: with its prompts or markers, its
    queries filled up with mask tokens, the passages' punctuation left out. Of an ordinary encoder
    all tokens count, those of its prompts and its control tokens too. A text over the model's
    window is cut there.

    Attributes:
        name: what the user called it.
        fingerprint: hash of its weights and settings.
    """

    def __init__(
        self,
        model: Any,
        *,
        name: str,
        fingerprint: str,
        prompts: tuple[str, str] | None = None,
    ) -> None:
        """Wrap a loaded model; `load_multi_vector_encoder` loads one.

        Args:
            model: a `MultiVectorEncoder`, or with `prompts` a `SentenceTransformer`.
            name: what the user called it.
            fingerprint: hash of its weights and settings.
            prompts: put before queries and before passages of an ordinary encoder, whose token
                states are taken before pooling; None for a multi-vector encoder.
        """
        self._model = model
        self._prompts = prompts
        self.name = name
        self.fingerprint = fingerprint

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the token vectors of passages, each float32 (tokens, dim) of unit length."""
        if self._prompts is None:
            return self._tokens(self._model.encode_document, texts)
        return self._tokens(self._model.encode, texts, prompt=self._prompts[1])

    def encode_queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the token vectors of queries, each float32 (tokens, dim) of unit length."""
        if self._prompts is None:
            return self._tokens(self._model.encode_query, texts)
        return self._tokens(self._model.encode, texts, prompt=self._prompts[0])

    def _tokens(
        self, encode: Callable[..., Any], texts: Sequence[str], **settings: str
    ) -> list[np.ndarray]:
        if not texts:
            return []
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        with quiet_libraries():
            found = encode(
                clean, output_value="token_embeddings", show_progress_bar=False, **settings
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
        ModelNotFoundError: if nothing has that name, the folder lacks safetensors weights, or the
            model makes no token vectors.
    """
    folder = resolve_model(name, packages=ENCODERS, download=download)
    fingerprint = checkpoint_fingerprint(folder, settings_shas(folder))
    check_safetensors(folder)
    if holds(folder, "MultiVectorEncoder"):
        model = open_checkpoint("MultiVectorEncoder", folder)
        return TokenEncoder(model, name=name, fingerprint=fingerprint)
    model = open_checkpoint("SentenceTransformer", folder)
    encoder = TokenEncoder(
        model, name=name, fingerprint=fingerprint, prompts=checkpoint_prompts(folder)
    )
    try:
        encoder.encode(["a"])
    except KeyError as error:
        raise ModelNotFoundError(f"{folder} holds an encoder without token vectors") from error
    return encoder


def _unit(tokens: np.ndarray) -> np.ndarray:
    """Return rows of unit length; a row without a direction stays zero."""
    norms = np.linalg.norm(tokens, axis=-1, keepdims=True)
    unit: np.ndarray = np.divide(tokens, norms, out=np.zeros_like(tokens), where=norms > 0)
    return unit

"""Cross-encoders: pairs of query and passage to scores, over sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rag.models.checkpoint import checkpoint_fingerprint, open_checkpoint
from rag.models.layout import check_holds, settings_shas
from rag.models.quiet import quiet_libraries
from rag.models.resolve import resolve_model


class PairScorer:
    """Scores pairs of texts by a cross-encoder with one output.

    A pair over the model's window is cut there: the end of the longer text is not read.

    Attributes:
        name: what the user called it.
        fingerprint: hash of its weights and settings.
    """

    def __init__(self, model: Any, *, name: str, fingerprint: str) -> None:
        """Wrap a loaded `sentence_transformers.CrossEncoder`; `load_cross_encoder` loads one."""
        self._model = model
        self.name = name
        self.fingerprint = fingerprint

    def scores(self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 32) -> np.ndarray:
        """Return the score of each pair, float64 (n,); higher is more relevant.

        Args:
            pairs: query and passage; may be none.
            batch_size: pairs that are read at a time.

        Raises:
            ValueError: if the model gives a score that is not finite, or more than one a pair.
        """
        if not pairs:
            return np.zeros(0)
        clean = [tuple(text.encode("utf-8", "replace").decode() for text in pair) for pair in pairs]
        with quiet_libraries():
            found = self._model.predict(
                clean, batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True
            )
        scores = np.asarray(found, np.float64)
        if scores.shape != (len(pairs),):
            raise ValueError(
                f"cross-encoder {self.name!r} must give one score a pair, ({len(pairs)},), got "
                f"{scores.shape}: it is a classifier"
            )
        if not np.isfinite(scores).all():
            raise ValueError(f"cross-encoder {self.name!r} gave a score that is not finite")
        return scores


def load_cross_encoder(name: str, *, download: bool = False) -> PairScorer:
    """Load a cross-encoder; on a CUDA device if there is one. No code of its folder runs.

    Args:
        name: a local folder, or a hub id `owner/name`.
        download: whether a name without `/` may be looked up on the hub.

    Raises:
        ModelNotFoundError: if nothing has that name, or the folder lacks safetensors weights, those
            of the head included.
    """
    folder = resolve_model(name, packages={}, download=download)
    fingerprint = checkpoint_fingerprint(folder, settings_shas(folder))
    check_holds(folder, "CrossEncoder", "cross-encoder")
    model = open_checkpoint("CrossEncoder", folder)
    return PairScorer(model, name=name, fingerprint=fingerprint)

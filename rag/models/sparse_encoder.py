"""Sparse encoders: texts to learned term weights, over sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rag.models.checkpoint import checkpoint_fingerprint, open_checkpoint
from rag.models.layout import check_holds, settings_shas
from rag.models.quiet import quiet_libraries
from rag.models.resolve import resolve_model

_BATCH = 32
# A batch holds a number for each token and each term of the vocabulary: 32 texts of 256 tokens take
# 1 GB. Without an accelerator that is slower than small batches, too.
_BATCH_CPU = 8


class SparseTextEncoder:
    """Encodes texts as weights of vocabulary terms, by SPLADE or any other sparse encoder.

    Both sides go their own way through the model: an inference-free one looks a query's terms up in
    a table and runs no network for it. Texts over the model's window are cut there.

    Attributes:
        name: what the user called it.
        fingerprint: hash of its weights, its settings and `max_active_dims`.
        max_active_dims: terms that are kept of a text, the heaviest; None keeps all.
    """

    def __init__(
        self, model: Any, *, name: str, fingerprint: str, max_active_dims: int | None = None
    ) -> None:
        """Wrap a loaded `sentence_transformers.SparseEncoder`; `load_sparse_encoder` loads one."""
        self._model = model
        self.name = name
        self.fingerprint = fingerprint
        self.max_active_dims = max_active_dims
        self._terms: list[str] | None = None
        self._batch = _BATCH_CPU if str(model.device) == "cpu" else _BATCH

    def encode(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> list[dict[str, float]]:
        """Return the term weights of passages, all above 0, in their order.

        Args:
            texts: may be empty, as may each text.
            progress: called after each batch with the number of texts done so far.
        """
        found: list[dict[str, float]] = [{} for _ in texts]
        # Texts of like length share a batch, longest first: little padding, and no late surprise.
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            weighed = self._weights(self._model.encode_document, [texts[row] for row in rows])
            for row, weights in zip(rows, weighed, strict=True):
                found[row] = weights
            if progress is not None:
                progress(start + len(rows))
        return found

    def encode_queries(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return the term weights of queries, all above 0, in their order."""
        return self._weights(self._model.encode_query, texts)

    def _weights(self, encode: Callable[..., Any], texts: Sequence[str]) -> list[dict[str, float]]:
        if not texts:
            return []
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        with quiet_libraries():
            rows = encode(
                clean,
                batch_size=self._batch,
                show_progress_bar=False,
                convert_to_tensor=False,
                convert_to_sparse_tensor=True,
                save_to_cpu=True,
                max_active_dims=self.max_active_dims,
            )
        return [self._named(row.coalesce()) for row in rows]

    def _named(self, row: Any) -> dict[str, float]:
        """Return a sparse tensor, (vocabulary,), as weights by term.

        The terms are the vocabulary's tokens. Other places, as padding of the vocabulary or a
        sparse autoencoder has them, are named by their number.
        """
        if self._terms is None:
            self._terms = self._names(len(row))
        places, values = row.indices()[0].tolist(), row.values().float().tolist()
        return {
            self._terms[place]: value
            for place, value in zip(places, values, strict=True)
            if value > 0.0
        }

    def _names(self, width: int) -> list[str]:
        names = [f"#{place}" for place in range(width)]
        if any(type(module).__name__ == "SparseAutoEncoder" for module in self._model):
            return names
        for term, place in self._model.tokenizer.get_vocab().items():
            if place < width:
                names[place] = term
        return names


def load_sparse_encoder(
    name: str, *, download: bool = False, max_active_dims: int | None = None
) -> SparseTextEncoder:
    """Load a sparse encoder; on a CUDA device if there is one. No code of its folder runs.

    Args:
        name: a local folder, or a hub id `owner/name`.
        download: whether a name without `/` may be looked up on the hub.
        max_active_dims: terms that are kept of a text, at least 1; None keeps all.

    Raises:
        ModelNotFoundError: if nothing has that name, or the folder lacks safetensors weights, those
            of the head included.
        ValueError: if max_active_dims is below 1.
    """
    if max_active_dims is not None and max_active_dims < 1:
        raise ValueError(f"max_active_dims must be at least 1, got {max_active_dims}")
    folder = resolve_model(name, packages={}, download=download)
    fingerprint = checkpoint_fingerprint(
        folder, {"max_active_dims": max_active_dims, **settings_shas(folder)}
    )
    check_holds(folder, "SparseEncoder", "sparse encoder")
    model = open_checkpoint("SparseEncoder", folder)
    return SparseTextEncoder(
        model, name=name, fingerprint=fingerprint, max_active_dims=max_active_dims
    )

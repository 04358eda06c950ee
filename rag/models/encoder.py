"""Encoders: texts to unit vectors, over sentence-transformers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from rag.models.checkpoint import checkpoint_fingerprint, open_checkpoint
from rag.models.layout import check_safetensors
from rag.models.quiet import quiet_libraries
from rag.models.resolve import ENCODERS, resolve_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sentence_transformers import SentenceTransformer

Precision = Literal["float32", "bfloat16"]
_BATCH = 32


class SentenceEncoder:
    """Encodes texts by a sentence-transformers model; satisfies `rag.protocols.Encoder`.

    A text longer than the model's window is cut at words into windows of about equal length, and
    its vector is the mean of theirs, weighted by tokens, at unit length.

    In float32 a text's vector is the same whatever stands beside it, within 2e-7 a component. In
    bfloat16 it moves by up to 2e-3 a component (cosine 0.99997) with the batch, and stays within
    cosine 0.9999 of float32; it is about twice as fast where the processor has bfloat16 products.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        name: str,
        fingerprint: str,
        query_prompt: str = "",
        document_prompt: str = "",
    ) -> None:
        """Wrap a loaded model; `load_encoder` is the usual way.

        Args:
            model: used for inference only; kept as it is.
            name: what the user called it.
            fingerprint: hash of its weights and prompts.
            query_prompt: put before every query.
            document_prompt: put before every passage, and every window of a long one.

        Raises:
            ValueError: if a prompt leaves no room for text in the model's window.
        """
        self._model = model
        self._name = name
        self._fingerprint = fingerprint
        self.query_prompt = query_prompt
        self.document_prompt = document_prompt
        self._rooms = {prompt: self._room(prompt) for prompt in (query_prompt, document_prompt)}
        self._dim = int(self._vectors([""], "").shape[1])

    @property
    def name(self) -> str:
        """What the user called it."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """SHA-256 of weights, pooling, window and prompts; not of the precision they run in."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self._dim

    def encode(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Return unit vectors of passages, float32 (n, dim), in the texts' order.

        Args:
            texts: may be empty, as may each text. Lone surrogates are read as `?`.
            progress: called after each batch with the number of texts done so far.
        """
        return self._encoded(texts, self.document_prompt, progress)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors of queries, float32 (n, dim), in the texts' order."""
        return self._encoded(texts, self.query_prompt, None)

    def _encoded(
        self, texts: Sequence[str], prompt: str, progress: Callable[[int], None] | None
    ) -> np.ndarray:
        vectors = np.empty((len(texts), self._dim), np.float32)
        # Texts of like length share a batch, longest first: little padding, and no late surprise.
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            windows = [
                self._windows(texts[row].encode("utf-8", "replace").decode(), prompt)
                for row in rows
            ]
            found = self._vectors([window for of_text in windows for window, _ in of_text], prompt)
            end = 0
            for row, of_text in zip(rows, windows, strict=True):
                begin, end = end, end + len(of_text)
                weights = np.array([tokens for _, tokens in of_text], np.float32)
                vectors[row] = _unit(weights @ _unit(found[begin:end]))
            if progress is not None:
                progress(start + len(rows))
        return vectors

    def _vectors(self, texts: list[str], prompt: str) -> np.ndarray:
        """Return the model's own vectors, float32 (n, dim), of any norm."""
        with quiet_libraries():
            found = self._model.encode(
                texts,
                prompt=prompt,
                batch_size=_BATCH,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        return np.asarray(found, np.float32)

    def _room(self, prompt: str) -> int | None:
        """Return the most tokens that fit behind a prompt; None for a model without a window."""
        tokenizer, limit = self._model.tokenizer, self._model.max_seq_length
        if limit is None:
            return None
        taken = len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) if prompt else 0
        room = int(limit) - int(tokenizer.num_special_tokens_to_add()) - taken
        if room < 1:
            raise ValueError(
                f"a prompt must leave room in the window of {limit} tokens, got {prompt!r} of "
                f"{taken}"
            )
        return room

    def _windows(self, text: str, prompt: str = "") -> list[tuple[str, int]]:
        """Return pieces of a text that fit behind the prompt, each with a weight in tokens."""
        room = self._rooms[prompt]
        if room is None:
            return [(text, 1)]
        # No token is shorter than a byte, but for a marker of the text's start that some tokenizers
        # add, so short texts need not be counted.
        if len(text.encode()) < room:
            return [(text, 1)]
        with quiet_libraries():
            read = self._model.tokenizer(
                text, add_special_tokens=False, truncation=False, return_offsets_mapping=True
            )
        offsets, words = read["offset_mapping"], read.word_ids()
        if len(offsets) <= room:
            return [(text, 1)]
        size = math.ceil(len(offsets) / math.ceil(len(offsets) / room))
        windows, start = [], 0
        while start < len(offsets):
            end = min(start + size, len(offsets))
            while end < min(start + room, len(offsets)) and words[end] == words[end - 1]:
                end += 1
            windows.append((text[offsets[start][0] : offsets[end - 1][1]], end - start))
            start = end
        return windows


def load_encoder(
    name: str = "minilm",
    *,
    download: bool = False,
    precision: Precision = "float32",
    query_prompt: str | None = None,
    document_prompt: str | None = None,
) -> SentenceEncoder:
    """Load an encoder; on a CUDA device if there is one. No code of the model's folder runs.

    Args:
        name: a short name (`minilm`), a local folder, or a hub id `owner/name`.
        download: whether a short name may be fetched from the hub.
        precision: what it computes in. Vectors of one fingerprint may be mixed: an index may be
            built in bfloat16 and asked in float32.
        query_prompt: put before queries, such as `query: `; None takes the checkpoint's own.
        document_prompt: put before passages; None takes the checkpoint's own.

    Raises:
        ModelNotFoundError: if nothing has that name, or the folder holds no safetensors weights.
        ValueError: for an unknown precision, or a prompt that leaves no room for text.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {get_args(Precision)}, got {precision!r}")
    folder = resolve_model(name, packages=ENCODERS, download=download)
    query, document = checkpoint_prompts(folder, query_prompt, document_prompt)
    fingerprint = encoder_fingerprint(folder, query_prompt=query, document_prompt=document)
    check_safetensors(folder)
    import torch

    model = open_checkpoint("SentenceTransformer", folder)
    model = model.to(getattr(torch, precision)).eval()
    return SentenceEncoder(
        model, name=name, fingerprint=fingerprint, query_prompt=query, document_prompt=document
    )


def encoder_fingerprint(
    folder: Path, *, query_prompt: str | None = None, document_prompt: str | None = None
) -> str:
    """Return the SHA-256 over an encoder's weight files, pooling, window and prompts, in hex.

    Wherever the folder lies, the same model has the same fingerprint.

    Args:
        folder: of the checkpoint.
        query_prompt: put before queries; None takes the checkpoint's own.
        document_prompt: put before passages; None takes the checkpoint's own.

    Raises:
        ModelNotFoundError: if the folder holds no `.safetensors` file.
    """
    prompts = checkpoint_prompts(folder, query_prompt, document_prompt)
    named = zip(("query_prompt", "document_prompt"), prompts, strict=True)
    return checkpoint_fingerprint(folder, {name: prompt for name, prompt in named if prompt})


def checkpoint_prompts(
    folder: Path, query: str | None = None, document: str | None = None
) -> tuple[str, str]:
    """Return the prompts of queries and of passages, the checkpoint's own where none is given.

    Its own are those named `query`, and `document` or else `passage`; without one it is empty.

    Args:
        folder: of the checkpoint.
        query: put before queries, or None.
        document: put before passages, or None.
    """
    path = folder / "config_sentence_transformers.json"
    own = json.loads(path.read_bytes()).get("prompts") or {} if path.exists() else {}
    of_document = own.get("document") or own.get("passage") or ""
    return (
        (own.get("query") or "") if query is None else query,
        of_document if document is None else document,
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return float32 vectors of unit length along the last axis."""
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit

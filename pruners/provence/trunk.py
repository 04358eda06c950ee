"""Trunks: a checkpoint's transformer without a head, its tokenizer and its fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag.errors import ModelNotFoundError
from rag.models.fingerprint import fingerprint
from rag.models.layout import check_safetensors
from rag.models.quiet import quiet_libraries
from rag.models.resolve import ENCODERS, resolve_model


@dataclass(frozen=True, slots=True)
class Trunk:
    """A loaded trunk.

    Attributes:
        model: the transformer, in evaluation mode.
        tokenizer: its fast tokenizer.
        fingerprint: SHA-256 of its weight files.
        name: what the user called it.
    """

    model: Any
    tokenizer: Any
    fingerprint: str
    name: str


def load_trunk(name: str = "minilm", *, download: bool = False) -> Trunk:
    """Load a trunk on the CPU, in float32. No code of its folder runs.

    Args:
        name: a short name (`minilm`), a local folder, or a hub id `owner/name`.
        download: whether a short name may be fetched from the hub.

    Raises:
        ModelNotFoundError: if nothing has that name, or the folder holds no safetensors weights.
    """
    folder = resolve_model(name, packages=ENCODERS, download=download)
    found = trunk_fingerprint(folder)
    check_safetensors(folder)
    import torch
    import transformers

    settings = {"local_files_only": True, "trust_remote_code": False}
    with quiet_libraries():
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **settings)
        model = transformers.AutoModel.from_pretrained(
            str(folder), use_safetensors=True, dtype=torch.float32, **settings
        )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # a sentence encoder's: neither head reads it
    return Trunk(model.eval(), tokenizer, found, name)


def trunk_fingerprint(folder: Path) -> str:
    """Return the SHA-256 over the weight files of a checkpoint, in hex, wherever it lies.

    Raises:
        ModelNotFoundError: if the folder holds no `.safetensors` file.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelNotFoundError(f"{folder} holds no .safetensors weights, so it is no trunk")
    return fingerprint(files)


def most_tokens(trunk: Any) -> int:
    """Return the longest input that a transformer has positions for, control tokens included."""
    config = trunk.config
    positions = int(config.max_position_embeddings)
    # The RoBERTa family numbers positions from the padding token's id plus one.
    shifted = "roberta" in config.model_type or config.model_type == "camembert"
    return positions - (int(config.pad_token_id) + 1 if shifted else 0)

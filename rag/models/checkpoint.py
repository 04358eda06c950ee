"""Checkpoints of sentence-transformers: opened without their code, known by their weights."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rag.errors import ModelNotFoundError
from rag.models.fingerprint import file_sha
from rag.models.quiet import quiet_libraries

Architecture = Literal["SentenceTransformer", "SparseEncoder", "CrossEncoder", "MultiVectorEncoder"]


def open_checkpoint(architecture: Architecture, folder: Path, **settings: Any) -> Any:
    """Load a model of sentence-transformers; on a CUDA device if there is one.

    Only safetensors weights are read, no code of the folder runs, and nothing is fetched.

    Args:
        architecture: the library's class for it.
        folder: of the checkpoint.
        **settings: more arguments of that class.
    """
    import sentence_transformers
    import torch

    with quiet_libraries():
        model = getattr(sentence_transformers, architecture)(
            str(folder),
            device="cuda" if torch.cuda.is_available() else "cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
            **settings,
        )
    return model.eval()


def checkpoint_fingerprint(folder: Path, more: Mapping[str, Any] | None = None) -> str:
    """Return the SHA-256 over a checkpoint's weight files and the settings of its modules, in hex.

    Wherever the folder lies, the same model has the same fingerprint.

    Args:
        folder: of the checkpoint.
        more: what else its output depends on.

    Raises:
        ModelNotFoundError: if the folder holds no `.safetensors` file.
    """
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights:
        raise ModelNotFoundError(f"{folder} holds no .safetensors weights, so it is no encoder")
    parts: dict[str, Any] = {str(path.relative_to(folder)): file_sha(path) for path in weights}
    for path in [*folder.glob("[0-9]*_*/config.json"), folder / "sentence_bert_config.json"]:
        if path.exists():
            parts[str(path.relative_to(folder))] = json.loads(path.read_bytes())
    parts |= more or {}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

"""Layouts of checkpoints: what a folder says that it holds, read before anything is loaded."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from rag.errors import ModelNotFoundError
from rag.models.fingerprint import file_sha

Kind = Literal["CrossEncoder", "MultiVectorEncoder", "SparseEncoder"]

_HEADS: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        "CrossEncoder": ("ForSequenceClassification", "ForCausalLM"),
        "MultiVectorEncoder": ("HF_ColBERT", "ForRetrieval"),
        "SparseEncoder": ("ForMaskedLM",),
    }
)
_SETTINGS = (".json", ".jinja", ".model")
_SETTING_FILES = ("vocab.txt", "merges.txt", "artifact.metadata")


def holds(folder: Path, kind: Kind) -> bool:
    """Return whether a checkpoint has all weights of a model of that kind.

    The library loads any folder as any kind, and draws at random what is missing: a head of a
    cross-encoder, a projection of a multi-vector encoder. Such a model scores otherwise each time.

    Args:
        folder: of the checkpoint.
        kind: the library's class.
    """
    modules = [str(module.get("type", "")) for module in _json(folder / "modules.json", [])]
    saved = _json(folder / "config_sentence_transformers.json", {}).get("model_type")
    architectures = _json(folder / "config.json", {}).get("architectures") or []
    has_head = any(str(name).endswith(_HEADS[kind]) for name in architectures)
    if not modules:
        return has_head
    if saved == kind:
        return True
    if kind == "MultiVectorEncoder":
        # PyLate saves a transformer and a projection, and its early versions name no type.
        projects = any(module.endswith(".Dense") for module in modules)
        pools = any(module.endswith(".Pooling") for module in modules)
        return saved == "ColBERT" or has_head or (projects and not pools)
    # An ordinary encoder is made sparse by a random head, whatever its transformer was saved as.
    return has_head and not (kind == "SparseEncoder" and saved in (None, "SentenceTransformer"))


def check_holds(folder: Path, kind: Kind, noun: str) -> None:
    """Refuse a checkpoint that lacks weights of a model of that kind.

    Args:
        folder: of the checkpoint.
        kind: the library's class.
        noun: what a person calls it.

    Raises:
        ModelNotFoundError: if weights are missing, or any of them are in a pickle only.
    """
    check_safetensors(folder)
    if not holds(folder, kind):
        raise ModelNotFoundError(
            f"{folder} holds no {noun}: the weights of its head are missing and would be random"
        )


def check_safetensors(folder: Path) -> None:
    """Refuse a checkpoint of which a part would be read from a pickle.

    Raises:
        ModelNotFoundError: naming the file.
    """
    for path in sorted(folder.rglob("pytorch_model*.bin")):
        if not any(path.parent.glob("*.safetensors")):
            raise ModelNotFoundError(
                f"{path} is a pickle, which may run code: {path.parent} holds no .safetensors "
                "weights"
            )


def settings_shas(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file but the weights that a model's output depends on, in hex.

    These are configurations, prompts, vocabularies and tokenizers, by their path in the folder.
    """
    return {
        str(path.relative_to(folder)): file_sha(path)
        for path in sorted(folder.rglob("*"))
        if (path.suffix in _SETTINGS or path.name in _SETTING_FILES)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def _json(path: Path, default: Any) -> Any:
    """Return a file's content; the default if there is no such file."""
    return json.loads(path.read_bytes()) if path.exists() else default

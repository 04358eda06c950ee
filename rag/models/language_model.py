"""Language models: resolving a name, choosing a dtype, and the identity that KV is keyed by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from rag.errors import ModelNotFoundError
from rag.models.fingerprint import fingerprint
from rag.models.gguf import converted
from rag.models.quiet import quiet_libraries
from rag.models.resolve import LANGUAGE_MODELS, resolve_model
from rag.records import ModelIdentity

# Settings of a configuration that say where it came from, not what the model computes.
DESCRIPTIVE = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"}
DtypeName = Literal["auto", "float32", "bfloat16", "float16", "float64"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal language model in evaluation mode, its tokenizer and its identity."""

    model: Any
    tokenizer: Any
    identity: ModelIdentity


def best_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where matrix products in it are fast, else float32.

    On CPUs with AVX512-BF16 or AMX bfloat16 prefills two to four times faster than float32; on
    others it is emulated. float16 is slow on every CPU.
    """
    if device.type == "cuda":
        return torch.bfloat16
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # noqa: SLF001
    return torch.bfloat16 if fast else torch.float32


def load_language_model(
    name: str = "smollm2-135m",
    *,
    dtype: DtypeName = "auto",
    device: str = "auto",
    download: bool = False,
) -> LoadedModel:
    """Load a causal language model from an installed package, a local folder or file, or the hub.

    Args:
        name: `smollm2-135m`, a folder in Hugging Face layout, a `.gguf` file, or a hub id with `/`.
        dtype: `auto` is `best_dtype`.
        device: `auto` is CUDA if there is one, else the CPU.
        download: let a bare name reach the hub too.

    Raises:
        ModelNotFoundError: if nothing resolves the name, or what it names holds no model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = resolve_model(name, packages=LANGUAGE_MODELS, download=download)
    folder = converted(found) if found.suffix == ".gguf" else found
    if not (folder / "config.json").is_file():
        raise ModelNotFoundError(f"{name!r} is {folder}, which holds no config.json")
    where = torch.device(
        device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    )
    chosen = best_dtype(where) if dtype == "auto" else getattr(torch, dtype)
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet_libraries():
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=chosen, use_safetensors=True, **options
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except OSError as error:
        raise ModelNotFoundError(
            f"{name!r} is {folder}, which cannot be loaded: {error}"
        ) from error
    model.to(where).eval()
    return LoadedModel(model, tokenizer, identify(name, model, folder, chosen))


def identify(name: str, model: Any, folder: Path, dtype: torch.dtype) -> ModelIdentity:
    """Return what the model's KV depends on, hashing the weight and tokenizer files."""
    settings = {k: v for k, v in model.config.to_dict().items() if k not in DESCRIPTIVE}
    return ModelIdentity(
        name=name,
        weights=fingerprint(folder.glob("*.safetensors")),
        config=json.dumps(settings, sort_keys=True, default=str),
        dtype=f"{str(dtype).removeprefix('torch.')}/{model.device.type}",
        tokenizer=fingerprint(folder.glob("tokenizer*")),
    )

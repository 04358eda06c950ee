"""GGUF files, read once: dequantised to safetensors that load in a fraction of a second."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import tempfile
from pathlib import Path

from rag.models.quiet import quiet_libraries
from rag.models.user_cache import user_cache

CONVERTER = "1"


def converted(gguf: Path) -> Path:
    """Return a folder with the same model as bfloat16 safetensors, converting on first use.

    Conversion takes about 20 seconds for 135 M parameters; the folder appears only when it is
    complete. transformers cannot save a model that it read from GGUF, so the weights move into a
    plain model of the same configuration first.

    Args:
        gguf: a GGUF file of an architecture that transformers reads.
    """
    stat = gguf.stat()
    label = f"{gguf.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{CONVERTER}"
    name = f"{gguf.stem}-{hashlib.sha256(label.encode()).hexdigest()[:12]}"
    parent = user_cache() / "models"
    target = parent / name
    if target.is_dir():
        return target
    parent.mkdir(mode=0o700, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=parent))
    try:
        _convert(gguf, unfinished)
        if not target.is_dir():
            unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _convert(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # The GGUF reader draws its own progress bar and offers no switch for it.
    with quiet_libraries(), contextlib.redirect_stderr(io.StringIO()):
        source = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
        settings = source.config.to_dict()
        settings.pop("quantization_config", None)
        plain = type(source)(type(source.config)(**settings))
        plain.load_state_dict(source.state_dict())
        plain.to(torch.bfloat16).save_pretrained(target)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)

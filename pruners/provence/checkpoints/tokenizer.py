"""A checkpoint's tokenizer, from its `tokenizer.json`; no class that the folder names is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pruners.provence.checkpoints.contents import read_json
from rag.errors import ModelNotFoundError
from rag.models.quiet import quiet_libraries

_FILE = "tokenizer.json"
_ROLES = ("bos", "cls", "eos", "mask", "pad", "sep", "unk")


def load_tokenizer(folder: Path, *, single_separator: bool = False) -> Any:
    """Return the fast tokenizer of a checkpoint.

    Args:
        folder: of the checkpoint.
        single_separator: whether a pair is `[CLS] a [SEP] b [SEP]`, whatever the file says.

    Raises:
        ModelNotFoundError: if there is no `tokenizer.json`, or special tokens are not stated.
    """
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    if not (folder / _FILE).is_file():
        raise ModelNotFoundError(
            f"{folder} holds no {_FILE}; save the checkpoint with a fast tokenizer of transformers"
        )
    special = _special_tokens(folder)
    with quiet_libraries():
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / _FILE), **special)
    if single_separator:
        first, separator = special["cls_token"], special["sep_token"]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{first} $A {separator}",
            pair=f"{first} $A {separator} $B {separator}",
            special_tokens=[
                (token, tokenizer.convert_tokens_to_ids(token)) for token in (first, separator)
            ],
        )
    return tokenizer


def _special_tokens(folder: Path) -> dict[str, str]:
    """Return special tokens by their role, as the folder's JSON files state them."""
    stated: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            stated |= read_json(folder / name)
    found = {}
    for role in (f"{name}_token" for name in _ROLES):
        token = stated.get(role)
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            found[role] = text
    lacking = sorted({"cls_token", "pad_token", "sep_token", "unk_token"} - found.keys())
    if lacking:
        raise ModelNotFoundError(
            f"tokenizer_config.json in {folder} must state {', '.join(lacking)}"
        )
    return found

"""Pruners: which sentences of a passage a query needs."""

from typing import Any

_HOMES = {
    "SentencePruner": "pruners.sentences",
    "estimated_tokens": "pruners.sentences",
    "sentence_texts": "pruners.sentences",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)

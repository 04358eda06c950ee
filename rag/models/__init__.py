"""Models: names resolved to local files, and encoders and language models loaded from them."""

from typing import Any

_HOMES = {
    "ENCODERS": "rag.models.resolve",
    "LANGUAGE_MODELS": "rag.models.resolve",
    "PackagedModel": "rag.models.resolve",
    "SentenceEncoder": "rag.models.encoder",
    "load_encoder": "rag.models.encoder",
    "resolve_model": "rag.models.resolve",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)

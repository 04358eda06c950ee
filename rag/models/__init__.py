"""Models: names resolved to local files, and encoders and language models loaded from them."""

from rag.lazy import lazy_names

_HOMES = {
    "ENCODERS": "rag.models.resolve",
    "LANGUAGE_MODELS": "rag.models.resolve",
    "PackagedModel": "rag.models.resolve",
    "SentenceEncoder": "rag.models.encoder",
    "load_encoder": "rag.models.encoder",
    "resolve_model": "rag.models.resolve",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

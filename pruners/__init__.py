"""Pruners: which sentences of a passage a query needs."""

from rag.lazy import lazy_names

_HOMES = {
    "RelevantPassages": "pruners.relevant",
    "SentencePruner": "pruners.sentences",
    "estimated_tokens": "pruners.sentences",
    "sentence_texts": "pruners.sentences",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

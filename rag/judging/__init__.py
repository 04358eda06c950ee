"""Judges: whether a draft, an answer or what was retrieved is good enough."""

from rag.lazy import lazy_names

_HOMES = {
    "AnswerStable": "rag.judging.stability",
    "Confidence": "rag.judging.confidence",
    "LMJudge": "rag.judging.critique",
    "NeedsRetrieval": "rag.judging.needs_retrieval",
    "Relevance": "rag.judging.relevance",
    "Support": "rag.judging.support",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

"""Query operators: from one question to the texts that retrieval should look for."""

from rag.lazy import lazy_names

_HOMES = {
    "AppendAnswer": "rag.query.append_answer",
    "Clarify": "rag.query.clarify",
    "Condense": "rag.query.condense",
    "Decompose": "rag.query.decompose",
    "HyDE": "rag.query.hyde",
    "MultiQuery": "rag.query.multi_query",
    "QueryFromCompletion": "rag.query.from_completion",
    "Rewrite": "rag.query.rewrite",
    "StepBack": "rag.query.step_back",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

"""Traces: what a run did, step by step, as JSON lines, and views of it."""

from rag.lazy import lazy_names

_HOMES = {
    "Trace": "rag.tracing.trace",
    "TraceError": "rag.tracing.trace",
    "answer_html": "rag.tracing.html",
    "as_text": "rag.tracing.tree",
    "events_of": "rag.tracing.describe",
    "fragment": "rag.tracing.html",
    "latest": "rag.tracing.runs",
    "page": "rag.tracing.html",
    "save": "rag.tracing.runs",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

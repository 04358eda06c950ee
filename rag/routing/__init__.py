"""Routing: which arms of a flow a question takes."""

from rag.lazy import lazy_names

_HOMES = {
    "ComplexityRouter": "rag.routing.complexity",
    "RuleRouter": "rag.routing.rules",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

"""Routing: which arms of a flow, or which corpora, a question goes to."""

from rag.lazy import lazy_names

_HOMES = {
    "ComplexityRouter": "rag.routing.complexity",
    "CorpusRouter": "rag.routing.corpora",
    "DescriptionRouter": "rag.routing.descriptions",
    "CorpusSearch": "rag.routing.evidence",
    "EnsembleRouter": "rag.routing.ensemble",
    "EvidenceRouter": "rag.routing.evidence",
    "ExampleRouter": "rag.routing.examples",
    "LMRouter": "rag.routing.lm",
    "LabelledQuery": "rag.routing.labelled_queries",
    "Outcome": "rag.routing.outcomes",
    "RouteClassifier": "rag.routing.classifier",
    "RuleRouter": "rag.routing.rules",
    "label_of": "rag.routing.outcomes",
    "read_labelled_queries": "rag.routing.labelled_queries",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

"""Adaptation: a language model learns to read passages that were encoded apart."""

from rag.lazy import lazy_names

_HOMES = {
    "PlanPass": "rag.adaptation.plan_pass",
    "Reading": "rag.adaptation.plan_layout",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

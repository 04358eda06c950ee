"""Checkpoints of other projects, read by the names of their tensors; none of their code runs."""

from rag.lazy import lazy_names

_HOMES = {
    "Description": "pruners.provence.checkpoints.describe",
    "Published": "pruners.provence.checkpoints.published",
    "describe_checkpoint": "pruners.provence.checkpoints.describe",
    "load_checkpoint": "pruners.provence.checkpoints.load",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

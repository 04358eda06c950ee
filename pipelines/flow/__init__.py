"""Flows: blocks, their checks and their execution; `flow.loop(...)` and the like build blocks."""

from rag.lazy import lazy_names

_BLOCKS = "pipelines.flow.blocks"
_HOMES = dict.fromkeys(("step", "route", "branch", "map", "loop", "recurse", "nested"), _BLOCKS)
__all__ = sorted(_HOMES)  # noqa: PLE0605
__getattr__ = lazy_names(__name__, _HOMES)

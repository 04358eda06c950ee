"""Traces: what a run did, step by step, as JSON lines."""

from rag.tracing.trace import Trace

__all__ = ["Trace"]

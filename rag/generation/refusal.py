"""Refusals: what a model that was taught to says where the passages do not answer the question."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag.generation.engines import AnyEngine
    from rag.generation.prefilled import Prefilled

REFUSAL = "unanswerable"


def is_refusal(text: str) -> bool:
    """Return whether a text is a refusal: white space around it, one full stop and case apart."""
    return text.strip().removesuffix(".").rstrip().casefold() == REFUSAL


def require_probability(name: str, value: float) -> None:
    """Refuse a value that is no probability, naming it."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {value}")


def refusing_if_sure(
    engine: AnyEngine, state: Prefilled, refusal: Sequence[int], least: float
) -> Prefilled:
    """Return a state whose next token begins a refusal only if that is probable enough.

    A small model on text unlike what it was taught with refuses much that it could answer, and
    says so by the probability: where it is below `least`, the best other answer is given. An answer
    that begins as a refusal does, and goes on otherwise, is left alone.

    Args:
        engine: read the prompt.
        state: of the answer's first token; stays as it is.
        refusal: tokens of a refusal, as an answer.
        least: probability of the refusal as a whole, from 0, which lets every refusal be.
    """
    if not least or int(state.logits.argmax()) != refusal[0]:
        return state
    logprobs = engine.score(state, refusal).double()
    refuses = float(logprobs[1:].sum().exp()) >= 0.5
    if not refuses or float(logprobs.sum().exp()) >= least:
        return state
    logits = state.logits.clone()
    logits[refusal[0]] = float("-inf")
    return replace(state, logits=logits)

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


SPELLINGS = (REFUSAL, REFUSAL.capitalize(), REFUSAL.upper())


def refusing_if_sure(
    engine: AnyEngine, state: Prefilled, refusals: Sequence[Sequence[int]], least: float
) -> Prefilled:
    """Return a state whose next token begins a refusal only if that is probable enough.

    A small model on text unlike what it was taught with refuses much that it could answer, and
    says so by the probability: where it is below `least`, the best other answer is given. An answer
    that begins as a refusal does, and goes on otherwise, is left alone.

    Args:
        engine: read the prompt.
        state: of the answer's first token; stays as it is.
        refusals: tokens of each spelling of a refusal, as an answer; their probabilities add up.
        least: probability of a refusal, from 0, which lets every refusal be.
    """
    begins = {tokens[0]: tokens for tokens in refusals}
    logits, total = state.logits, 0.0
    while least and (first := int(logits.argmax())) in begins:
        logprobs = engine.score(state, begins.pop(first)).double()
        if float(logprobs[1:].sum().exp()) < 0.5:
            break
        total += float(logprobs.sum().exp())
        if total >= least:
            return state
        logits = logits.clone()
        logits[first] = float("-inf")
    return state if logits is state.logits else replace(state, logits=logits)

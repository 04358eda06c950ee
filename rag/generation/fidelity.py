"""How far an encoding plan is from another: what a mode costs, with and without known answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.generation.decoding import Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from rag.generation.engines import AnyEngine
    from rag.generation.prefilled import Prefilled


@dataclass(frozen=True, slots=True)
class Reference:
    """What the exact mode says: its own greedy answer, and its distribution at every token of it.

    Attributes:
        token_ids: the answer, at least one token; a stop token counts.
        log_probs: (tokens, vocabulary), natural logarithms.
    """

    token_ids: tuple[int, ...]
    log_probs: Tensor


def reference_of(
    engine: AnyEngine, state: Prefilled, stop: frozenset[int], tokens: int = 8
) -> Reference:
    """Return the reference after a prompt that was read in the exact mode.

    Args:
        engine: read it.
        state: stays as it is.
        stop: tokens that end an answer.
        tokens: the most to look at, at least 1.
    """
    ids: list[int] = []
    for token in engine.decode(engine.fork(state), Sampling(tokens), frozenset()):
        ids.append(token)
        if token in stop:
            break
    return Reference(tuple(ids), engine.following(state, ids).log_softmax(-1))


def divergence(engine: AnyEngine, state: Prefilled, reference: Reference) -> float:
    """Return the mean Kullback-Leibler divergence of a state from a reference, in nats a token.

    KL(reference || state) at each token of the reference's own answer: no gold answer is needed.

    Args:
        engine: read both.
        state: the same question, read in another mode; it stays as it is.
        reference: the exact mode's.
    """
    return divergence_of(engine.following(state, reference.token_ids).log_softmax(-1), reference)


def divergence_of(log_probs: Tensor, reference: Reference) -> float:
    """Return the mean Kullback-Leibler divergence from a reference, in nats a token.

    Args:
        log_probs: at each token of the reference's answer, (tokens, vocabulary), natural
            logarithms.
        reference: the exact mode's.

    Raises:
        ValueError: if the shapes differ.
    """
    wide = reference.log_probs.double()
    if log_probs.shape != wide.shape:
        shapes = f"{tuple(wide.shape)}, got {tuple(log_probs.shape)}"
        raise ValueError(f"log_probs must have the shape of the reference's, {shapes}")
    return float((wide.exp() * (wide - log_probs.double())).sum(-1).mean())


def answer_nll(engine: AnyEngine, state: Prefilled, answer: Sequence[int]) -> float:
    """Return the mean negative log-likelihood of an answer's tokens, in nats a token.

    Args:
        engine: read the prompt.
        state: stays as it is.
        answer: at least one token.

    Raises:
        ValueError: if there is none.
    """
    if not answer:
        raise ValueError("answer must hold at least one token, got none")
    return -float(engine.score(state, answer).double().mean())

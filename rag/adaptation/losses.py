"""Losses of an answer: cross entropy on its tokens, and distance from a teacher's distribution.

A distribution of a teacher is kept as its most probable tokens and one rest, so that it is small
enough to remember; the distance counts the rest as one token. With as many tokens as the vocabulary
it is the plain Kullback-Leibler divergence. Source: Hinton et al. 2015, arXiv:1503.02531.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


class Taught(NamedTuple):
    """What a teacher says of each token of an answer.

    Attributes:
        tokens: its most probable tokens, (n, k), int64; None where all of the vocabulary is given.
        logprobs: their natural log-probabilities, (n, k) or (n, vocabulary).
    """

    tokens: Tensor | None
    logprobs: Tensor

    def to(self, device: torch.device) -> Taught:
        """Return the same on a device."""
        tokens = None if self.tokens is None else self.tokens.to(device)
        return Taught(tokens, self.logprobs.to(device))


def answer_loss(logits: Tensor, answer: Tensor) -> Tensor:
    """Return the mean negative log-probability of an answer's tokens, in nats: a scalar.

    Args:
        logits: (n, vocabulary), that predict the tokens; float32 or float64 is computed in.
        answer: (n,), int64, n at least 1.
    """
    return cross_entropy(_wide(logits), answer)


def taught(logits: Tensor, most: int | None = None) -> Taught:
    """Return what logits say, as a teacher: nothing flows back through it.

    Args:
        logits: (n, vocabulary).
        most: tokens to keep; None keeps all.
    """
    logprobs = _wide(logits.detach()).log_softmax(-1)
    if most is None:
        return Taught(None, logprobs)
    best = logprobs.topk(min(most, logprobs.shape[-1]), dim=-1)
    return Taught(best.indices, best.values)


def distillation_loss(logits: Tensor, teacher: Taught) -> Tensor:
    """Return KL(teacher || student), a mean over the tokens of an answer, in nats: a scalar.

    Args:
        logits: of the student, (n, vocabulary).
        teacher: on the same device.
    """
    student = _wide(logits).log_softmax(-1)
    said = teacher.logprobs.to(student.dtype)
    if teacher.tokens is None:
        return (said.exp() * (said - student)).sum(-1).mean()
    student = student.gather(-1, teacher.tokens)
    told = (said.exp() * (said - student)).sum(-1)
    return (told + _rest(said, student)).mean()


def _rest(said: Tensor, student: Tensor) -> Tensor:
    """Return what the tokens that are not kept add, counted as one: (n,)."""
    tiny = torch.finfo(said.dtype).tiny
    left = (1.0 - said.exp().sum(-1)).clamp_min(0.0)
    there = (1.0 - student.exp().sum(-1)).clamp_min(1e-6)
    return torch.where(left > 1e-6, left * (left.clamp_min(tiny).log() - there.log()), 0.0)


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))

"""Stacking: how much a trained model and its prior count, fitted where neither was trained.

A model that is trained as a correction of its prior learns next to nothing: the prior was trained
on the same examples, and what it leaves of them is mostly noise. So the model learns alone, and
afterwards three numbers weigh both on the validation part.
Source: Wolpert 1992, Stacked generalization, Neural Networks 5(2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pruners.provence.model import ProvenceModel

_LEAST = 1e-9
_ROUNDS = 100
_PULL = 1e-4  # towards where the search begins: parts that are told apart fully have no optimum


@dataclass(frozen=True, slots=True)
class Stack:
    """Log-odds of two scorers as one: `gain * own + weight * prior + shift`.

    Attributes:
        gain: of the model's own log-odds.
        weight: of the prior's.
        shift: in nats.
    """

    gain: float = 0.5
    weight: float = 0.5
    shift: float = 0.0

    def of(self, own: Tensor, prior: Tensor) -> Tensor:
        """Return the joint log-odds."""
        return self.gain * own + self.weight * prior + self.shift


def fitted_stack(own: Tensor, prior: Tensor, part: Tensor, gold: Tensor, keep: float) -> Stack:
    """Return the stack with the least cross-entropy of what pruning compares with its threshold.

    That is the mean keep-probability of a part, such as a sentence, over its tokens.

    Args:
        own: log-odds of each token, (tokens,).
        prior: of each token, likewise.
        part: which part it is of, int64 (tokens,), from 0 and none left out.
        gold: whether each part is to be kept, bool (parts,); some are, and some are not.
        keep: how much more a part to keep counts than another.

    Raises:
        ValueError: if all parts are of one kind.
    """
    if bool(gold.all()) or not bool(gold.any()):
        raise ValueError(
            f"gold must hold parts of both kinds, got {int(gold.sum())} of {len(gold)}"
        )
    own, prior = own.double(), prior.double()
    count = torch.bincount(part, minlength=len(gold)).double()
    cost = torch.where(gold, keep, 1.0).double()
    begin = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64, device=own.device)
    numbers = begin.clone().requires_grad_()
    search = torch.optim.LBFGS([numbers], max_iter=_ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        gain, weight, shift = numbers
        each = (gain * own + weight * prior + shift).sigmoid()
        mean = torch.zeros_like(count).index_add(0, part, each) / count
        mean = mean.clamp(_LEAST, 1 - _LEAST)
        surprise = -torch.where(gold, mean.log(), torch.log1p(-mean))
        total = (cost * surprise).sum() / cost.sum() + _PULL * (numbers - begin).square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    search.step(loss)  # type: ignore[no-untyped-call]
    return Stack(*numbers.detach().tolist())


def join_prior(model: ProvenceModel, tokens: Stack, passage: Stack) -> None:
    """Make a model that was trained alone one that adds its prior, in place.

    Args:
        model: that adds none.
        tokens: of its token log-odds.
        passage: of its rerank score.

    Raises:
        ValueError: if the model adds a prior already.
    """
    if model.residual:
        raise ValueError("model must add no prior, got one that does")
    last = model.token_head.out_features - 1
    with torch.no_grad():
        for layer, stack, row in (
            (model.token_head, tokens, last),
            (model.rerank_head.classifier, passage, 0),
        ):
            layer.weight.mul_(stack.gain)
            layer.bias.mul_(stack.gain)
            layer.bias[row] += stack.shift
    model.alpha = torch.nn.Parameter(torch.tensor(tokens.weight, device=model.device))
    model.beta = torch.nn.Parameter(torch.tensor(passage.weight, device=model.device))

"""Stacking: the numbers that weigh two scorers are those that fit best, and go into the heads."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from pruners.provence.adapter import new_model
from pruners.training.stacking import Stack, fitted_stack, join_prior
from rag.training.lora import LoRA

KEEP = 2.0


@pytest.fixture
def told():
    """Log-odds of two scorers of which the second knows more, of parts of one to five tokens."""
    draw = np.random.default_rng(3)
    lengths = draw.integers(1, 6, 100)
    gold = draw.random(100) < 0.3
    part = np.repeat(np.arange(100), lengths)
    of_part = np.where(gold, 1.0, -1.0)[part]
    own = 2 * of_part + 4 * draw.standard_normal(len(part))
    prior = (1.5 * np.where(gold, 1.0, -1.0) + draw.standard_normal(100))[part]
    return own, prior, part, gold


def cost(numbers, own, prior, part, gold):
    """The definition, read literally."""
    gain, weight, shift = numbers
    total = counted = 0.0
    for row, kept in enumerate(gold):
        here = part == row
        mean = np.mean(1 / (1 + np.exp(-(gain * own[here] + weight * prior[here] + shift))))
        total += (KEEP if kept else 1.0) * -np.log(mean if kept else 1 - mean)
        counted += KEEP if kept else 1.0
    return total / counted + 1e-4 * ((gain - 0.5) ** 2 + (weight - 0.5) ** 2 + shift**2)


def of(told):
    own, prior, part, gold = map(torch.from_numpy, told)
    return fitted_stack(own, prior, part, gold, KEEP)


def test_no_other_numbers_fit_better(told):
    stack = of(told)
    best = minimize(cost, (0.5, 0.5, 0.0), args=told, method="Nelder-Mead")
    assert cost((stack.gain, stack.weight, stack.shift), *told) < best.fun + 1e-6
    assert stack.weight > stack.gain > 0  # the prior knows more


def test_what_says_nothing_counts_for_nothing(told):
    own, prior, part, gold = told
    noise = np.random.default_rng(5).standard_normal(len(own))
    stack = of((noise, prior, part, gold))
    assert abs(stack.gain) < stack.weight / 5


def test_parts_that_are_told_apart_fully_give_numbers_all_the_same(told):
    _, _, part, gold = told
    sure = np.where(gold, 1.0, -1.0)[part]
    stack = of((sure, sure, part, gold))
    assert all(np.isfinite([stack.gain, stack.weight, stack.shift]))
    assert stack.gain + stack.weight > 3


def test_parts_of_one_kind_are_refused(told):
    own, prior, part, gold = told
    with pytest.raises(ValueError, match="gold must hold parts of both kinds, got 0 of 100"):
        of((own, prior, part, np.zeros_like(gold)))


def test_a_joined_model_says_what_its_stacks_say(fresh_trunk):
    from pruners.provence.batches import collate
    from pruners.provence.pair_tokens import Block

    generator = torch.Generator().manual_seed(1)
    model = new_model(fresh_trunk().model, LoRA(2, 4.0), residual=False, generator=generator)
    with torch.no_grad():
        for parameter in model.trainable_parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.eval()
    block = Block((2, 7, 3, 9, 11, 3), (0, 0, 0, 1, 1, 1), (-1, -1, -1, 0, 1, -1))
    alone = model(collate([block], 0))
    batch = collate([block], 0, [(1.5, -0.5)])
    tokens, passage = Stack(0.7, 1.3, -0.2), Stack(1.1, 0.4, 0.3)
    join_prior(model, tokens, passage)
    joined = model(batch)
    assert torch.allclose(joined.tokens, tokens.of(alone.tokens, batch.prior), atol=1e-6)
    assert torch.allclose(joined.rerank, passage.of(alone.rerank, batch.passage_prior), atol=1e-6)
    with pytest.raises(ValueError, match="model must add no prior, got one that does"):
        join_prior(model, tokens, passage)

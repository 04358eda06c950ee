"""Losses of a Provence model: tokens, whole sentences, and the passage."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much each part counts; all at least 0.

    Attributes:
        token: cross-entropy of every sentence token.
        keep: how much more a token of a gold sentence counts than another; above 0.
        sentence: cross-entropy of each sentence's mean keep-probability, which is the score that a
            pruner compares with its threshold; a long sentence counts as much as a short one.
        rerank: cross-entropy of the passage's own score against "it holds a gold sentence".
    """

    token: float = 1.0
    keep: float = 2.0
    sentence: float = 1.0
    rerank: float = 0.1

    def __post_init__(self) -> None:
        for name in ("token", "sentence", "rerank"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not self.keep > 0.0:
            raise ValueError(f"keep must be above 0, got {self.keep}")


@dataclass(frozen=True, slots=True)
class Losses:
    """The loss of a batch and its parts, each a scalar.

    Attributes:
        total: the weighted sum, which is minimised.
        token: mean over sentence tokens, those to keep weighted.
        sentence: mean over sentences, likewise.
        rerank: mean over blocks.
    """

    total: Tensor
    token: Tensor
    sentence: Tensor
    rerank: Tensor


def provence_losses(
    tokens: Tensor, rerank: Tensor, rows: Tensor, gold: Tensor, weights: LossWeights
) -> Losses:
    """Return the losses of a batch, in the logits' dtype.

    Only tokens of sentences count: query, title, control tokens and padding have no label, unlike
    in Provence's own training, which averages over all positions (Chirkova et al. 2025,
    arXiv:2501.16214); the sentence loss is ours. A sentence that is cut over two blocks counts in
    each. A block's passage label is whether the block itself holds a token to keep.

    Args:
        tokens: log-odds that a token is kept, (blocks, tokens).
        rerank: raw scores, (blocks,).
        rows: sentence row of each token or -1, int64 (blocks, tokens); each block has one at least.
        gold: whether the token's sentence is to be kept, bool (blocks, tokens).
        weights: of the parts.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    if not tokens.shape == rows.shape == gold.shape or rerank.shape != tokens.shape[:1]:
        shapes = ", ".join(str(tuple(one.shape)) for one in (tokens, rows, gold, rerank))
        raise ValueError(f"tokens, rows, gold must be (b, t) and rerank (b,), got {shapes}")
    said = rows >= 0
    target = (gold & said).to(tokens.dtype)
    weight = torch.where(gold, weights.keep, 1.0).to(tokens.dtype) * said  # (blocks, tokens)
    each = cross_entropy(tokens, target, reduction="none")
    token = (each * weight).sum() / weight.sum()
    sentence = _sentence_loss(tokens, rows, gold, weights.keep)
    helps = (gold & said).any(1).to(rerank.dtype)
    passage = cross_entropy(rerank, helps)
    total = weights.token * token + weights.sentence * sentence + weights.rerank * passage
    return Losses(total, token, sentence, passage)


def _sentence_loss(tokens: Tensor, rows: Tensor, gold: Tensor, keep: float) -> Tensor:
    """Return the weighted cross-entropy of mean keep-probabilities, over sentences in blocks."""
    blocks, _ = rows.shape
    most = int(rows.max()) + 1
    at = rows.clamp(min=0)
    said = (rows >= 0).to(tokens.dtype)
    empty = tokens.new_zeros(blocks, most)
    count = empty.scatter_add(1, at, said)  # (blocks, sentences)
    mean = empty.scatter_add(1, at, tokens.sigmoid() * said) / count.clamp(min=1)
    kept = empty.scatter_add(1, at, gold.to(tokens.dtype) * said) > 0
    # Clamped by a straight cut: a sentence this sure has no gradient, and no infinite loss.
    mean = mean.clamp(_LEAST, 1 - _LEAST)
    each = -torch.where(kept, mean.log(), torch.log1p(-mean))
    weight = torch.where(kept, keep, 1.0).to(tokens.dtype) * (count > 0)
    return (each * weight).sum() / weight.sum()

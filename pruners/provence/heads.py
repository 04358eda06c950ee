"""Heads: what turns a trunk's hidden states into the passage's own score."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["gelu", "tanh"]
Pooling = Literal["first", "mean"]


class RerankHead(nn.Module):
    """Scores a block by one pooled state: `classifier(norm(activation(dense(state))))`.

    Dense layer and norm are optional, which covers the published heads: a linear layer alone
    (ours), DeBERTa's context pooler (dense, gelu), XLM-RoBERTa's head (dense, tanh), and
    ModernBERT's (dense, gelu, norm). Dropout is left to the trainer.

    Attributes:
        dense: width to width, or None.
        norm: layer norm, or None.
        classifier: width to labels; label 0 is the score.
    """

    def __init__(
        self,
        width: int,
        *,
        labels: int = 1,
        activation: Activation | None = None,
        dense_bias: bool = True,
        norm: nn.Module | None = None,
        pooling: Pooling = "first",
    ) -> None:
        """Make a head with a zero classifier: before training every score is 0.

        Args:
            width: of the trunk's states.
            labels: outputs of the classifier; only the first is used.
            activation: after the dense layer; None for a head without one.
            dense_bias: whether the dense layer has a bias.
            norm: applied after the activation, or None.
            pooling: state of the first token, or mean of those that are no padding.
        """
        super().__init__()
        self.dense = nn.Linear(width, width, bias=dense_bias) if activation else None
        self.norm = norm
        self.classifier = nn.Linear(width, labels)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self._activation = activation
        self._pooling = pooling

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return raw scores, (blocks,), of states (blocks, tokens, width) and a boolean mask."""
        if self._pooling == "first":
            state = hidden[:, 0]
        else:
            shares = mask.to(hidden.dtype) / mask.sum(1, keepdim=True)
            state = (hidden * shares[..., None]).sum(1)  # (blocks, width)
        if self.dense is not None:
            state = self.dense(state)
            gelu = self._activation == "gelu"
            state = nn.functional.gelu(state) if gelu else torch.tanh(state)
        if self.norm is not None:
            state = self.norm(state)
        scores: Tensor = self.classifier(state)[:, 0]
        return scores


def zero_token_head(width: int, labels: Literal[1, 2] = 2) -> nn.Linear:
    """Return a token head that gives every token log-odds 0 before training."""
    head = nn.Linear(width, labels)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head

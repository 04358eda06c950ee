"""Provence: a cross-encoder that scores the tokens of a passage and the passage in one pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pruners.provence.batches import PairBatch
from pruners.provence.heads import RerankHead, zero_token_head


class Logits(NamedTuple):
    """What the model says of a batch, in float32 or better.

    Attributes:
        tokens: log-odds that a token is worth keeping, (blocks, tokens); only those of sentence
            tokens mean anything.
        rerank: raw score of each block, (blocks,).
    """

    tokens: Tensor
    rerank: Tensor


class ProvenceModel(nn.Module):
    """A trunk with a token head and a rerank head on the same hidden states.

    With `residual` the logits of a cheaper scorer, the prior, are added: token log-odds are
    `head(state) + alpha * prior` and the rerank score is `head(state) + beta * (largest prior)`,
    alpha and beta scalars. With heads that are zero the model ranks as its prior does.

    Source: Chirkova et al. 2025, Provence, arXiv:2501.16214. The prior is ours.

    Attributes:
        trunk: a transformer of any family that gives `last_hidden_state`.
        token_head: width to 2 (drop, keep) or 1 (log-odds).
        rerank_head: states and mask to a raw score.
        alpha: weight of the prior on tokens, scalar; None without `residual`.
        beta: weight of the prior on the passage, scalar; None without `residual`.
    """

    alpha: nn.Parameter | None
    beta: nn.Parameter | None

    def __init__(
        self,
        trunk: Any,
        *,
        residual: bool = False,
        token_head: nn.Linear | None = None,
        rerank_head: RerankHead | None = None,
    ) -> None:
        """Put heads on a trunk; the trunk is used as it is, its frozen parameters stay frozen.

        Args:
            trunk: a `transformers` model without a head.
            residual: whether a prior's logits are added.
            token_head: None starts one of two labels at zero.
            rerank_head: None starts a linear one at zero.

        Raises:
            ValueError: if the token head has other than one or two labels.
        """
        super().__init__()
        width = int(trunk.config.hidden_size)
        self.trunk = trunk
        self.token_head = zero_token_head(width) if token_head is None else token_head
        self.rerank_head = RerankHead(width) if rerank_head is None else rerank_head
        if self.token_head.out_features not in {1, 2}:
            got = self.token_head.out_features
            raise ValueError(f"token_head must have 1 or 2 labels, got {got}")
        self.register_parameter("alpha", nn.Parameter(torch.ones(())) if residual else None)
        self.register_parameter("beta", nn.Parameter(torch.ones(())) if residual else None)

    @property
    def residual(self) -> bool:
        """Whether the model adds a prior's logits to its own."""
        return self.alpha is not None

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.token_head.weight.device

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that are not frozen, in the order of their names."""
        named = sorted(self.named_parameters(), key=lambda pair: pair[0])
        return [parameter for _, parameter in named if parameter.requires_grad]

    def forward(self, batch: PairBatch) -> Logits:
        """Return the logits of a batch that is on the model's device.

        Raises:
            ValueError: if the batch has a prior and the model adds none, or the other way round.
        """
        if (batch.prior is None) == self.residual:
            wanted = "a prior" if self.residual else "no prior"
            raise ValueError(f"batch must have {wanted} for this model, got the opposite")
        types = {"token_type_ids": batch.types} if _reads_types(self.trunk) else {}
        read = self.trunk(input_ids=batch.ids, attention_mask=batch.mask.long(), **types)
        # A trunk in bfloat16 may carry heads in float32.
        hidden = read.last_hidden_state.to(self.token_head.weight.dtype)
        tokens = _at_least_float32(self.token_head(hidden))
        odds = tokens[..., 1] - tokens[..., 0] if tokens.shape[-1] == 2 else tokens[..., 0]
        rerank = _at_least_float32(self.rerank_head(hidden, batch.mask))
        if self.alpha is not None and self.beta is not None:
            assert batch.prior is not None
            assert batch.passage_prior is not None
            odds = odds + self.alpha * batch.prior
            rerank = rerank + self.beta * batch.passage_prior
        return Logits(odds, rerank)


def _reads_types(trunk: Any) -> bool:
    """Return whether a trunk has more than one token type."""
    return int(getattr(trunk.config, "type_vocab_size", 0) or 0) > 1


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))

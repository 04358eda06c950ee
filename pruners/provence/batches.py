"""Blocks as padded tensors, ready for the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruners.provence.pair_tokens import Block


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Blocks of one length, padded at the end.

    Attributes:
        ids: token ids, int64 (blocks, tokens).
        mask: True for a token, False for padding, (blocks, tokens).
        types: token types, int64 (blocks, tokens).
        rows: sentence row of each token or -1, int64 (blocks, tokens); -1 for padding too.
        prior: log-odds of the prior for each token's sentence, float32 (blocks, tokens), 0 where
            `rows` is -1; None without a prior.
        passage_prior: largest log-odds of the block's sentences, float32 (blocks,); None likewise.
    """

    ids: Tensor
    mask: Tensor
    types: Tensor
    rows: Tensor
    prior: Tensor | None = None
    passage_prior: Tensor | None = None

    def to(self, device: torch.device | str) -> PairBatch:
        """Return the same batch on a device."""
        return PairBatch(
            self.ids.to(device),
            self.mask.to(device),
            self.types.to(device),
            self.rows.to(device),
            None if self.prior is None else self.prior.to(device),
            None if self.passage_prior is None else self.passage_prior.to(device),
        )


def collate(
    blocks: Sequence[Block], pad_id: int, priors: Sequence[Sequence[float]] | None = None
) -> PairBatch:
    """Return blocks as one batch, as long as the longest.

    Args:
        blocks: at least one.
        pad_id: id of the padding token.
        priors: for each block the log-odds of every sentence of its passage; None without a prior.

    Raises:
        ValueError: for no block, or priors that are not one a block.
    """
    if not blocks:
        raise ValueError("blocks must be at least one, got none")
    if priors is not None and len(priors) != len(blocks):
        raise ValueError(f"priors must be one a block, got {len(priors)} for {len(blocks)}")
    longest = max(len(block) for block in blocks)

    def padded(name: str, fill: int) -> Tensor:
        lines = [getattr(block, name) for block in blocks]
        return torch.tensor([[*line, *[fill] * (longest - len(line))] for line in lines])

    rows = padded("rows", -1)
    lengths = torch.tensor([len(block) for block in blocks])
    mask = torch.arange(longest)[None] < lengths[:, None]
    prior = passage_prior = None
    if priors is not None:
        prior = torch.tensor(
            [
                [values[row] if row >= 0 else 0.0 for row in line]
                for values, line in zip(priors, rows.tolist(), strict=True)
            ],
            dtype=torch.float32,
        )
        passage_prior = prior.masked_fill(rows < 0, -torch.inf).amax(1)  # (blocks,)
    return PairBatch(padded("ids", pad_id), mask, padded("types", 0), rows, prior, passage_prior)

"""Groups of blocks that attend together, padded to one size: few large products, not many small.

An accelerator starts a small product about as slowly as a large one. A CPU does not, and padding
costs it work, so that there each block stays a group of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rag.adaptation.plan_layout import NEUTRAL, Block, PlanLayout

if TYPE_CHECKING:
    from rag.generation.plan import ContextWeights


@dataclass(frozen=True, slots=True)
class Group:
    """Blocks side by side, each with as many queries and columns as the largest has.

    Columns of passages come first, if they are weighed; each part is padded at its end. A query
    that pads a block is its last one again.

    Attributes:
        rows: of the queries in the pass, int64 (blocks * queries,).
        columns: places among keys and moved keys, int64 (blocks * columns,).
        column_rows: rows of the tokens that they are, int64, same shape.
        positions: of the queries, int64 (blocks, queries).
        seen: positions of the columns, int64 (blocks, columns).
        contexts: weighed columns of each block, int64 (blocks,).
        last: of the other columns the last one that a query sees, int64 (blocks, queries).
        context: places for weighed columns.
        weights: T, S and b of these.
    """

    rows: Tensor
    columns: Tensor
    column_rows: Tensor
    positions: Tensor
    seen: Tensor
    contexts: Tensor
    last: Tensor
    context: int
    weights: ContextWeights

    @property
    def shape(self) -> tuple[int, int, int]:
        """Blocks, queries and columns."""
        blocks, queries = self.positions.shape
        return blocks, queries, self.seen.shape[1]

    def hidden(self, window: int | None) -> Tensor:
        """Return which columns a query does not see: bool (blocks, queries, columns).

        Args:
            window: a column so many positions before a query, or more, is not seen.
        """
        columns = torch.arange(self.seen.shape[1], device=self.seen.device)
        weighed = columns < self.context
        beyond = torch.where(weighed, columns, -1) >= self.contexts[:, None]
        later = torch.where(weighed, -1, columns - self.context) > self.last[..., None]
        hidden = beyond[:, None] | later
        if window is not None:
            hidden |= self.positions[..., None] - self.seen[:, None] >= window
        return hidden


def groups(layout: PlanLayout, *, together: bool) -> list[Group]:
    """Return all blocks of a layout in groups, on its device.

    Args:
        layout: of a pass.
        together: whether blocks of like sizes share a group; else each has its own, in order.
    """
    sizes = [len(block.seen) for block in layout.blocks]
    columns = torch.split(layout.columns, sizes)
    column_rows = torch.split(layout.column_rows, sizes)
    found: dict[object, list[int]] = {}
    for number, block in enumerate(layout.blocks):
        found.setdefault(_size(block) if together else number, []).append(number)
    return [
        _group(
            [layout.blocks[number] for number in numbers],
            [columns[number] for number in numbers],
            [column_rows[number] for number in numbers],
            layout.token_ids.device,
        )
        for numbers in found.values()
    ]


def _weighed(block: Block) -> int:
    return block.context if block.weights != NEUTRAL else 0


def _size(block: Block) -> object:
    """Return what blocks of one group have in common: weights, and sizes up to a factor of two."""
    context = _weighed(block)
    queries, rest = len(block.positions), len(block.seen) - context
    powers = (max(16, queries).bit_length(), max(64, rest).bit_length(), context.bit_length())
    return powers, block.weights if context else NEUTRAL


def _group(
    blocks: Sequence[Block],
    columns: Sequence[Tensor],
    column_rows: Sequence[Tensor],
    device: torch.device,
) -> Group:
    contexts = [_weighed(block) for block in blocks]

    def padded(parts: Sequence[Tensor]) -> Tensor:
        first = pad_sequence([p[:n] for p, n in zip(parts, contexts, strict=True)], True)
        rest = pad_sequence([p[n:] for p, n in zip(parts, contexts, strict=True)], True)
        return torch.cat([first, rest], 1)

    queries = torch.tensor([len(block.positions) for block in blocks])
    place = torch.minimum(torch.arange(int(queries.max())), queries[:, None] - 1)
    starts = torch.tensor([block.start for block in blocks])
    rest = torch.tensor([len(block.seen) for block in blocks]) - torch.tensor(contexts)
    positions = pad_sequence([block.positions for block in blocks], True).gather(1, place)
    return Group(
        (starts[:, None] + place).flatten().to(device),
        padded(columns).flatten().to(device),
        padded(column_rows).flatten().to(device),
        positions.to(device),
        padded([block.seen for block in blocks]).to(device),
        torch.tensor(contexts, device=device),
        ((rest - queries)[:, None] + place).to(device),
        max(contexts),
        blocks[0].weights,
    )

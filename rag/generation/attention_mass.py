"""Attention mass: how much of the model's attention went to each sentence that it read.

The merge of a cached context knows it anyway: a sentence's share of its group's softmax, times the
group's share of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from rag.generation.plan import EncodingPlan, PlacedRows


@dataclass(frozen=True, slots=True)
class Unit:
    """What attention is counted for.

    Attributes:
        passage: id of the passage.
        sentence: row of its sentence; None for its header and closing.
    """

    passage: str
    sentence: int | None


class Units:
    """The sentences that a plan reads, numbered; one more number stands for all the rest.

    A passage that a plan reads twice, cached and computed anew, is counted once.

    Attributes:
        known: the units in order; the number after the last is the rest.
    """

    def __init__(self, plan: EncodingPlan) -> None:
        """Number the units of a plan."""
        targets = [target.placed for target in plan.targets]
        parts = [*plan.context, *targets, *(placed for _, placed in plan.told)]
        numbers: dict[Unit, int] = {}
        for part in parts:
            for unit in _units(part):
                numbers.setdefault(unit, len(numbers))
        self.known = tuple(numbers)
        self._numbers = numbers

    @property
    def count(self) -> int:
        """Units, the rest included."""
        return len(self.known) + 1

    def of(self, parts: Sequence[PlacedRows], device: torch.device) -> Tensor:
        """Return the unit of every token of some parts, one after another: int64 (tokens,)."""
        numbers = [self._numbers[unit] for part in parts for unit in _units(part)]
        return torch.tensor(numbers, dtype=torch.int64, device=device)

    def of_prefill(self, plan: EncodingPlan, device: torch.device) -> Tensor:
        """Return the unit of every prefilled token: int64 (tokens,)."""
        numbers = torch.full((len(plan.prefill),), len(self.known), device=device)
        for at, placed in plan.told:
            numbers[at : at + len(placed)] = self.of([placed], device)
        return numbers


def _units(placed: PlacedRows) -> list[Unit]:
    """Return the unit of every row that is read."""
    segment = placed.segment
    sentence: list[int | None] = [None] * len(segment)
    for number, (start, end) in enumerate(segment.sentence_rows):
        sentence[start:end] = [number] * (end - start)
    rows = range(len(segment)) if placed.rows is None else placed.rows
    return [Unit(segment.name, sentence[row]) for row in rows]

"""Rotated copies of whole segments, in the form that attention reads; the ones used last stay."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from rag.generation.plan import PlacedRows
    from rag.records import Segment


class PlacedSegments:
    """Keys and values of whole segments at their positions, within a budget of bytes.

    Pruned passages are not kept: which rows are read depends on the question.

    Attributes:
        budget: bytes that all copies may take together.
        nbytes: bytes that they take.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nbytes = 0
        self._kept: OrderedDict[tuple[Segment, int], tuple[Tensor, Tensor]] = OrderedDict()

    def get(self, item: PlacedRows) -> tuple[Tensor, Tensor] | None:
        """Return a copy, (layers, kv_heads, tokens, head_dim) twice, or None if there is none."""
        key = item.segment, item.start
        if item.rows is not None or key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def put(self, item: PlacedRows, placed: tuple[Tensor, Tensor]) -> None:
        """Keep a copy, if it is of a whole segment and fits; drop the ones used longest ago."""
        size = _bytes(placed)
        if item.rows is not None or size > self.budget:
            return
        key = item.segment, item.start
        if key in self._kept:
            self.nbytes -= _bytes(self._kept.pop(key))
        self._kept[key] = placed
        self.nbytes += size
        while self.nbytes > self.budget:
            _, old = self._kept.popitem(last=False)
            self.nbytes -= _bytes(old)

    def clear(self) -> None:
        """Drop all copies."""
        self._kept.clear()
        self.nbytes = 0


def _bytes(placed: tuple[Tensor, Tensor]) -> int:
    return sum(part.nbytes for part in placed)

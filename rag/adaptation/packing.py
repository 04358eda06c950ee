"""Packing: which readings share a forward pass, by the tokens that they come to together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag.adaptation.plan_pass import Reading
    from rag.records import Segment


def packed_tokens(readings: Iterable[Reading]) -> int:
    """Return how many tokens a pass over some readings computes.

    Each segment counts once, up to the last row that anybody reads; targets, prefills and answers
    count for each reading, the last token of an answer not at all.
    """
    segments: dict[Segment, int] = {}
    own = 0
    for one in readings:
        plan = one.plan
        placed = [*([plan.prefix] if plan.prefix else ()), *plan.context]
        for part in placed:
            rows = len(part.segment) if part.rows is None else part.rows[-1] + 1
            segments[part.segment] = max(rows, segments.get(part.segment, 0))
        own += sum(len(target.placed) for target in plan.targets)
        own += len(plan.prefill) + len(one.answer) - 1
    return own + sum(segments.values())


def passes(groups: Sequence[Sequence[Reading]], most: int) -> list[list[int]]:
    """Return which groups of readings share a pass, in order; no group is torn.

    Args:
        groups: the readings of an example each.
        most: tokens of a pass; a group that has more stands alone.
    """
    found: list[list[int]] = []
    for row in range(len(groups)):
        joined = [*found[-1], row] if found else [row]
        if found and packed_tokens(one for n in joined for one in groups[n]) <= most:
            found[-1] = joined
        else:
            found.append([row])
    return found

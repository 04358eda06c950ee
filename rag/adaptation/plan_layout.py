"""Layout of a training pass: the tokens of several plans in one packed row, and what each sees."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from rag.generation.plan import ContextWeights, EncodingPlan, PlacedRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rag.records import Segment

QUERY_BLOCK: Final = 256
"""Queries of one block at most: a longer run of tokens is cut, so that fewer hidden keys are
multiplied."""
NEUTRAL: Final = ContextWeights()


@dataclass(frozen=True, slots=True)
class Reading:
    """A plan with the answer that follows it.

    Attributes:
        plan: of the question.
        answer: tokens that follow the prefill, at least one.

    Raises:
        ValueError: if there is no answer, or the plan has rows computed anew by a repair, which
            depends on keys and values that only a request knows.
    """

    plan: EncodingPlan
    answer: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.answer:
            raise ValueError("answer must hold at least one token, got none")
        if self.plan.recomputed_tokens:
            raise ValueError(
                f"recompute must ask for no rows in a differentiable pass, got "
                f"{self.plan.recompute}, which is {self.plan.recomputed_tokens} rows"
            )


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive queries that see the same columns, but for their own later tokens.

    Attributes:
        start: row of the first query in the pass.
        positions: of the queries, int64 (queries,).
        seen: positions of the columns, int64 (columns,): first those of the passages, then the
            prefix, then the tokens of the same run, of which the last are the queries themselves.
        context: columns of passages.
        weights: T, S and b of these.
    """

    start: int
    positions: Tensor
    seen: Tensor
    context: int = 0
    weights: ContextWeights = NEUTRAL


@dataclass(frozen=True, slots=True)
class PlanLayout:
    """One packed row of tokens, and which keys each block of it attends to.

    The keys of the row are followed by `moved` ones: the same, rotated to other positions. Blocks
    and their columns lie on the CPU, all else on the device of the pass.

    Attributes:
        token_ids: int64 (tokens,).
        positions: int64 (tokens,), at which each token is encoded.
        blocks: in the order of the row; together all of it.
        columns: of all blocks, one after another: places among keys and moved keys, int64.
        column_rows: rows of the tokens that they are, int64, same shape.
        moved: rows that are read at other positions than they were encoded at, int64 (moved,).
        moved_positions: those positions, int64 (moved,).
        predicts: rows whose logits predict answers, int64, one reading after another.
        answers: how many of them each reading has.
        positions_taken: one more than the last position of all.
    """

    token_ids: Tensor
    positions: Tensor
    blocks: tuple[Block, ...]
    columns: Tensor
    column_rows: Tensor
    moved: Tensor
    moved_positions: Tensor
    predicts: Tensor
    answers: tuple[int, ...]
    positions_taken: int


def lay_out(readings: Sequence[Reading], device: torch.device | str = "cpu") -> PlanLayout:
    """Lay several readings out in one row: what they share is there once.

    Segments come first, parents before what was encoded after them, each up to the last row that
    any reading reads; then targets and prefilled tokens of each reading. A sequential prompt that
    begins with another reading's prefix, or as another sequential prompt does, reads those tokens
    there: they see nothing else, so they are the same.

    Args:
        readings: at least one.
        device: of the tensors.

    Raises:
        ValueError: if there is no reading, or a segment has more than one parent.
    """
    if not readings:
        raise ValueError("readings must hold at least one, got none")
    packer = _Packer(_needed_rows(readings))
    openings = _openings(readings)
    for reading in readings:
        packer.reading(reading, openings)
    return packer.layout(torch.device(device))


_Key = tuple[tuple[int, ...], "_Key | None"]
"""What the keys and values of a segment depend on: its tokens, and its parent likewise."""


def _key(segment: Segment) -> _Key:
    if len(segment.parents) > 1:
        raise ValueError(f"segment {segment.name!r} has {len(segment.parents)} parents, not 1")
    return segment.token_ids, next(map(_key, segment.parents), None)


def _used(plan: EncodingPlan) -> set[int]:
    """Return the parts of a plan that its question reads, and what these were computed over."""
    used = set(plan.read_parts)
    first = len(plan.context)
    for place in reversed(range(first, first + len(plan.targets))):
        if place in used:
            used |= set(plan.targets[place - first].sources)
    return used


def _read_segments(plan: EncodingPlan) -> Iterator[PlacedRows]:
    """Yield what a plan reads of segments."""
    if plan.prefix is not None:
        yield plan.prefix
    used = _used(plan)
    yield from (placed for place, placed in enumerate(plan.context) if place in used)


def _needed_rows(readings: Sequence[Reading]) -> dict[_Key, int]:
    """Return for each segment up to which row it must be encoded."""
    needed: dict[_Key, int] = {}
    for reading in readings:
        for placed in _read_segments(reading.plan):
            key: _Key | None = _key(placed.segment)
            rows = len(placed.segment) if placed.rows is None else placed.rows[-1] + 1
            while key is not None:
                needed[key] = max(rows, needed.get(key, 0))
                key = key[1]
                rows = 0 if key is None else len(key[0])
    return needed


def _is_sequential(plan: EncodingPlan) -> bool:
    alone = plan.prefix is None and not plan.context and not plan.targets
    return alone and plan.prefill_start == 0


def _openings(readings: Sequence[Reading]) -> list[tuple[int, ...]]:
    """Return beginnings that sequential prompts may share, longest first."""
    plans = [reading.plan for reading in readings]
    prefixes = {
        plan.prefix.segment.token_ids
        for plan in plans
        if plan.prefix is not None and plan.prefix.rows is None and not plan.prefix.segment.parents
    }
    alone = [plan.prefill for plan in plans if _is_sequential(plan)]
    if len(alone) > 1:
        # Every prompt keeps a token of its own, whose logits predict its answer.
        columns = enumerate(zip(*alone, strict=False))
        differs = (place for place, column in columns if len(set(column)) > 1)
        prefixes.add(alone[0][: next(differs, min(map(len, alone)) - 1)])
    return sorted(filter(None, prefixes), key=len, reverse=True)


@dataclass(frozen=True, slots=True)
class _Run:
    """Tokens that were put into the row side by side."""

    start: int
    positions: Tensor


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows as one block or more read them; a column below 0 is a moved key, counted backwards."""

    rows: Tensor
    columns: Tensor
    positions: Tensor


class _Packer:
    """Puts runs of tokens into the row."""

    def __init__(self, needed: dict[_Key, int]) -> None:
        self._needed = needed
        self._runs: dict[_Key, _Run] = {}
        self._parts: dict[tuple[_Key, int, tuple[int, ...] | None, bool], _Part] = {}
        self._ids: list[int] = []
        self._positions: list[Tensor] = []
        self._blocks: list[Block] = []
        self._columns: list[Tensor] = []
        self._column_rows: list[Tensor] = []
        self._moved: list[Tensor] = [torch.empty(0, dtype=torch.int64)]
        self._moved_positions: list[Tensor] = [torch.empty(0, dtype=torch.int64)]
        self._moved_count = 0
        self._predicts: list[Tensor] = []

    def reading(self, reading: Reading, openings: Iterable[tuple[int, ...]]) -> None:
        """Put a reading's targets and prefill into the row, and before them what they read."""
        plan = reading.plan
        ids, start = plan.prefill, plan.prefill_start
        prefix = [] if plan.prefix is None else [self._placed(plan.prefix)]
        if _is_sequential(plan):
            for opening in openings:
                if len(opening) < len(ids) and ids[: len(opening)] == opening:
                    ids, start = ids[len(opening) :], len(opening)
                    prefix = [self._segment_rows((opening, None), 0, None, gaps=False)]
                    break
        used = _used(plan)
        parts = {
            place: self._placed(placed)
            for place, placed in enumerate(plan.context)
            if place in used
        }
        for place, target in enumerate(plan.targets, len(plan.context)):
            if place in used:
                where = torch.tensor(target.placed.positions)
                sources = [parts[source] for source in target.sources]
                run = self._run(target.placed.token_ids, where, prefix, sources)
                parts[place] = self._part(run, torch.arange(len(where)), where)
        tail = (*ids, *reading.answer[:-1])
        read = [parts[place] for place in plan.read_parts]
        where = torch.arange(start, start + len(tail))
        run = self._run(tail, where, prefix, read, plan.weights)
        first = run.start + len(ids) - 1
        self._predicts.append(torch.arange(first, first + len(reading.answer)))

    def layout(self, device: torch.device) -> PlanLayout:
        """Return what was put together."""
        positions = torch.cat(self._positions)
        columns, moved_positions = torch.cat(self._columns), torch.cat(self._moved_positions)
        columns = torch.where(columns < 0, len(positions) - 1 - columns, columns)
        return PlanLayout(
            torch.tensor(self._ids, device=device),
            positions.to(device),
            tuple(self._blocks),
            columns,
            torch.cat(self._column_rows),
            torch.cat(self._moved).to(device),
            moved_positions.to(device),
            torch.cat(self._predicts).to(device),
            tuple(map(len, self._predicts)),
            int(torch.cat([positions, moved_positions]).max()) + 1,
        )

    def _run(
        self,
        ids: tuple[int, ...],
        positions: Tensor,
        prefix: Sequence[_Part],
        context: Sequence[_Part] = (),
        weights: ContextWeights = NEUTRAL,
    ) -> _Run:
        """Put tokens into the row, which see prefix and context and themselves."""
        run = _Run(len(self._ids), positions)
        self._ids += ids
        self._positions.append(positions)
        before = [*context, *prefix]
        weighed = sum(len(part.rows) for part in context)
        own = torch.arange(run.start, run.start + len(ids))
        cuts = [*range(0, len(ids), QUERY_BLOCK), len(ids)]
        for start, end in pairwise(cuts):
            self._columns += [*(part.columns for part in before), own[:end]]
            self._column_rows += [*(part.rows for part in before), own[:end]]
            seen = torch.cat([*(part.positions for part in before), positions[:end]])
            self._blocks.append(
                Block(run.start + start, positions[start:end], seen, weighed, weights)
            )
        return run

    def _placed(self, placed: PlacedRows) -> _Part:
        return self._segment_rows(_key(placed.segment), placed.start, placed.rows, gaps=placed.gaps)

    def _segment_rows(
        self, key: _Key, start: int, rows: tuple[int, ...] | None, *, gaps: bool
    ) -> _Part:
        """Return rows of a segment, which is encoded if it was not yet."""
        known = key, start, rows, gaps
        if known not in self._parts:
            run = self._segment(key)
            these = torch.arange(len(key[0])) if rows is None else torch.tensor(rows)
            stands = these if gaps else torch.arange(len(these))
            self._parts[known] = self._part(run, these, start + stands)
        return self._parts[known]

    def _segment(self, key: _Key) -> _Run:
        """Encode a segment, up to the last row that is needed, over its parent at position 0."""
        if key not in self._runs:
            ids, parent = key
            rows = self._needed.get(key, len(ids))
            start = 0 if parent is None else len(parent[0])
            prefix = [] if parent is None else [self._segment_rows(parent, 0, None, gaps=False)]
            self._runs[key] = self._run(ids[:rows], torch.arange(start, start + rows), prefix)
        return self._runs[key]

    def _part(self, run: _Run, rows: Tensor, positions: Tensor) -> _Part:
        """Return rows of a run at positions; where these are others, the keys are moved."""
        in_row = run.start + rows
        other = run.positions[rows] != positions
        moves = int(other.sum())
        columns = in_row.clone()
        columns[other] = -1 - torch.arange(self._moved_count, self._moved_count + moves)
        self._moved.append(in_row[other])
        self._moved_positions.append(positions[other])
        self._moved_count += moves
        return _Part(in_row, columns, positions)

"""Encoding plans: which stored rows a question reads, at which positions, with which weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Literal, get_args

from rag.records import ContextStep, Segment

Positions = Literal["shared", "serial"]
Deviation = Literal["key", "value"]


@dataclass(frozen=True, slots=True)
class ContextWeights:
    """How APE weighs the passages against everything else (arXiv 2502.05431, section 4).

    A context log-sum-exp l, taken at temperature T, enters the merge as S·T·l + b.

    Attributes:
        temperature: T, above 0; below 1 it sharpens attention within the passages.
        scale: S, above 0.
        bias: b, in nats; the shift-invariant way to weigh the passages.

    Raises:
        ValueError: if temperature or scale is not positive.
    """

    temperature: float = 1.0
    scale: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        for name in ("temperature", "scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class PlacedRows:
    """Some rows of a cached segment, at consecutive positions from a start.

    Attributes:
        segment: the cached tokens.
        start: position of the first row that is read, or, with gaps, of row 0.
        rows: rows to read, ascending; None means all of them.
        gaps: whether rows that are left out leave their positions empty.
    """

    segment: Segment
    start: int
    rows: tuple[int, ...] | None = None
    gaps: bool = False

    def __post_init__(self) -> None:
        if self.rows is None:
            return
        ascending = all(a < b for a, b in zip(self.rows, self.rows[1:], strict=False))
        if not self.rows or not ascending or self.rows[0] < 0 or self.rows[-1] >= len(self.segment):
            raise ValueError(
                f"rows of {self.segment.name!r} must ascend within [0, {len(self.segment)}) "
                f"and not be empty, got {self.rows[:8]}"
            )

    def __len__(self) -> int:
        return len(self.segment) if self.rows is None else len(self.rows)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens that are read."""
        ids = self.segment.token_ids
        return ids if self.rows is None else tuple(ids[row] for row in self.rows)

    @property
    def positions(self) -> tuple[int, ...]:
        """The position of each row that is read."""
        if self.gaps and self.rows is not None:
            return tuple(self.start + row for row in self.rows)
        return tuple(range(self.start, self.start + len(self)))

    @property
    def end(self) -> int:
        """The first position after all of them; with gaps, after the whole segment."""
        return self.start + (len(self.segment) if self.gaps else len(self))


@dataclass(frozen=True, slots=True)
class Target:
    """Rows that are computed for this request, over the prefix and some other parts of its plan.

    Attributes:
        placed: what to compute, and where.
        sources: what it sees beside the prefix and itself, as places among the parts of the plan:
            its context, then its targets. Targets come after their sources, so there is no cycle.
    """

    placed: PlacedRows
    sources: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Recompute:
    """Which cached rows are computed anew, seeing the passages that stand before theirs.

    They are read in place of the cached ones. Rows that are exact are left as they are, and asked
    for in vain: see `exact_rows`.

    Attributes:
        first: rows at the beginning of each passage (LegoLink; EPIC, arXiv:2410.15332).
        share: part of all rows, in [0, 1], rounded up: those whose key or value in the second layer
            differs most from what is cached (CacheBlend, arXiv:2405.16444), beside the first ones.
            To find them all rows run through the first layer.
        by: what is compared.

    Raises:
        ValueError: if a number is out of range.
    """

    first: int = 0
    share: float = 0.0
    by: Deviation = "value"

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ValueError(f"first must be at least 0, got {self.first}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be in [0, 1], got {self.share}")
        if self.by not in get_args(Deviation):
            raise ValueError(f"by must be one of {', '.join(get_args(Deviation))}, got {self.by!r}")

    def beginnings(self, context: tuple[PlacedRows, ...]) -> tuple[int, ...]:
        """Return the columns, counted through all of the context, that `first` asks for."""
        columns: list[int] = []
        at, exact = 0, exact_rows(context)
        for placed in context:
            columns += range(max(at, exact), at + min(self.first, len(placed)))
            at += len(placed)
        return tuple(columns)

    def count(self, context: tuple[PlacedRows, ...]) -> int:
        """Return how many rows are computed anew: the beginnings, and those that differ most."""
        rows = sum(len(placed) for placed in context)
        # 0.07 of 100 is 7.000000000000001 in binary, which is no 8th row.
        most = math.ceil(round(self.share * rows, 9))
        return min(len(self.beginnings(context)) + most, rows - exact_rows(context))


def exact_rows(context: tuple[PlacedRows, ...]) -> int:
    """Return how many rows, from the first, are cached as a full prefill would compute them.

    Those are rows of the first passage up to the first one that is left out, if it stands where it
    was encoded, which takes the prefix as its parent.
    """
    if not context or context[0].start != context[0].segment.start:
        return 0
    if context[0].rows is None:
        return len(context[0])
    return sum(place == row for place, row in enumerate(context[0].rows))


@dataclass(frozen=True, slots=True)
class EncodingPlan:
    """One request, as data: the engine executes any of them.

    Attributes:
        mode: name of the mode that made the plan.
        prefix: cached tokens at positions from 0, or None.
        context: cached passages; empty for a sequential plan. Their order says what a recomputed
            row sees, and nothing else.
        prefill: tokens to run through the model: the question, or a whole sequential prompt.
        prefill_start: position of the first of them.
        weights: how the prefill's attention to passages is weighed; neutral by default. What is
            computed before it attends neutrally.
        targets: passages that are computed anew over others, in order (Graph-KV).
        reads: places of the parts, context and then targets, that the question sees; None means
            all of them.
        recompute: which rows of the context are computed anew before all else.
        told: passages within the prefill, each with the place of its first token there.
        steps: how each passage that is read came to be read so, best first; says nothing to the
            engine, and does not count in comparisons.

    Raises:
        ValueError: if there is nothing to prefill, or a target or the question would read what is
            not there.
    """

    mode: str
    prefix: PlacedRows | None
    context: tuple[PlacedRows, ...]
    prefill: tuple[int, ...]
    prefill_start: int
    weights: ContextWeights = ContextWeights()
    targets: tuple[Target, ...] = ()
    reads: tuple[int, ...] | None = None
    recompute: Recompute = Recompute()
    told: tuple[tuple[int, PlacedRows], ...] = ()
    steps: tuple[ContextStep, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.prefill:
            raise ValueError("prefill must hold at least one token, got none")
        for place, target in enumerate(self.targets, len(self.context)):
            if not all(0 <= source < place for source in target.sources):
                raise ValueError(
                    f"sources of part {place} must be parts before it, got {target.sources}"
                )
        parts = len(self.context) + len(self.targets)
        if self.reads is not None and not all(0 <= place < parts for place in self.reads):
            raise ValueError(f"reads must be parts in [0, {parts}), got {self.reads}")

    @property
    def computed_tokens(self) -> int:
        """Tokens that run through the model: recomputed ones, targets, and what is prefilled."""
        targets = sum(len(target.placed) for target in self.targets)
        return self.recomputed_tokens + targets + len(self.prefill)

    @property
    def recomputed_tokens(self) -> int:
        """Cached rows that are computed anew by a repair."""
        return self.recompute.count(self.context)

    @property
    def cached_tokens(self) -> int:
        """Tokens whose KV is read instead of computed."""
        placed = [self.prefix, *self.context] if self.prefix is not None else [*self.context]
        return sum(len(part) for part in placed) - self.recomputed_tokens

    @property
    def read_parts(self) -> tuple[int, ...]:
        """Places of the parts that the question sees."""
        return (
            tuple(range(len(self.context) + len(self.targets)))
            if self.reads is None
            else self.reads
        )

    @property
    def last_position(self) -> int:
        """Position of the last prefilled token; generated ones follow it."""
        return self.prefill_start + len(self.prefill) - 1


Passages = tuple[tuple[Segment, tuple[int, ...] | None], ...]
"""Cached passages, each with the rows to read; None means all of them."""


def sequential_plan(
    token_ids: tuple[int, ...], told: tuple[tuple[int, PlacedRows], ...] = ()
) -> EncodingPlan:
    """Plan a full prefill: every token is computed and sees all before it.

    Args:
        token_ids: the whole prompt.
        told: the passages in it, as of `EncodingPlan.told`.
    """
    return EncodingPlan("sequential", None, (), token_ids, 0, told=told)


def parallel_plan(
    prefix: Segment,
    passages: Passages,
    question: tuple[int, ...],
    weights: ContextWeights,
    *,
    mode: str = "ape",
    positions: Positions = "shared",
    gaps: bool = False,
) -> EncodingPlan:
    """Plan APE: every passage starts right after the prefix, the question after the longest.

    Args:
        prefix: encoded at positions from 0.
        passages: segments whose parent is the prefix, or that have none, each with the rows to read
            (None: all).
        question: its tokens.
        weights: T, S and b.
        mode: the name the plan carries.
        positions: `serial` puts passages one after another instead, the last next to the question.
        gaps: whether rows keep their positions when others of their passage are left out.

    Raises:
        ValueError: if a passage was encoded after something else than this prefix.
    """
    _check_parents(prefix, passages)
    context: list[PlacedRows] = []
    for segment, rows in passages:
        serial = positions == "serial" and context
        start = context[-1].end if serial else len(prefix)
        context.append(PlacedRows(segment, start, rows, gaps))
    start = max((placed.end for placed in context), default=len(prefix))
    return EncodingPlan(mode, PlacedRows(prefix, 0), tuple(context), question, start, weights)


def block_plan(prefix: Segment, passages: Passages, question: tuple[int, ...]) -> EncodingPlan:
    """Plan Block-Attention's layout: passages one after another, each blind to the others.

    Positions are those of a sequential prompt, so nothing is closer to the question than it would
    be there. Keys are rotated to them exactly, but were computed where the passage was encoded,
    right after the prefix: below the first layer they remember its distance from the prefix.
    Source: Ma et al. 2024, arXiv:2409.15355; without its fine-tuning.

    Args:
        prefix: encoded at positions from 0.
        passages: as of `parallel_plan`; the last stands next to the question.
        question: its tokens.

    Raises:
        ValueError: if a passage was encoded after something else than this prefix.
    """
    neutral = ContextWeights()
    return parallel_plan(prefix, passages, question, neutral, mode="block", positions="serial")


Sources = tuple[tuple[int, ...], ...]
"""For each passage the rows of the passages that its encoding attends to."""


def graph_plan(
    prefix: Segment,
    passages: Passages,
    sources: Sources,
    question: tuple[int, ...],
    *,
    rounds: int | None = None,
    positions: Positions = "shared",
    keep_round0: bool = False,
    self_edge: bool = False,
    weights: ContextWeights = ContextWeights(),
) -> EncodingPlan:
    """Plan Graph-KV: passages with sources are computed anew over them.

    A target sees the prefix, its sources and its own earlier tokens, and no other target but those
    among its sources. With shared positions all cached passages start right after the prefix, a
    target after the longest of its sources, and the question after everything that it sees. One
    target over all else is prefilled with the question, which is the same attention in one pass.
    Source: Graph-KV, arXiv:2506.07334.

    Args:
        prefix: encoded at positions from 0.
        passages: as of `parallel_plan`.
        sources: rows of `passages` for each; none for a passage that stays as it is cached.
        question: its tokens.
        rounds: None computes every target once, after its sources, which takes a graph without a
            cycle. A number computes all targets so many times, each time over what its sources
            were in the round before; as many rounds as the longest path has edges come to the same
            as None, unless there are self-edges.
        positions: `serial` gives every part a place of its own: cached passages first, then targets
            by round, or by the length of the path to them; in the order given among equals.
        keep_round0: whether the question also sees a target as it is cached.
        self_edge: whether a target sees itself as it is cached, or was in the round before.
        weights: T, S and b of the question's attention to passages, cached or computed anew.

    Raises:
        ValueError: if a passage was encoded after something else than this prefix, `sources` is not
            as long as `passages` or names another row, there are fewer than 1 rounds, or, without
            rounds, a cycle.
    """
    _check_parents(prefix, passages)
    _check_sources(sources, len(passages))
    if rounds is not None and rounds < 1:
        raise ValueError(f"rounds must be at least 1, or None, got {rounds}")
    computed, latest = _versions(sources, rounds, self_edge=self_edge)
    read = set(latest)
    if keep_round0:
        read |= {(row, 0) for row in range(len(passages))}
    needed = _needed(read, computed)
    cached = [(row, 0) for row in range(len(passages)) if (row, 0) in needed]
    anew = [version for version in computed if version in needed]
    part = {version: place for place, version in enumerate([*cached, *anew])}
    placed: dict[_Version, PlacedRows] = {}
    after = len(prefix)
    for version in part:
        if positions == "serial":
            start = after
        else:
            seen = computed.get(version, frozenset())
            start = max((placed[source].end for source in seen), default=len(prefix))
        placed[version] = PlacedRows(passages[version[0]][0], start, passages[version[0]][1])
        after = placed[version].end
    reads = tuple(sorted(part[version] for version in read))
    plan = EncodingPlan(
        "graph",
        PlacedRows(prefix, 0),
        tuple(placed[version] for version in cached),
        question,
        after if positions == "serial" else _end(prefix, [placed[version] for version in read]),
        weights,
        tuple(
            Target(placed[version], tuple(sorted(part[source] for source in computed[version])))
            for version in anew
        ),
        None if len(reads) == len(part) else reads,
    )
    return _merged(plan) if weights == ContextWeights() else plan


_Version = tuple[int, int]
"""A passage as it is after so many rounds; 0 is how it is cached."""


def _versions(
    sources: Sources, rounds: int | None, *, self_edge: bool
) -> tuple[dict[_Version, frozenset[_Version]], set[_Version]]:
    """Return what is computed, in order, over what, and the last version of every passage."""
    latest = {row: (row, 0) for row in range(len(sources))}
    computed: dict[_Version, frozenset[_Version]] = {}
    if rounds is None:
        for row in _in_order(sources):
            if sources[row]:
                seen = {latest[source] for source in sources[row]}
                computed[row, 1] = frozenset(seen | {(row, 0)} if self_edge else seen)
                latest[row] = row, 1
        return computed, set(latest.values())
    for this in range(1, rounds + 1):
        before = dict(latest)
        for row, of_row in enumerate(sources):
            looks_at = {*of_row, row} if self_edge else set(of_row)
            seen_now = frozenset(before[source] for source in looks_at)
            if of_row and computed.get(before[row]) != seen_now:
                computed[row, this] = seen_now
                latest[row] = row, this
    return computed, set(latest.values())


def _needed(
    read: set[_Version], computed: dict[_Version, frozenset[_Version]]
) -> frozenset[_Version]:
    """Return what is read, and all that it is computed over."""
    needed, open_ = set(read), list(read)
    while open_:
        fresh = computed.get(open_.pop(), frozenset()) - needed
        needed |= fresh
        open_ += fresh
    return frozenset(needed)


def _end(prefix: Segment, placed: list[PlacedRows]) -> int:
    return max((part.end for part in placed), default=len(prefix))


def _merged(plan: EncodingPlan) -> EncodingPlan:
    """Prefill a target with the question, where it is the only one and both see all else."""
    if len(plan.targets) != 1 or plan.reads is not None:
        return plan
    (last,) = plan.targets
    if len(last.sources) != len(plan.context) or last.placed.end != plan.prefill_start:
        return plan
    return replace(
        plan,
        prefill=(*last.placed.token_ids, *plan.prefill),
        prefill_start=last.placed.start,
        targets=(),
        told=((0, last.placed),),
    )


def repeated(plan: EncodingPlan, passages: Passages, question: int) -> EncodingPlan:
    """Return a plan that reads some passages once more, right before the question.

    They are computed and see everything: the model reads twice, the second time knowing what else
    there is. Source: Just read twice, arXiv:2407.05483, which repeats the question too; here the
    question comes once, as it must not become part of what is cached.

    Args:
        plan: reads them a first time.
        passages: in the order to read them.
        question: tokens at the end of the plan's prefill that come after them.

    Raises:
        ValueError: if the prefill has fewer tokens than that.
    """
    at = len(plan.prefill) - question
    if not 0 <= at <= len(plan.prefill):
        raise ValueError(f"question must be in [0, {len(plan.prefill)}], got {question}")
    before, after = plan.prefill[:at], plan.prefill[at:]
    ids: list[int] = []
    told = list(plan.told)
    for segment, rows in passages:
        place = at + len(ids)
        placed = PlacedRows(segment, plan.prefill_start + place, rows)
        told.append((place, placed))
        ids += placed.token_ids
    return replace(plan, prefill=(*before, *ids, *after), told=tuple(told))


def _check_sources(sources: Sources, count: int) -> None:
    if len(sources) != count:
        raise ValueError(f"sources must be one a passage, {count}, got {len(sources)}")
    for row, of_row in enumerate(sources):
        if not all(0 <= source < count for source in of_row):
            raise ValueError(f"sources of passage {row} must be rows in [0, {count}), got {of_row}")


def _in_order(sources: Sources) -> list[int]:
    """Return rows so that each comes after its sources: by the longest path to it, then ascending.

    Raises:
        ValueError: for a cycle.
    """
    sorter = TopologicalSorter(dict(enumerate(sources)))
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(
            f"sources must have no cycle unless rounds are given, got {error.args[1]}"
        ) from None
    rows: list[int] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        sorter.done(*ready)
        rows += ready
    return rows


def _check_parents(prefix: Segment, passages: Passages) -> None:
    for segment, _ in passages:
        if segment.parents not in ((prefix,), ()):
            raise ValueError(f"{segment.name!r} was not encoded after this prefix")

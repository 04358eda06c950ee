"""Encoding plans: which stored rows a question reads, at which positions, with which weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter

from rag.records import Segment


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
    """Some rows of a cached segment, packed densely from a start position.

    Attributes:
        segment: the cached tokens.
        start: position of the first row.
        rows: rows to read, ascending; None means all of them.
    """

    segment: Segment
    start: int
    rows: tuple[int, ...] | None = None

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
class EncodingPlan:
    """One request, as data: the engine executes any of them.

    Attributes:
        mode: name of the mode that made the plan.
        prefix: cached tokens at positions from 0, or None.
        context: cached passages, in any order; empty for a sequential plan.
        prefill: tokens to run through the model: the question, or a whole sequential prompt.
        prefill_start: position of the first of them.
        weights: how context attention is weighed; neutral by default.
        targets: passages that are computed anew over others, in order (Graph-KV).

    Raises:
        ValueError: if there is nothing to prefill, a target has a source that does not come before
            it, or there are targets beside weights.
    """

    mode: str
    prefix: PlacedRows | None
    context: tuple[PlacedRows, ...]
    prefill: tuple[int, ...]
    prefill_start: int
    weights: ContextWeights = ContextWeights()
    targets: tuple[Target, ...] = ()

    def __post_init__(self) -> None:
        if not self.prefill:
            raise ValueError("prefill must hold at least one token, got none")
        if self.targets and self.weights != ContextWeights():
            raise ValueError(f"weights must be neutral where there are targets, got {self.weights}")
        for place, target in enumerate(self.targets, len(self.context)):
            if not all(0 <= source < place for source in target.sources):
                raise ValueError(
                    f"sources of part {place} must be parts before it, got {target.sources}"
                )

    @property
    def computed_tokens(self) -> int:
        """Tokens that run through the model: those of targets, and what is prefilled."""
        return sum(len(target.placed) for target in self.targets) + len(self.prefill)

    @property
    def cached_tokens(self) -> int:
        """Tokens whose KV is read instead of computed."""
        return sum(len(placed) for placed in (self.prefix, *self.context) if placed is not None)

    @property
    def last_position(self) -> int:
        """Position of the last prefilled token; generated ones follow it."""
        return self.prefill_start + len(self.prefill) - 1


Passages = tuple[tuple[Segment, tuple[int, ...] | None], ...]
"""Cached passages, each with the rows to read; None means all of them."""


def sequential_plan(token_ids: tuple[int, ...]) -> EncodingPlan:
    """Plan a full prefill: every token is computed and sees all before it."""
    return EncodingPlan("sequential", None, (), token_ids, 0)


def parallel_plan(
    prefix: Segment,
    passages: Passages,
    question: tuple[int, ...],
    weights: ContextWeights,
    *,
    mode: str = "ape",
) -> EncodingPlan:
    """Plan APE: every passage starts right after the prefix, the question after the longest.

    Args:
        prefix: encoded at positions from 0.
        passages: segments whose parent is the prefix, each with the rows to read (None: all).
        question: its tokens.
        weights: T, S and b.
        mode: the name the plan carries.

    Raises:
        ValueError: if a passage was not encoded after exactly this prefix.
    """
    _check_parents(prefix, passages)
    context = tuple(PlacedRows(segment, len(prefix), rows) for segment, rows in passages)
    start = len(prefix) + max((len(placed) for placed in context), default=0)
    return EncodingPlan(mode, PlacedRows(prefix, 0), context, question, start, weights)


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
        ValueError: if a passage was not encoded after exactly this prefix.
    """
    _check_parents(prefix, passages)
    context: list[PlacedRows] = []
    start = len(prefix)
    for segment, rows in passages:
        context.append(PlacedRows(segment, start, rows))
        start += len(context[-1])
    return EncodingPlan("block", PlacedRows(prefix, 0), tuple(context), question, start)


Sources = tuple[tuple[int, ...], ...]
"""For each passage the rows of the passages that its encoding attends to."""


def graph_plan(
    prefix: Segment,
    passages: Passages,
    sources: Sources,
    question: tuple[int, ...],
    *,
    keep_round0: bool = False,
) -> EncodingPlan:
    """Plan Graph-KV: passages with sources are computed anew over them.

    All cached passages share positions, as in `parallel_plan`. A target's tokens start after the
    longest of its sources; it sees the prefix, its sources and its own earlier tokens, and no other
    target but those among its sources, which it sees as they were computed anew. The question comes
    after everything. One target over all else is prefilled with the question, which is the same
    attention in one pass. Source: Graph-KV, arXiv:2506.07334.

    Args:
        prefix: encoded at positions from 0.
        passages: as of `parallel_plan`.
        sources: rows of `passages` for each, without a cycle; none for a passage that stays as it
            is cached.
        question: its tokens.
        keep_round0: whether the question also sees a target as it is cached.

    Raises:
        ValueError: if a passage was not encoded after exactly this prefix, `sources` is not as long
            as `passages` or names another row, or it has a cycle.
    """
    _check_parents(prefix, passages)
    if len(sources) != len(passages):
        raise ValueError(f"sources must be one a passage, {len(passages)}, got {len(sources)}")
    order = _in_order(sources)
    cached = [row for row, of_row in enumerate(sources) if not of_row or keep_round0]
    part = {row: place for place, row in enumerate(cached)}
    context = tuple(PlacedRows(passages[row][0], len(prefix), passages[row][1]) for row in cached)
    ends = {row: context[place].start + len(context[place]) for row, place in part.items()}
    targets: list[Target] = []
    for row in order:
        if not sources[row]:
            continue
        segment, rows = passages[row]
        start = max(ends[source] for source in sources[row])
        parts = tuple(sorted(part[source] for source in sources[row]))
        targets.append(Target(PlacedRows(segment, start, rows), parts))
        part[row] = len(context) + len(targets) - 1
        ends[row] = start + len(targets[-1].placed)
    start = max(ends.values(), default=len(prefix))
    plan = EncodingPlan(
        "graph", PlacedRows(prefix, 0), context, question, start, targets=tuple(targets)
    )
    if len(targets) == 1 and len(targets[0].sources) == len(context):
        (last,) = targets
        ids = (*last.placed.token_ids, *question)
        return replace(plan, prefill=ids, prefill_start=last.placed.start, targets=())
    return plan


def _in_order(sources: Sources) -> list[int]:
    """Return rows so that each comes after its sources.

    Raises:
        ValueError: for a row that does not exist, or a cycle.
    """
    for row, of_row in enumerate(sources):
        if not all(0 <= source < len(sources) for source in of_row):
            raise ValueError(
                f"sources of passage {row} must be rows in [0, {len(sources)}), got {of_row}"
            )
    try:
        return list(TopologicalSorter(dict(enumerate(sources))).static_order())
    except CycleError as error:
        raise ValueError(f"sources must have no cycle, got {error.args[1]}") from None


def _check_parents(prefix: Segment, passages: Passages) -> None:
    for segment, _ in passages:
        if segment.parents != (prefix,):
            raise ValueError(f"{segment.name!r} was not encoded after this prefix")

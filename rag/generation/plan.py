"""Encoding plans: which stored rows a question reads, at which positions, with which weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
class EncodingPlan:
    """One request, as data: the engine executes any of them.

    Attributes:
        mode: name of the mode that made the plan.
        prefix: cached tokens at positions from 0, or None.
        context: cached passages, in any order; empty for a sequential plan.
        prefill: tokens to run through the model: the question, or a whole sequential prompt.
        prefill_start: position of the first of them.
        weights: how context attention is weighed; neutral by default.
    """

    mode: str
    prefix: PlacedRows | None
    context: tuple[PlacedRows, ...]
    prefill: tuple[int, ...]
    prefill_start: int
    weights: ContextWeights = ContextWeights()

    def __post_init__(self) -> None:
        if not self.prefill:
            raise ValueError("prefill must hold at least one token, got none")

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


def target_plan(
    prefix: Segment, sources: Passages, target: PlacedRows, question: tuple[int, ...]
) -> EncodingPlan:
    """Plan Graph-KV with one target: a passage that is read anew over all others.

    Sources are cached and share positions, as in `parallel_plan`. The target's tokens follow the
    longest of them, see the prefix, all sources and themselves, and are computed; then comes the
    question, which sees everything. The target's own cached rows are not used, as a second copy
    would only compete with the first. Source: Graph-KV, arXiv:2506.07334, with edges into the best
    passage and no rounds.

    Args:
        prefix: encoded at positions from 0.
        sources: as of `parallel_plan`; may be empty.
        target: the rows of the target to read; its start is not looked at.
        question: its tokens.

    Raises:
        ValueError: if a source was not encoded after exactly this prefix.
    """
    plan = parallel_plan(prefix, sources, question, ContextWeights(), mode="graph")
    return replace(plan, prefill=(*target.token_ids, *question))


def _check_parents(prefix: Segment, passages: Passages) -> None:
    for segment, _ in passages:
        if segment.parents != (prefix,):
            raise ValueError(f"{segment.name!r} was not encoded after this prefix")

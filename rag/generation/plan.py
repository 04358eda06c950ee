"""Encoding plans: which stored rows a question reads, at which positions, with which weights."""

from __future__ import annotations

from dataclasses import dataclass

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


def sequential_plan(token_ids: tuple[int, ...]) -> EncodingPlan:
    """Plan a full prefill: every token is computed and sees all before it."""
    return EncodingPlan("sequential", None, (), token_ids, 0)


def parallel_plan(
    prefix: Segment,
    passages: tuple[tuple[Segment, tuple[int, ...] | None], ...],
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
    for segment, _ in passages:
        if segment.parents != (prefix,):
            raise ValueError(f"{segment.name!r} was not encoded after this prefix")
    context = tuple(PlacedRows(segment, len(prefix), rows) for segment, rows in passages)
    start = len(prefix) + max((len(placed) for placed in context), default=0)
    return EncodingPlan(mode, PlacedRows(prefix, 0), context, question, start, weights)

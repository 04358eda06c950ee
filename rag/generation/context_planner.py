"""The context planner: of each passage, read cached rows or compute what is kept of its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from rag.generation.context_plan import ContextPlan, Readable, Rows, dropped, foreign, keeps
from rag.generation.cost_model import CostModel
from rag.records import ContextStep

ContextPolicy = Literal["rows", "text", "full", "auto"]
_Chosen = tuple[Literal["text", "rows", "full"], str]


@dataclass(frozen=True, slots=True)
class ContextPlanner:
    """Decides for every passage how it is read; pure, and knows no model.

    Under `auto` a passage that the store does not have is read as text, any other in the way that
    costs least, text among equals. Then the best passages that are read as rows become text, whose
    tokens see what stands before them, as long as the time that it adds fits into the slack; and if
    a blend of the others still fits, they become one. Whatever the policy: of a passage of which
    nothing is kept nothing is read, and rows are never read where they cannot stand for what is
    kept. Composition of pruning with KV reuse: SamKV (arXiv:2508.11661), CoinRAG
    (arXiv:2608.07458); CacheBlend's repair: arXiv:2405.16444.

    Attributes:
        policy: `rows`, cached rows of what is kept; `text`, what is kept is computed; `full`, all
            cached rows, whatever was pruned; `auto`, what costs least.
        cost: predicts seconds; `auto` needs one.
        quality_slack_s: of `auto`: predicted seconds, of all passages together, that may be spent
            on better text. A tenth of the time to the first token that is wanted is a good choice.
        blend: of `auto`: share of cached rows to compute anew, in [0, 1], if the slack allows it;
            0 never does.

    Raises:
        ValueError: for an unknown policy, or a number that is out of range or that the policy has
            no use for.
    """

    policy: ContextPolicy = "rows"
    cost: CostModel | None = None
    quality_slack_s: float = 0.0
    blend: float = 0.0

    def __post_init__(self) -> None:
        if self.policy not in get_args(ContextPolicy):
            raise ValueError(
                f"policy must be one of {', '.join(get_args(ContextPolicy))}, got {self.policy!r}"
            )
        if not self.quality_slack_s >= 0:
            raise ValueError(f"quality_slack_s must be at least 0, got {self.quality_slack_s}")
        if not 0 <= self.blend <= 1:
            raise ValueError(f"blend must be in [0, 1], got {self.blend}")
        for name in ("quality_slack_s", "blend"):
            if self.policy != "auto" and getattr(self, name):
                raise ValueError(
                    f"policy {self.policy!r} has no use for {name}, which works in 'auto', "
                    f"got {getattr(self, name)}"
                )

    def plan(self, readable: Sequence[Readable], *, recomputed: float = 0.0) -> ContextPlan:
        """Return what to read of each passage.

        Args:
            readable: the passages, best first.
            recomputed: share of cached rows that is computed anew in any case, in [0, 1].

        Raises:
            ValueError: if the policy is `auto` and there is no cost model.
        """
        if self.policy == "auto" and self.cost is None:
            raise ValueError(
                "policy 'auto' needs a cost model, got None; CostModel.probe makes one"
            )
        if self.policy == "full":
            readable = [_whole(one) for one in readable]
        share = recomputed or self.blend
        steps = [self._step(one, share) for one in readable]
        if recomputed:
            steps = [_blended(step, f"{recomputed:.0%} of cached rows are") for step in steps]
        elif self.policy == "auto":
            steps, recomputed = self._upgraded(readable, steps)
        return ContextPlan(tuple(readable), tuple(steps), recomputed)

    def _step(self, one: Readable, share: float) -> ContextStep:
        """Return the step of one passage, before any slack is spent."""
        if not keeps(one.passage):
            return replace(dropped(one.passage), tokens=one.tokens)
        kept = _count(one.cached if not one.refused else one.text)
        seconds = (
            {}
            if self.cost is None
            else self.cost.seconds(one.tokens, kept, one.spans, recomputed=share)
        )
        step, reason = self._chosen(one, seconds)
        if step == "text":
            kept = _count(one.text)
        elif step == "full":
            kept = one.tokens
        ratio = None if self.cost is None else self.cost.load_ratio
        return ContextStep(one.passage.id, step, reason, one.tokens, kept, ratio, seconds)

    def _chosen(self, one: Readable, seconds: dict[str, float]) -> _Chosen:
        if one.refused or one.anew:
            return "text", one.refused or one.anew
        rows: Literal["rows", "full"] = "full" if one.cached[1] is None else "rows"
        all_of_it = "; every sentence is kept" if rows == "full" else ""
        if self.policy == "rows":
            return rows, f"context: rows{all_of_it}"
        if self.policy != "auto":
            return self.policy, f"context: {self.policy}"
        assert self.cost is not None, "it was checked"
        if one.absent:
            return "text", f"not in the KV store: {one.absent}"
        ratio = f"β = {self.cost.load_ratio:.3g}"
        if self.cost.load_ratio < 1 and seconds[rows] < seconds["text"]:
            return rows, f"loading costs less than computing, {ratio}{all_of_it}"
        return "text", f"computing costs no more than loading, {ratio}"

    def _upgraded(
        self, readable: Sequence[Readable], steps: Sequence[ContextStep]
    ) -> tuple[list[ContextStep], float]:
        """Return the steps once the slack is spent, and the share of rows to compute anew."""
        left, better = self.quality_slack_s, list(steps)
        for place, (one, step) in enumerate(zip(readable, steps, strict=True)):
            if step.step not in ("rows", "full"):
                continue
            extra = step.seconds["text"] - step.seconds[step.step]
            if extra <= left:
                left -= extra
                reason = f"{step.reason}; text fits into the slack"
                better[place] = replace(
                    step, step="text", reason=reason, kept_tokens=_count(one.text)
                )
        extra = sum(
            step.seconds.get("blend", 0.0) - step.seconds["rows"]
            for step in better
            if step.step in ("rows", "full")
        )
        if not self.blend or extra > left:
            return better, 0.0
        why = f"computing {self.blend:.0%} of cached rows anew fits into the slack; they are"
        blended = [_blended(step, why) for step in better]
        return blended, self.blend if blended != better else 0.0


READ_ROWS: Final = ContextPlanner()
"""Reads the cached rows of what is kept, as far as that is possible."""


def _blended(step: ContextStep, why: str) -> ContextStep:
    """Return the step of a passage whose cached rows are partly computed anew."""
    if step.step not in ("rows", "full"):
        return step
    return replace(step, step="blend", reason=f"{step.reason}; {why} computed anew")


def _whole(one: Readable) -> Readable:
    """Return a passage of which everything is read, whatever was selected of its own text."""
    if not keeps(one.passage) or foreign(one.passage):
        return one
    every: Rows = one.cached[0], None
    passage = replace(one.passage, kept=None)
    return replace(one, passage=passage, cached=every, text=every, refused="")


def _count(rows: Rows) -> int:
    segment, chosen = rows
    return len(segment) if chosen is None else len(chosen)

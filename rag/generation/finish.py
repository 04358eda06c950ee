"""Finishing an answer: text and times while tokens come, evidence and counts when they end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rag.generation.citations import SupportMatcher
from rag.generation.context_plan import dropped
from rag.generation.decoding import TextStream
from rag.generation.plan import EncodingPlan, exact_rows
from rag.records import Answer, CacheUse, Passage, Query, TokenUse


@dataclass
class Telling:
    """Shows an answer while its tokens come, and takes the times that it reports.

    Attributes:
        shown: the text so far.
        started: when the generator received the passages, by `time.perf_counter`.
        ttft_ms: from then to the first token, or to the end of an answer that has none.
        decode_ms: from there to the last token.
    """

    shown: TextStream
    started: float = field(default_factory=time.perf_counter)
    ttft_ms: float = 0.0
    decode_ms: float = 0.0

    def pieces(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yield the text that can be shown after each token, and what was held back at the end."""
        for token in tokens:
            self.ttft_ms = self.ttft_ms or self._elapsed_ms()
            yield self.shown.push(token)
            if self.shown.stopped:
                break
        yield self.shown.rest()
        self.ttft_ms = self.ttft_ms or self._elapsed_ms()
        self.decode_ms = self._elapsed_ms() - self.ttft_ms

    def timings_ms(self, kv_ms: float) -> dict[str, float]:
        """Return the times of an answer whose KV took `kv_ms` to read, encode and place."""
        return {"kv": kv_ms, "ttft": self.ttft_ms, "decode": self.decode_ms}

    def finish(self, room: int) -> Literal["stop", "length"]:
        """Return why the answer ended, if there could have been `room` tokens."""
        return "length" if len(self.shown.ids) == room and not self.shown.stopped else "stop"

    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self.started) * 1e3


def abstention(passages: Sequence[Passage], *, mode: str, model: str) -> Answer:
    """Return the answer to a question for which there is nothing to read."""
    timings = {"kv": 0.0, "ttft": 0.0, "decode": 0.0}
    return Answer(
        "",
        tuple(passages),
        abstained=True,
        mode=mode,
        model=model,
        timings_ms=timings,
        context=tuple(map(dropped, passages)),
    )


def attributed(answer: Answer, query: Query, support: SupportMatcher) -> Answer:
    """Return the answer with its evidence among its passages; unsupported, it abstains."""
    return support(query, answer.text, answer.passages).attached_to(answer)


def token_use(plans: Sequence[EncodingPlan], use: CacheUse, generated: int) -> TokenUse:
    """Count the tokens of an answer that was made from one prompt or more.

    A segment that missed is prefilled once; the further prompts that share it read it. Which rows a
    repair found to differ most is not known here: if some segments missed, it is taken to have
    computed as many of the others as it can have, so that what is cached is never overstated.
    """
    total, cached = 0, 0
    known = {name for name, reason in use.reasons.items() if reason.startswith("hit")}
    for plan in plans:
        total += plan.cached_tokens + plan.computed_tokens
        if plan.prefix is not None:
            cached += len(plan.prefix) if plan.prefix.segment.name in known else 0
            known.add(plan.prefix.segment.name)
        columns: set[int] = set()
        at = 0
        for placed in plan.context:
            if placed.segment.name in known:
                columns |= set(range(at, at + len(placed)))
            known.add(placed.segment.name)
            at += len(placed)
        begin = plan.recompute.beginnings(plan.context)
        columns -= set(begin)
        able = sum(column >= exact_rows(plan.context) for column in columns)
        cached += len(columns) - min(plan.recomputed_tokens - len(begin), able)
    return TokenUse(total, cached, total - cached, generated)

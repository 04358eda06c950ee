"""Generation on cached passages: load each passage's KV, prefill only the question, decode."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from rag.generation.citations import SupportMatcher
from rag.generation.decoding import Sampling, TextStream
from rag.generation.plan import (
    ContextWeights,
    EncodingPlan,
    PlacedRows,
    parallel_plan,
    sequential_plan,
)
from rag.generation.prompt import PromptEncoder, rows_of_sentences
from rag.records import Answer, Passage, Query, TokenUse

if TYPE_CHECKING:
    from rag.generation.engine import Engine, Prefilled

Mode = Literal["sequential", "ape"]
MODES: tuple[Mode, ...] = ("sequential", "ape")


@dataclass(frozen=True)
class GenerateCached:
    """Answers a question from passages; satisfies `rag.protocols.LanguageModel`.

    `ape` reads each passage's cached rows, all passages side by side at shared positions
    (arXiv 2502.05431); rows of sentences that were pruned are left out and the rest re-packed.
    `sequential` prefills the same kept sentences as one prompt, best passage last: the exact
    baseline.

    Attributes:
        engine: runs the model.
        prompt: tokenises the pieces of the prompt for the same model.
        mode: `ape` or `sequential`.
        weights: T, S and b of `ape`. (0.8, 1, 0) measured best on the default model; the authors'
            (0.9, 0.9, 0) takes weight from the passages, and half of the answers with it.
        sampling: how tokens are chosen.
        support: attributes citations.

    Raises:
        ValueError: for an unknown mode, or an engine and a prompt of different models.
    """

    engine: Engine
    prompt: PromptEncoder
    mode: Mode = "ape"
    weights: ContextWeights = ContextWeights(0.8, 1.0)
    sampling: Sampling = Sampling()
    support: SupportMatcher = field(default_factory=SupportMatcher)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if self.engine.identity != self.prompt.identity:
            raise ValueError("engine and prompt must belong to the same model")

    def __call__(self, query: Query, passages: Sequence[Passage]) -> Answer:
        """Return the answer; see `stream`."""
        for event in self.stream(query, passages):
            if isinstance(event, Answer):
                return event
        raise AssertionError("stream ends with an Answer")

    def stream(self, query: Query, passages: Sequence[Passage]) -> Iterator[str | Answer]:
        """Yield pieces of the answer as they are decoded, and the `Answer` last.

        A passage of which no sentence is kept is not read. With nothing to read the model is not
        asked, and the answer abstains. KV that had to be computed is stored after the last token.

        Args:
            query: the question.
            passages: best first.

        Raises:
            UnsupportedModelError: if the prompt does not fit into the model's window.
        """
        started = time.perf_counter()
        read = [passage for passage in passages if passage.kept_rows]
        if not read:
            yield Answer(
                "",
                tuple(passages),
                abstained=True,
                mode=self.mode,
                model=self.engine.identity.name,
                timings_ms={"kv": 0.0, "ttft": 0.0, "decode": 0.0},
            )
            return
        plan = self.plan(query, read)
        state = self.engine.prefill(plan)
        shown = TextStream(self.prompt.text, self.prompt.template.stop)
        ttft_ms = 0.0
        for token in self.engine.decode(state, self.sampling, self.prompt.stop_ids):
            ttft_ms = ttft_ms or (time.perf_counter() - started) * 1e3
            yield shown.push(token)
            if shown.stopped:
                break
        yield shown.rest()
        ttft_ms = ttft_ms or (time.perf_counter() - started) * 1e3
        decode_ms = (time.perf_counter() - started) * 1e3 - ttft_ms
        self.engine.store(state.fresh)
        timings = {"kv": state.kv_ms, "ttft": ttft_ms, "decode": decode_ms}
        yield self._finished(query, tuple(passages), plan, state, shown, timings)

    def plan(self, query: Query, passages: Sequence[Passage]) -> EncodingPlan:
        """Return the encoding plan for passages of which at least one sentence is kept."""
        prefix = self.prompt.prefix()
        question = self.prompt.question(query)
        segments = []
        for passage in passages:
            segment = self.prompt.passage(passage, prefix)
            segments.append((segment, rows_of_sentences(segment, passage.kept_rows)))
        if self.mode == "ape":
            return parallel_plan(prefix, tuple(segments), question, self.weights)
        read = [PlacedRows(segment, 0, rows).token_ids for segment, rows in reversed(segments)]
        parts = (prefix.token_ids, *read, question)
        return sequential_plan(tuple(token for part in parts for token in part))

    def prompt_text(self, plan: EncodingPlan) -> str:
        """Return the exact text that the model reads, cached parts in the plan's order."""
        cached = [plan.prefix, *plan.context] if plan.prefix else [*plan.context]
        parts = [placed.token_ids for placed in cached]
        return "".join(self.prompt.text(ids) for ids in (*parts, plan.prefill))

    def with_mode(self, mode: Mode) -> GenerateCached:
        """Return the same generator in another mode."""
        return replace(self, mode=mode)

    def _finished(
        self,
        query: Query,
        passages: tuple[Passage, ...],
        plan: EncodingPlan,
        state: Prefilled,
        shown: TextStream,
        timings_ms: dict[str, float],
    ) -> Answer:
        found = self.support(query, shown.text, passages)
        total, generated = plan.cached_tokens + len(plan.prefill), len(shown.ids)
        cached = sum(
            len(placed)
            for placed in (plan.prefix, *plan.context)
            if placed is not None and state.use.reasons[placed.segment.name].startswith("hit")
        )
        room = min(self.sampling.max_tokens, self.engine.window - state.position + 1)
        return Answer(
            text=shown.text,
            passages=passages,
            citations=found.citations,
            unsupported=found.unsupported,
            abstained=found.abstained,
            cache=state.use,
            tokens=TokenUse(total, cached, total - cached, generated),
            timings_ms=timings_ms,
            mode=self.mode,
            model=self.engine.identity.name,
            prompt=self.prompt_text(plan),
            finish="length" if generated == room and not shown.stopped else "stop",
        )

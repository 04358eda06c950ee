"""Generation on cached passages: load each passage's KV, prefill only the question, decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

from rag.generation.citations import SupportMatcher
from rag.generation.decoding import Sampling, TextStream
from rag.generation.finish import Telling, abstention, attributed, token_use
from rag.generation.plan import (
    ContextWeights,
    EncodingPlan,
    PlacedRows,
    Sources,
    block_plan,
    graph_plan,
    parallel_plan,
    sequential_plan,
)
from rag.generation.prompt import PromptEncoder, rows_of_sentences
from rag.generation.source_structure import source_rows
from rag.records import Answer, Passage, Query

if TYPE_CHECKING:
    from rag.generation.engine import Engine, Prefilled

Edges = Literal["into_top_k", "from_top_m", "chain", "corpus"]
Mode = Literal["sequential", "parallel", "ape", "block", "graph"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True)
class GenerateCached:
    """Answers a question from passages; satisfies `rag.protocols.LanguageModel`.

    All modes but `sequential` read each passage's cached rows; rows of sentences that were pruned
    are left out and the rest re-packed:

    - `ape`: all passages side by side at shared positions, weighed by T, S and b
      (arXiv:2502.05431); `parallel` is the same with neutral weights;
    - `block`: one after another, best passage last, each blind to the others (arXiv:2409.15355);
    - `graph`: passages are computed anew over others, as `edges` say, and the question comes after
      them (Graph-KV, arXiv:2506.07334);
    - `sequential` prefills the same kept sentences as one prompt, best passage last: the exact
      baseline.

    Attributes:
        engine: runs the model.
        prompt: tokenises the pieces of the prompt for the same model.
        mode: one of `MODES`.
        weights: T, S and b of `ape`. (0.8, 1, 0) measured best on the default model; the authors'
            (0.9, 0.9, 0) takes weight from the passages, and half of the answers with it.
        sampling: how tokens are chosen.
        support: attributes citations.
        edges: of mode `graph`, from sources to targets: `into_top_k`, the best k are targets of all
            others; `from_top_m`, all others are targets of the best k; `chain`, each is a target of
            the next worse one; `corpus`, the edges of the corpus graph that retrieval returned, the
            better passage the target.
        k: how many the best ones are, at least 1.

    Raises:
        ValueError: for an unknown mode or edges, k below 1, or an engine and a prompt of different
            models.
    """

    engine: Engine
    prompt: PromptEncoder
    mode: Mode = "ape"
    weights: ContextWeights = ContextWeights(0.8, 1.0)
    sampling: Sampling = Sampling()
    support: SupportMatcher = field(default_factory=SupportMatcher)
    edges: Edges = "into_top_k"
    k: int = 1

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if self.edges not in get_args(Edges):
            raise ValueError(
                f"edges must be one of {', '.join(get_args(Edges))}, got {self.edges!r}"
            )
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")
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
        telling = Telling(TextStream(self.prompt.text, self.prompt.template.stop))
        read = [passage for passage in passages if passage.kept_rows]
        if not read:
            yield abstention(passages, mode=self.mode, model=self.engine.identity.name)
            return
        plan = self.plan(query, read)
        state = self.engine.prefill(plan)
        yield from telling.pieces(self.engine.decode(state, self.sampling, self.prompt.stop_ids))
        self.engine.store(state.fresh)
        yield self._finished(query, tuple(passages), plan, state, telling)

    def plan(self, query: Query, passages: Sequence[Passage]) -> EncodingPlan:
        """Return the encoding plan for passages of which at least one sentence is kept."""
        prefix = self.prompt.prefix()
        question = self.prompt.question(query)
        segments = []
        for passage in passages:
            segment = self.prompt.passage(passage, prefix)
            segments.append((segment, rows_of_sentences(segment, passage.kept_rows)))
        if self.mode in ("ape", "parallel"):
            weights = self.weights if self.mode == "ape" else ContextWeights()
            return parallel_plan(prefix, tuple(segments), question, weights, mode=self.mode)
        if self.mode == "block":
            return block_plan(prefix, tuple(reversed(segments)), question)
        if self.mode == "graph":
            return graph_plan(prefix, tuple(segments), self.sources(passages), question)
        read = [PlacedRows(segment, 0, rows).token_ids for segment, rows in reversed(segments)]
        parts = (prefix.token_ids, *read, question)
        return sequential_plan(tuple(token for part in parts for token in part))

    def sources(self, passages: Sequence[Passage]) -> Sources:
        """Return the rows of the passages that each one is computed anew over, in mode `graph`."""
        rows = tuple(range(len(passages)))
        if self.edges == "corpus":
            return source_rows(passages)
        if self.edges == "chain":
            return tuple(rows[row + 1 : row + 2] for row in rows)
        best, others = rows[: self.k], rows[self.k :]
        targets, sources = (best, others) if self.edges == "into_top_k" else (others, best)
        return tuple(sources if row in targets else () for row in rows)

    def prompt_text(self, plan: EncodingPlan) -> str:
        """Return the exact text that the model reads, cached parts in the plan's order."""
        return self.prompt.plan_text(plan)

    def with_mode(self, mode: Mode) -> GenerateCached:
        """Return the same generator in another mode."""
        return replace(self, mode=mode)

    def _finished(
        self,
        query: Query,
        passages: tuple[Passage, ...],
        plan: EncodingPlan,
        state: Prefilled,
        telling: Telling,
    ) -> Answer:
        answer = Answer(
            text=telling.shown.text,
            passages=passages,
            cache=state.use,
            tokens=token_use([plan], state.use, len(telling.shown.ids)),
            timings_ms=telling.timings_ms(state.kv_ms),
            mode=self.mode,
            model=self.engine.identity.name,
            prompt=self.prompt_text(plan),
            finish=telling.finish(self.engine.room(state.position, self.sampling.max_tokens)),
        )
        return attributed(answer, query, self.support)

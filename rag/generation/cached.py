"""Generation on cached passages: load each passage's KV, prefill only the question, decode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from rag.generation.citations import SupportMatcher
from rag.generation.decoding import Sampling, TextStream
from rag.generation.finish import Telling, abstention, attributed, token_use
from rag.generation.graph_edges import GraphEdges
from rag.generation.plan import (
    ContextWeights,
    EncodingPlan,
    PlacedRows,
    Positions,
    Recompute,
    block_plan,
    graph_plan,
    parallel_plan,
    repeated,
    sequential_plan,
)
from rag.generation.prompt import PromptEncoder, rows_of_sentences
from rag.records import Answer, Passage, Query, Segment

if TYPE_CHECKING:
    from rag.generation.engine import Engine, Prefilled

Mode = Literal["sequential", "prefix", "parallel", "ape", "block", "graph"]
MODES: tuple[Mode, ...] = get_args(Mode)
_CACHED: Final[tuple[Mode, ...]] = ("parallel", "ape", "block", "graph")
"""The other two compute all passages, exactly: there is no cached row that a repair could mend."""
_USED: Final[Mapping[str, tuple[Mode, ...]]] = {
    "weights": ("ape",),
    "graph": ("graph",),
    "positions": ("parallel", "ape", "graph"),
    "repack": ("parallel", "ape"),
    "see_prefix": _CACHED,
    "recompute": _CACHED,
}
"""Modes in which an option says something; those that are not here say something in all."""


@dataclass(frozen=True)
class GenerateCached:
    """Answers a question from passages; satisfies `rag.protocols.LanguageModel`.

    All modes but the first two read each passage's cached rows; rows of sentences that were pruned
    are left out and the rest re-packed:

    - `sequential` prefills the same kept sentences as one prompt, best passage last: the exact
      baseline; `prefix` is the same, with the shared prefix read from the cache;
    - `ape`: all passages side by side at shared positions, weighed by T, S and b
      (arXiv:2502.05431); `parallel` is the same with neutral weights;
    - `block`: one after another, best passage last, each blind to the others (arXiv:2409.15355);
    - `graph`: passages are computed anew over others, as its edges say, and the question comes
      after them (Graph-KV, arXiv:2506.07334).

    Attributes:
        engine: runs the model.
        prompt: tokenises the pieces of the prompt for the same model.
        mode: one of `MODES`.
        weights: T, S and b of `ape`. (0.8, 1, 0) measured best on the default model; the authors'
            (0.9, 0.9, 0) takes weight from the passages, and half of the answers with it.
        sampling: how tokens are chosen.
        support: attributes citations.
        graph: the edges of mode `graph`.
        positions: of modes `ape`, `parallel` and `graph`: `shared`, or `serial` as in one prompt.
        repack: whether rows that are read stand densely, or keep the places of those left out
            (modes `ape` and `parallel`).
        see_prefix: whether passages are encoded with the prefix before them, which keeps attention
            off their first tokens; without, their KV fits any prefix.
        recompute: cached rows that are computed anew.
        repeat_passages: whether all passages are read once more, computed, before the question.

    Raises:
        ValueError: for an unknown mode, an option that is set and that the mode has no use for, or
            an engine and a prompt of different models.
    """

    engine: Engine
    prompt: PromptEncoder
    mode: Mode = "ape"
    weights: ContextWeights = ContextWeights(0.8, 1.0)
    sampling: Sampling = Sampling()
    support: SupportMatcher = field(default_factory=SupportMatcher)
    graph: GraphEdges = GraphEdges()
    positions: Positions = "shared"
    repack: bool = True
    see_prefix: bool = True
    recompute: Recompute = Recompute()
    repeat_passages: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if self.positions not in get_args(Positions):
            raise ValueError(
                f"positions must be one of {', '.join(get_args(Positions))}, got {self.positions!r}"
            )
        for name in _useless(self.mode):
            if getattr(self, name) != _DEFAULTS[name]:
                raise ValueError(
                    f"mode {self.mode!r} has no use for {name}, which works in "
                    f"{', '.join(map(repr, _USED[name]))}, got {getattr(self, name)!r}"
                )
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
        # Best passage last, next to the question.
        segments = []
        for passage in reversed(passages):
            segment = self.prompt.passage(passage, prefix)
            if not self.see_prefix:
                segment = replace(segment, parents=())
            segments.append((segment, rows_of_sentences(segment, passage.kept_rows)))
        read = tuple(segments)
        plan = self._layout(prefix, read, question, passages)
        plan = replace(plan, mode=self.mode, recompute=self.recompute)
        return repeated(plan, read, len(question)) if self.repeat_passages else plan

    def _layout(
        self,
        prefix: Segment,
        read: tuple[tuple[Segment, tuple[int, ...] | None], ...],
        question: tuple[int, ...],
        passages: Sequence[Passage],
    ) -> EncodingPlan:
        if self.mode in ("ape", "parallel"):
            weights = self.weights if self.mode == "ape" else ContextWeights()
            return parallel_plan(
                prefix, read, question, weights, positions=self.positions, gaps=not self.repack
            )
        if self.mode == "block":
            return block_plan(prefix, read, question)
        if self.mode == "graph":
            last = len(passages) - 1
            sources = self.graph.sources(passages)
            return graph_plan(
                prefix,
                read,
                tuple(tuple(last - row for row in reversed(rows)) for rows in reversed(sources)),
                question,
                rounds=self.graph.turns,
                positions=self.positions,
                keep_round0=self.graph.keep_round0,
                self_edge=self.graph.self_edge,
            )
        told, at = [], len(prefix)
        for segment, rows in read:
            told.append((at, PlacedRows(segment, at, rows)))
            at += len(told[-1][1])
        ids = tuple(token for _, placed in told for token in placed.token_ids)
        if self.mode == "sequential":
            return sequential_plan((*prefix.token_ids, *ids, *question), tuple(told))
        after = tuple((at - len(prefix), placed) for at, placed in told)
        start = len(prefix)
        return EncodingPlan(
            "prefix", PlacedRows(prefix, 0), (), (*ids, *question), start, told=after
        )

    def prompt_text(self, plan: EncodingPlan) -> str:
        """Return the exact text that the model reads, cached parts in the plan's order."""
        return self.prompt.plan_text(plan)

    def with_mode(self, mode: Mode) -> GenerateCached:
        """Return the same generator in another mode; options that it has no use for are default."""
        return replace(self, mode=mode, **{name: _DEFAULTS[name] for name in _useless(mode)})

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


_DEFAULTS: Final[Mapping[str, Any]] = {
    option.name: option.default for option in fields(GenerateCached) if option.name in _USED
}


def _useless(mode: Mode) -> list[str]:
    """Return the options that a mode has no use for."""
    return [name for name, modes in _USED.items() if mode in MODES and mode not in modes]

"""Generation on cached passages: load each passage's KV, prefill only the question, decode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from rag.bounds import require_share
from rag.generation.answer_batch import answer_batch
from rag.generation.attention_citations import (
    AnswerAttention,
    AttentionMatcher,
    Heads,
    default_heads,
)
from rag.generation.beam_search import beam_search
from rag.generation.citations import SupportMatcher
from rag.generation.context_plan import (
    ContextPlan,
    Readable,
    Rows,
    dropped,
    keeps,
    whole_sentences,
)
from rag.generation.context_planner import READ_ROWS, ContextPlanner
from rag.generation.cost_model import CostModel
from rag.generation.decoding import Sampling, StopTexts, TextStream, decode_samples
from rag.generation.finish import Telling, abstention, token_use
from rag.generation.graph_edges import GraphEdges
from rag.generation.plan import (
    ContextWeights,
    EncodingPlan,
    PlacedRows,
    Positions,
    Recompute,
    Sources,
    block_plan,
    graph_plan,
    parallel_plan,
    repeated,
    sequential_plan,
)
from rag.generation.prompt import PromptEncoder
from rag.generation.readable import absent, readable
from rag.generation.refusal import refusing_if_sure
from rag.records import Answer, ContextStep, Passage, Query, Segment

if TYPE_CHECKING:
    from rag.generation.engines import AnyEngine
    from rag.generation.prefilled import Prefilled

Cite = Literal["support", "attention", "both"]
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
    "context": _CACHED,
}
"""Modes in which an option says something; those that are not here say something in all."""
_SPELLED: Final[Mapping[str, tuple[str, ...]]] = {
    "weights": ("ape_temperature", "ape_scale", "ape_bias"),
    "graph": ("edges", "k", "pairs", "rounds", "keep_round0", "self_edge"),
    "recompute": ("recompute_first_k", "recompute_top_r", "deviation"),
    "context": ("context", "context_slack_ms", "context_blend"),
}
"""What options that hold several settings are called in a pipeline file."""
READING_OPTIONS: Final[Mapping[str, tuple[Mode, ...]]] = {
    "mode": MODES,
    **{spelled: modes for name, modes in _USED.items() for spelled in _SPELLED.get(name, (name,))},
    "repeat_passages": MODES,
}
"""Options of a pipeline file that say how passages are read, and the modes that have a use for
them; the others are about the prompt, the sampling and the citations."""


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
        mode: one of `MODES`. `graph` with the best passage as the only target measured best on the
            default model.
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
        context: decides for each passage whether its cached rows are read, or what is kept of it is
            computed. What is computed comes after all cached rows, best passage last, sees all of
            them, and attends to them as the question does; T, S and b weigh cached passages alone.
            Its positions follow theirs. Under `auto` without a cost model this machine is measured
            when the first question comes.
        repeat_passages: whether all passages are read once more, computed, before the question.
        beams: above 1, the answer is found by beam search.
        length_penalty: of beam search.
        cite: what is cited: the sentence that supports an answer's sentence best; what the model
            attended to; or, with `both`, of the sentences that support enough the one that the
            model looked at, too.
        heads: of the model, to look at; None means those known to be good, else all.
        refusal_threshold: the least probability of a refusal that is believed, of a model with an
            adapter, from 0 (every one) to 1 (none); below it the best other answer is given.

    Raises:
        ValueError: for an unknown mode, an option that is set and that the mode has no use for,
            beams that would sample or that attention is asked of, a repair that is asked for
            twice, or an engine and a prompt of different models.
    """

    engine: AnyEngine
    prompt: PromptEncoder
    mode: Mode = "graph"
    weights: ContextWeights = ContextWeights(0.8, 1.0)
    sampling: Sampling = Sampling()
    support: SupportMatcher = field(default_factory=SupportMatcher)
    graph: GraphEdges = GraphEdges()
    positions: Positions = "shared"
    repack: bool = True
    see_prefix: bool = True
    recompute: Recompute = Recompute()
    repeat_passages: bool = False
    beams: int = 1
    length_penalty: float = 1.0
    cite: Cite = "support"
    heads: Heads | None = None
    context: ContextPlanner = READ_ROWS
    refusal_threshold: float = 0.7
    _costs: list[CostModel] = field(default_factory=list, init=False, repr=False, compare=False)

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
                    f"mode {self.mode!r} has no use for {_called(name)}, which works in "
                    f"{', '.join(map(repr, _USED[name]))}, got {getattr(self, name)!r}"
                )
        if self.cite not in get_args(Cite):
            raise ValueError(f"cite must be one of {', '.join(get_args(Cite))}, got {self.cite!r}")
        require_share("refusal_threshold", self.refusal_threshold)
        if self.beams < 1:
            raise ValueError(f"beams must be at least 1, got {self.beams}")
        if self.beams > 1 and (self.sampling.temperature or self.cite != "support"):
            raise ValueError(
                "beams above 1 need temperature 0 and cite 'support', got temperature "
                f"{self.sampling.temperature} and {self.cite!r}"
            )
        if self.context.blend and self.recompute.share:
            raise ValueError(
                f"context.blend must be 0 if recompute.share is set, got {self.context.blend} and "
                f"{self.recompute.share}"
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
        telling = self.telling()
        read = [passage for passage in passages if keeps(passage)]
        if not read:
            yield abstention(passages, mode=self.mode, model=self.engine.identity.name)
            return
        plan = self.plan(query, read)
        state = self.refusing(self.engine.prefill(plan, watch=self.watches))
        looked = self.looking(state)
        yield from telling.pieces(self._tokens(state, telling, looked))
        self.engine.store(state.fresh)
        yield self.finished(query, passages, plan, state, telling, looked)

    def batch(
        self, *, query: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[Answer]:
        """Answer many questions at once; see `answer_batch`. Beams are searched one by one.

        Args:
            query: the questions.
            passages: for each its passages, best first.
        """
        if self.beams > 1:
            return [self(one, found) for one, found in zip(query, passages, strict=True)]
        return answer_batch(self, query, passages)

    def several(self, query: Query, passages: Sequence[Passage], count: int) -> list[Answer]:
        """Return several answers to a question whose prompt is read once.

        They are independent samples, with seeds from that of the sampling on, or with beams the
        best that the search found. Their citations are by support: attention is not watched.

        Args:
            query: the question.
            passages: best first.
            count: at least 1; with beams at most as many.

        Raises:
            ValueError: if there cannot be so many different ones.
        """
        read = [passage for passage in passages if keeps(passage)]
        if not read:
            return [abstention(passages, mode=self.mode, model=self.engine.identity.name)] * count
        plan = self.plan(query, read)
        state = self.refusing(self.engine.prefill(plan))
        found: Iterable[Iterable[int]]
        if self.beams > 1:
            found = self._searched(state, count)
        else:
            stop = self.prompt.stop_ids
            samples = decode_samples(self.engine, state, self.sampling, stop, count)
            found = ((token for token, _ in sample) for sample in samples)
        answers = []
        for tokens in found:
            telling = self.telling()
            for _ in telling.pieces(tokens):
                pass
            answers.append(self.finished(query, passages, plan, state, telling))
        self.engine.store(state.fresh)
        return answers

    @property
    def watches(self) -> bool:
        """Whether the model's attention to passages is kept."""
        return self.cite != "support" and self.engine.reuses

    def refusing(self, state: Prefilled) -> Prefilled:
        """Return the state of an answer's first token, which refuses only where that is sure."""
        if not self.engine.identity.adapter:
            return state
        return refusing_if_sure(self.engine, state, self.prompt.refusals, self.refusal_threshold)

    def telling(self) -> Telling:
        """Return what shows an answer of this generator while it grows."""
        stop = self.prompt.template.stop, *self.sampling.stop
        return Telling(TextStream(self.prompt.text, *stop))

    def looking(self, state: Prefilled) -> AnswerAttention | None:
        """Return what takes down the attention of an answer to come, if it is watched."""
        if state.units is None:
            return None
        return AnswerAttention(state.units, self.heads or default_heads(self.engine.model.config))

    def _tokens(
        self, state: Prefilled, telling: Telling, looked: AnswerAttention | None
    ) -> Iterator[int]:
        if self.beams > 1:
            yield from self._searched(state, 1)[0]
        elif looked is None:
            yield from self.engine.decode(state, self.sampling, self.prompt.stop_ids)
        else:
            stop = self.prompt.stop_ids
            for token, before in self.engine.decode_states(state, self.sampling, stop):
                yield token
                assert before.cache.mass is not None, "it was watched"
                # Not reached after the token that stops the text: it is no part of the answer.
                looked.add(before.cache.mass, len(telling.shown.whole.rstrip()))

    def _searched(self, state: Prefilled, count: int) -> list[tuple[int, ...]]:
        stops = StopTexts((self.prompt.template.stop, *self.sampling.stop))

        def ends(ids: tuple[int, ...]) -> bool:
            text = self.prompt.text(ids).lstrip()
            return stops.found(text) < len(text)

        found = beam_search(
            self.engine,
            state,
            self.beams,
            self.sampling.max_tokens,
            self.prompt.stop_ids,
            length_penalty=self.length_penalty,
            num_return_sequences=count,
            ends=ends,
        )
        return [hypothesis.token_ids for hypothesis in found]

    def first_token_ms(self, query: Query, passages: Sequence[Passage]) -> float | None:
        """Return how long it takes to the first token, or None if there is none or KV was missing.

        What missed is encoded and stored, so another call finds it.

        Args:
            query: the question.
            passages: best first.
        """
        began = perf_counter()
        read = [passage for passage in passages if keeps(passage)]
        if not read:
            return None
        state = self.engine.prefill(self.plan(query, read))
        self.sampling.choose(state.logits, self.sampling.generator())
        taken = (perf_counter() - began) * 1e3
        self.engine.store(state.fresh)
        return None if state.use.misses else taken

    def context_plan(self, passages: Sequence[Passage]) -> ContextPlan:
        """Return how each passage is read, and why.

        Modes that compute all passages have no choice. In mode `graph` a passage that is computed
        anew over others stays with them if all of them are cached; else it becomes text, too.

        Args:
            passages: best first.
        """
        return self._chosen(passages, self._sources(passages))

    def plan(self, query: Query, passages: Sequence[Passage]) -> EncodingPlan:
        """Return the encoding plan for passages of which at least one sentence is kept.

        Args:
            query: the question.
            passages: best first.

        Raises:
            ValueError: if nothing is kept of any passage.
        """
        prefix = self.prompt.prefix()
        question = self.prompt.question(query)
        sources = self._sources(passages)
        chosen = self._chosen(passages, sources)
        told = _computed(chosen, sources)
        read = [chosen.rows_of(row) for row in range(len(passages))]
        cached_rows = [row for row, one in enumerate(read) if one is not None and row not in told]
        # Best passage last, next to the question.
        cached = _last_first(read[row] for row in cached_rows)
        text = _last_first(read[row] for row in sorted(told))
        if not cached and not text:
            raise ValueError(f"no sentence of {len(passages)} passages is kept; nothing is read")
        if self.mode in _CACHED:
            plan = self._layout(prefix, cached, question, _among(sources, cached_rows))
            plan = repeated(plan, text, len(question)) if text else plan
        else:
            plan = self._computed_plan(prefix, text, question)
        repair = self.recompute
        if chosen.recomputed:
            repair = replace(repair, share=chosen.recomputed)
        plan = replace(plan, mode=self.mode, recompute=repair, steps=chosen.steps)
        every = (*cached, *text)
        return repeated(plan, every, len(question)) if self.repeat_passages else plan

    def _sources(self, passages: Sequence[Passage]) -> Sources:
        """Return for each passage, best first, the rows of those it is computed anew over."""
        if self.mode != "graph" or self.context.policy == "text":
            return ((),) * len(passages)
        return self.graph.sources(passages)

    def _chosen(self, passages: Sequence[Passage], sources: Sources) -> ContextPlan:
        prefix = self.prompt.prefix()
        read = []
        for passage, of_row in zip(passages, sources, strict=True):
            anew = f"mode graph computes it anew over {len(of_row)} others" if of_row else ""
            if self.mode not in _CACHED:
                anew = f"mode {self.mode} computes all passages"
            one = readable(self.prompt, passage, prefix, see_prefix=self.see_prefix, anew=anew)
            if self.context.policy == "auto":
                one = replace(one, absent=absent(self.engine.cache, one.cached[0]))
            read.append(one)
        planner = self.context
        if planner.policy == "auto" and planner.cost is None:
            planner = replace(planner, cost=self._cost(read))
        return planner.plan(read, recomputed=self.recompute.share)

    def _cost(self, read: Sequence[Readable]) -> CostModel:
        """Return this machine's cost model, measured once."""
        if not self._costs:
            stored = (one.cached[0] for one in read if not one.absent)
            engine: Any = self.engine
            self._costs.append(CostModel.probe(engine, next(stored, None)))
        return self._costs[0]

    def _layout(
        self,
        prefix: Segment,
        read: tuple[Rows, ...],
        question: tuple[int, ...],
        sources: Sources,
    ) -> EncodingPlan:
        if self.mode in ("ape", "parallel"):
            weights = self.weights if self.mode == "ape" else ContextWeights()
            return parallel_plan(
                prefix, read, question, weights, positions=self.positions, gaps=not self.repack
            )
        if self.mode == "block":
            return block_plan(prefix, read, question)
        last = len(read) - 1
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

    def _computed_plan(
        self, prefix: Segment, read: tuple[Rows, ...], question: tuple[int, ...]
    ) -> EncodingPlan:
        """Lay out the modes that compute all passages."""
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

    def finished(
        self,
        query: Query,
        passages: Sequence[Passage],
        plan: EncodingPlan,
        state: Prefilled,
        telling: Telling,
        looked: AnswerAttention | None = None,
    ) -> Answer:
        """Return the answer of a request whose last token was told, with its evidence.

        Args:
            query: the question.
            passages: all that were given, read or not.
            plan: what was read.
            state: as it was prefilled.
            telling: showed the answer.
            looked: took down the attention of its tokens.
        """
        answer = Answer(
            text=telling.shown.text,
            passages=tuple(passages),
            cache=state.use,
            tokens=token_use([plan], state.use, len(telling.shown.ids)),
            timings_ms=telling.timings_ms(state.kv_ms),
            mode=self.mode,
            model=self.engine.identity.name,
            adapter=self.engine.identity.adapter,
            prompt=self.prompt_text(plan),
            context=self._steps(passages, plan),
            finish=telling.finish(self.engine.room(state.position, self.sampling.max_tokens)),
            attention=() if looked is None else looked.of(passages),
        )
        given = tuple(map(whole_sentences, passages))
        shares = None if looked is None else partial(looked.of, given)
        if shares is not None and self.cite == "attention":
            found = AttentionMatcher()(answer.text, given, shares)
        else:
            found = self.support(query, answer.text, given, shares)
        return found.attached_to(answer)

    def _steps(self, passages: Sequence[Passage], plan: EncodingPlan) -> tuple[ContextStep, ...]:
        """Return the step of every passage that was given, read or not."""
        known = {step.passage_id: step for step in plan.steps}
        return tuple(known.get(passage.id) or dropped(passage) for passage in passages)


_DEFAULTS: Final[Mapping[str, Any]] = {
    option.name: option.default for option in fields(GenerateCached) if option.name in _USED
}


def _called(name: str) -> str:
    """Return an option's name, and what it is called in a pipeline file."""
    return f"{name} ({', '.join(_SPELLED[name])})" if name in _SPELLED else name


def _useless(mode: Mode) -> list[str]:
    """Return the options that a mode has no use for."""
    return [name for name, modes in _USED.items() if mode in MODES and mode not in modes]


def _computed(chosen: ContextPlan, sources: Sources) -> set[int]:
    """Return which passages are computed after all cached ones.

    Those are all whose step is text, but not a target of mode `graph` as long as all of its sources
    stay among the cached passages: it does, too.
    """
    text = {row for row, step in enumerate(chosen.steps) if step.step == "text"}
    gone = {row for row, step in enumerate(chosen.steps) if step.step == "drop"}
    stays = {row for row in text if sources[row] and not chosen.readable[row].refused}
    told = text - stays
    while True:
        more = {row for row in stays - told if (told | gone) & set(sources[row])}
        if not more:
            return told
        told |= more


def _among(sources: Sources, rows: Sequence[int]) -> Sources:
    """Return the sources of some passages as rows among them."""
    place = {row: number for number, row in enumerate(rows)}
    return tuple(tuple(place[source] for source in sources[row]) for row in rows)


def _last_first(read: Iterable[Rows | None]) -> tuple[Rows, ...]:
    return tuple(one for one in reversed(list(read)) if one is not None)

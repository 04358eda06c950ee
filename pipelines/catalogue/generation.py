"""The generator on cached passages: from options by name to its parts."""

from dataclasses import MISSING, fields
from typing import Annotated, Any

from pipelines.catalogue.bounded import Share
from rag.bounds import Bounds
from rag.generation.attention_citations import Heads
from rag.generation.cached import Cite, GenerateCached, Mode
from rag.generation.citations import SupportMatcher
from rag.generation.context_planner import ContextPlanner, ContextPolicy
from rag.generation.cost_model import CostModel
from rag.generation.decoding import Sampling
from rag.generation.graph_edges import Edges, GraphEdges
from rag.generation.local_model import LocalModel
from rag.generation.plan import ContextWeights, Deviation, Positions, Recompute
from rag.generation.templates import PromptChoice, chosen_template
from rag.generation.text_generator import GenerateText
from rag.protocols import Encoder, LanguageModel, PassageCache, TextModel


def cached(
    lm: TextModel,
    kv: PassageCache | None = None,
    encoder: Encoder | None = None,
    *,
    mode: Mode = "graph",
    prompt: PromptChoice | dict[str, str | bool] = "auto",
    max_tokens: Annotated[int, Bounds(low=1)] = 64,
    temperature: Annotated[float, Bounds(low=0)] = 0.0,
    seed: int = 0,
    sample_top_k: Annotated[int, Bounds(low=0)] = 0,
    top_p: Annotated[float, Bounds(0, 1, open_low=True)] = 1.0,
    min_p: Share = 0.0,
    stop: list[str] | None = None,
    beams: Annotated[int, Bounds(low=1)] = 1,
    length_penalty: float = 1.0,
    ape_temperature: Annotated[float, Bounds(low=0, open_low=True)] = 0.8,
    ape_scale: Annotated[float, Bounds(low=0, open_low=True)] = 1.0,
    ape_bias: float = 0.0,
    threshold: Share = 0.5,
    cite: Cite = "support",
    attention_heads: list[list[int]] | None = None,
    edges: Edges = "into_top_k",
    k: Annotated[int, Bounds(low=1)] = 1,
    pairs: list[list[int]] | None = None,
    rounds: Annotated[int, Bounds(low=1)] | None = None,
    keep_round0: bool = False,
    self_edge: bool = False,
    positions: Positions = "shared",
    repack: bool = True,
    see_prefix: bool = True,
    recompute_first_k: Annotated[int, Bounds(low=0)] = 0,
    recompute_top_r: Share = 0.0,
    deviation: Deviation = "value",
    repeat_passages: bool = False,
    context: ContextPolicy = "rows",
    context_slack_ms: Annotated[float, Bounds(low=0)] = 0.0,
    context_blend: Share = 0.0,
    context_cost: dict[str, float] | None = None,
    refusal_threshold: Share = 0.7,
    fallback: bool = False,
) -> LanguageModel:
    """Answers from cached passages, with citations; little more than the question is prefilled.

    Sources: APE, arXiv:2502.05431; Graph-KV, arXiv:2506.07334.

    Args:
        lm: the language model; one that does not run here is sent the passages as text (mode
            `sequential`), as its KV cannot be reused.
        kv: keeps the KV of passages between runs; by default the index's own store.
        encoder: compares sentences by meaning for citations.
        mode: `graph` reads cached passages and computes some anew over others, by default the best
            one (Graph-KV); `ape` and `parallel` read them side by side, with and without weights;
            `block` one after another; `sequential` prefills one prompt, exactly; `prefix` all of it
            but the cached prefix.
        prompt: the text around passages and question: `examples` and `instruct` are raw texts,
            `chat` and `chat-examples` use the tokenizer's chat template, `thought` reasons first;
            `auto` is `chat` for a chat model of more than a billion parameters, else `examples`.
            Or a template of your own: texts `prefix`, `header` with `{title}`, `closing`,
            `question` with `{question}`, `stop`; with `chat: true` also `opening`.
        max_tokens: the most to generate, at least 1.
        temperature: 0 is greedy; above 0 samples.
        seed: of the sampler.
        sample_top_k: sample from so many of the most probable tokens; 0 is off.
        top_p: sample from the smallest set of most probable tokens that holds this probability; 1
            is off.
        min_p: sample from tokens at least this times as probable as the most probable; 0 is off.
        stop: the answer also ends before the first of these texts.
        beams: above 1 beam search, at temperature 0.
        length_penalty: of beam search: a sum of log-probabilities is divided by the length to this
            power.
        ape_temperature: T, sharpens attention within the passages below 1.
        ape_scale: S, weighs the passages.
        ape_bias: b, in nats, weighs the passages.
        threshold: least support for a citation, in [0, 1].
        cite: what decides which sentence is cited: `support`, how much its text supports the
            answer; `attention`, where the model looked while it answered; `both`, of the sentences
            that support enough the one it looked at.
        attention_heads: pairs [layer, head] to look at; by default those known to be good, else
            all.
        edges: of mode `graph`, from sources to targets: into the best k passages from all others,
            from the best k into all others (`from_top_m`), from all into all, a chain from worst to
            best, the corpus graph's own, or `explicit` pairs.
        k: how many the best ones are.
        pairs: of edges `explicit`: [source, target] as ranks, the best passage being 1.
        rounds: how often targets are computed, each time over what their sources were before; by
            default once, each after its sources.
        keep_round0: whether the question also sees targets as they are cached.
        self_edge: whether a target sees itself as it is cached.
        positions: where passages stand in modes `ape`, `parallel` and `graph`: `shared`, or
            `serial` as in one prompt.
        repack: whether kept rows of a pruned passage stand densely.
        see_prefix: whether passages are encoded with the prefix before them.
        recompute_first_k: rows at the beginning of each passage that are computed anew, seeing the
            passages before it (LegoLink, arXiv:2410.15332).
        recompute_top_r: share of all rows that are computed anew: those that differ most
            (CacheBlend, arXiv:2405.16444).
        deviation: what is compared for that, in the second layer.
        repeat_passages: whether all passages are read once more, computed, before the question.
        context: what is read of a passage: `rows`, the cached rows of its kept sentences; `text`,
            the kept sentences themselves, computed after all cached rows and seeing them; `full`,
            all cached rows, whatever was pruned; `auto`, for each passage what costs least on this
            machine, and text if it is not in the KV store.
        context_slack_ms: of `auto`: predicted time, of all passages together, to spend on text
            where rows would be faster; the best passages come first.
        context_blend: of `auto`: share of cached rows that is computed anew if the slack allows it.
        context_cost: constants of the cost model, by the names of `CostModel`, instead of those
            measured here, so that a run can be repeated elsewhere.
        refusal_threshold: the least probability of a refusal that is believed, of a model with an
            adapter: 0 believes every one, 1 none; below it the best other answer is given.
        fallback: whether a model whose KV cannot be reused answers in mode `sequential`, with a
            note; by default that is an error.
    """
    sampling = Sampling(
        max_tokens, temperature, seed, sample_top_k, top_p, min_p, tuple(stop or ())
    )
    support = SupportMatcher(encoder, threshold)
    if not isinstance(lm, LocalModel):
        template = chosen_template(prompt, has_chat=False, parameters=0)
        return GenerateText(lm, template, sampling, support)
    engine = lm.engine(kv, fallback=fallback)
    made = GenerateCached(
        engine,
        lm.prompt_of(prompt),
        mode=mode,
        weights=ContextWeights(ape_temperature, ape_scale, ape_bias),
        sampling=sampling,
        support=support,
        graph=GraphEdges(
            edges,
            k,
            tuple(tuple(pair) for pair in pairs or ()),
            rounds,
            keep_round0,
            self_edge,
        ),
        positions=positions,
        repack=repack,
        see_prefix=see_prefix,
        recompute=Recompute(recompute_first_k, recompute_top_r, deviation),
        repeat_passages=repeat_passages,
        context=ContextPlanner(
            context, _cost_model(context_cost), context_slack_ms / 1e3, context_blend
        ),
        beams=beams,
        length_penalty=length_penalty,
        cite=cite,
        heads=None if attention_heads is None else _pairs(attention_heads),
        refusal_threshold=refusal_threshold,
    )
    return made if engine.reuses else made.with_mode("sequential")


def _cost_model(constants: dict[str, float] | None) -> CostModel | None:
    """Return the cost model of some constants.

    Raises:
        ValueError: for an unknown or a missing one.
    """
    if constants is None:
        return None
    known: dict[str, Any] = dict(constants)
    names = [one.name for one in fields(CostModel)]
    needed = [one.name for one in fields(CostModel) if one.default is MISSING]
    if not set(needed) <= set(known) <= set(names):
        raise ValueError(
            f"context_cost takes {', '.join(names)}, the first {len(needed)} of them always, "
            f"got {', '.join(known) or 'none'}"
        )
    return CostModel(**known)


def _pairs(heads: list[list[int]]) -> Heads:
    """Return heads as pairs.

    Raises:
        ValueError: if one is no pair.
    """
    if not heads or any(len(head) != 2 for head in heads):
        raise ValueError(f"attention_heads must be pairs [layer, head], got {heads}")
    return tuple((layer, head) for layer, head in heads)

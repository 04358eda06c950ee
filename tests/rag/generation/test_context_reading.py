"""Context plans executed: rows, text and both in one prompt, against prefills and dense plans."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from kvstore.store import KVStore
from rag.generation.cached import GenerateCached
from rag.generation.context_planner import ContextPlanner
from rag.generation.cost_model import CostModel
from rag.generation.decoding import Sampling
from rag.generation.engine import Engine
from rag.generation.graph_edges import GraphEdges
from rag.generation.plan import ContextWeights, PlacedRows, Recompute, graph_plan, parallel_plan
from rag.generation.prompt import PromptEncoder, PromptTemplate
from rag.generation.text_generator import GenerateText
from rag.records import (
    Completion,
    ModelIdentity,
    Passage,
    Query,
    Segment,
    Selection,
    SentenceScore,
    Span,
    text_sha,
)

TEMPLATE = PromptTemplate(
    prefix="Answer.\n\n", header="# {title}:", closing="\n\n", question="Q: {question}\nA:"
)
QUERY = Query("What is lazy?")
CACHED_MODES = ("parallel", "ape", "block", "graph")
NEUTRAL = ContextWeights()
LOADS = CostModel(100, 1e9, 100)
COMPUTES = CostModel(1e9, 100, 100)


def passage_of(name, kept=None, unit="sentence", spans=None):
    pieces = f"The {name} checks. ", f"A {name} is lazy. ", f"No {name} returns."
    text = "".join(pieces)
    ends = [sum(map(len, pieces[: n + 1])) for n in range(len(pieces))]
    sentences = tuple(Span(end - len(p), end) for p, end in zip(pieces, ends, strict=True))
    passage = Passage(name, "d", text, Span(0, len(text)), sentences, title=name)
    if kept is None:
        return passage
    scores = tuple(SentenceScore(s, 0.5, n in kept) for n, s in enumerate(spans or sentences))
    return replace(passage, kept=Selection(name, text_sha(text), scores, "test", unit=unit))


WHOLE = [passage_of(name) for name in ("yield", "assert", "program")]
PRUNED = [passage_of("yield", {0, 2}), passage_of("assert"), passage_of("program", {1})]
GONE = passage_of("gone", set())


@pytest.fixture
def generator(tiny_model, tiny_tokenizer):
    """Return a function that makes a generator over a tiny model in float64 and a store in RAM."""

    def build(cache=None, *, dtype=torch.float64, layers=3, store=True, **options):
        name = str(dtype).removeprefix("torch.")
        identity = ModelIdentity(f"tiny{layers}", "weights", "rope", name, "tokenizer")
        model = tiny_model(dtype=dtype, num_hidden_layers=layers)
        cache = cache if cache is not None or not store else KVStore(None)
        engine = Engine(model, identity, cache, tested=True)
        options.setdefault("sampling", Sampling(max_tokens=8))
        return GenerateCached(engine, PromptEncoder(tiny_tokenizer, identity, TEMPLATE), **options)

    return build


def logits(made, passages):
    return made.engine.prefill(made.plan(QUERY, passages)).logits


def keep(made, passages):
    """Put whole passages into the generator's store."""
    prefix = made.prompt.prefix()
    for passage in passages:
        segment = made.prompt.passage(passage, prefix)
        if not made.see_prefix:
            segment = replace(segment, parents=())
        made.engine.cache.put(segment, made.engine.encode(segment))


def steps_of(answer):
    return [step.step for step in answer.context]


@pytest.mark.parametrize("mode", CACHED_MODES)
def test_rows_of_all_sentences_are_the_full_cache_bit_for_bit(generator, mode):
    made = generator(mode=mode)
    kept = [passage_of(name, {0, 1, 2}) for name in ("yield", "assert", "program")]
    full = replace(made, context=ContextPlanner("full"))
    assert torch.equal(logits(made, kept), logits(made, WHOLE))
    assert torch.equal(logits(full, PRUNED), logits(made, WHOLE))
    assert made(QUERY, kept).text == full(QUERY, PRUNED).text


@pytest.mark.parametrize("moved", [0, 3])
def test_every_row_by_number_is_every_row(generator, moved):
    made = generator()
    plan = made.with_mode("parallel").plan(QUERY, WHOLE[:1])
    (placed,) = plan.context
    at = replace(placed, start=placed.start + moved)
    numbered = replace(at, rows=tuple(range(len(at))))
    a, b = (made.engine.prefill(replace(plan, context=(one,))).logits for one in (at, numbered))
    assert torch.equal(a, b)


@pytest.mark.parametrize("mode", [*CACHED_MODES, "ape-weighed"])
@pytest.mark.parametrize("passages", [WHOLE, PRUNED, PRUNED[:1], [*PRUNED, GONE]])
def test_text_is_the_answer_of_a_pipeline_without_a_store(generator, mode, passages):
    options = {"mode": mode.removesuffix("-weighed"), "context": ContextPlanner("text")}
    if mode in ("ape", "ape-weighed"):
        options["weights"] = NEUTRAL if mode == "ape" else ContextWeights(0.5, 0.7, 0.3)
    made = generator(**options)
    bare = generator(store=False, **options)
    read = passages[:3]
    for _ in range(2):  # first without the prefix in the store, and then with it
        a, b = made(QUERY, passages), bare(QUERY, passages)
        assert (a.text, a.prompt, steps_of(a)) == (b.text, b.prompt, steps_of(b))
    assert torch.equal(logits(made, read), logits(bare, read))
    one_prompt = made.with_mode("sequential")
    assert (logits(made, read) - logits(one_prompt, read)).abs().max() < 1e-7
    assert one_prompt(QUERY, passages).text == a.text
    assert steps_of(a) == ["text"] * len(read) + ["drop"] * (len(passages) - len(read))
    assert {step.reason for step in a.context[: len(read)]} == {"context: text"}


@pytest.mark.parametrize("mode", CACHED_MODES)
@pytest.mark.parametrize("best", [0, 1])
def test_text_after_one_cached_passage_is_one_prompt(generator, mode, best):
    # The first cached passage is exact, and so is all that is computed after it.
    weights = {"weights": NEUTRAL} if mode == "ape" else {}
    made = generator(mode=mode, context=ContextPlanner("auto", LOADS), **weights)
    cached, text = WHOLE[1], PRUNED[0]
    keep(made, [cached])
    plan = made.plan(QUERY, [text, cached] if best == 0 else [cached, text])
    if mode == "graph" and best:  # the best passage is computed over the other, which is text
        assert [placed.segment.name for _, placed in plan.told] == [text.id, cached.id]
        return
    assert [placed.segment.name for placed in plan.context] == [cached.id]
    # Cached rows come first, whatever their rank.
    want = logits(made.with_mode("sequential"), [text, cached])
    assert (made.engine.prefill(plan).logits - want).abs().max() < 1e-7


def test_text_sees_all_cached_rows_and_the_question_sees_both(generator):
    # The same as a target over all others, computed by Graph-KV's plan.
    made = generator(mode="parallel", context=ContextPlanner("auto", LOADS))
    keep(made, [WHOLE[0], WHOLE[2]])
    plan = made.plan(QUERY, PRUNED)
    assert [step.step for step in plan.steps] == ["rows", "text", "rows"]
    prefix, question = made.prompt.prefix(), made.prompt.question(QUERY)
    read = [made.context_plan(PRUNED).rows_of(row) for row in (2, 0, 1)]
    dense = graph_plan(prefix, tuple(read), ((), (), (0, 1)), question)
    theirs = made.engine.prefill(dense).logits
    assert (made.engine.prefill(plan).logits - theirs).abs().max() < 1e-12
    blind = parallel_plan(prefix, tuple(read), question, NEUTRAL)
    assert (made.engine.prefill(blind).logits - theirs).abs().max() > 1e-3


@pytest.mark.parametrize("mode", CACHED_MODES)
def test_text_stands_after_all_rows_best_last_at_the_positions_that_follow(generator, mode):
    made = generator(mode=mode, context=ContextPlanner("auto", LOADS))
    keep(made, WHOLE[2:])
    plan = made.plan(QUERY, PRUNED)
    end = max(placed.end for placed in plan.context)
    assert plan.prefill_start == end
    assert [placed.segment.name for _, placed in plan.told] == ["assert", "yield"]
    assert [placed.start for _, placed in plan.told] == [end + at for at, _ in plan.told]
    question = made.prompt.question(QUERY)
    text = tuple(token for _, placed in plan.told for token in placed.token_ids)
    assert plan.prefill == (*text, *question)
    answer = made(QUERY, PRUNED)
    assert answer.prompt == (
        "Answer.\n\n# program: A program is lazy.\n\n"
        "# assert: The assert checks. A assert is lazy. No assert returns.\n\n"
        "# yield: The yield checks. No yield returns.\n\nQ: What is lazy?\nA:"
    )
    assert answer.tokens.prefilled == len(plan.prefill)


@pytest.mark.parametrize("mode", CACHED_MODES)
def test_rows_are_the_tokens_of_the_pruned_text_at_dense_positions(generator, mode):
    made = generator(mode=mode, **({"graph": GraphEdges("none")} if mode == "graph" else {}))
    plan = made.plan(QUERY, PRUNED)
    texts = [made.prompt.kept_text(p, made.prompt.prefix()).token_ids for p in reversed(PRUNED)]
    assert [placed.token_ids for placed in plan.context] == texts
    at = len(made.prompt.prefix())
    for placed in plan.context:
        assert placed.positions == tuple(range(at, at + len(placed)))
        at = placed.end if mode == "block" else at
    kept = sum(step.kept_tokens for step in plan.steps)
    assert kept == sum(map(len, texts))


def test_one_layer_without_context_in_its_keys_makes_rows_the_pruned_text(generator):
    made = generator(mode="block", layers=1)
    assert (logits(made, PRUNED) - logits(made.with_mode("sequential"), PRUNED)).abs().max() < 1e-10
    gaps = generator(mode="parallel", layers=1, repack=False)
    packed = generator(mode="parallel", layers=1)
    one = PRUNED[:1]
    want = logits(packed.with_mode("sequential"), one)
    assert (logits(packed, one) - want).abs().max() < 1e-10
    assert (logits(gaps, one) - want).abs().max() > 1e-4


def test_rows_are_nearer_to_the_pruned_text_than_as_many_others(generator):
    made = generator(mode="block")
    exact = made.with_mode("sequential")
    mine, others = [], []
    for chosen in range(3):
        kept = [passage_of(name, {chosen}) for name in ("yield", "assert", "program")]
        other = [passage_of(p.id, {(chosen + 1) % 3}) for p in kept]
        want = logits(exact, kept).log_softmax(-1)
        for found, read in ((mine, kept), (others, other)):
            got = logits(made, read).log_softmax(-1)
            found.append(float((want.exp() * (want - got)).sum()))
    assert all(value >= 0 for value in mine)
    assert sum(mine) < sum(others) / 2


def test_rotations_add_up_keep_norms_and_leave_values(generator):
    made = generator(dtype=torch.float32)
    segment = made.prompt.passage(WHOLE[0], made.prompt.prefix())
    kv = made.engine.encode(segment)
    rotate = made.engine._rotary.rotate
    steps = [torch.full((len(segment),), delta) for delta in (17, -9, 9, 8)]
    once = rotate(kv.keys, steps[0])
    assert torch.allclose(
        rotate(rotate(kv.keys, steps[2]).transpose(1, 2), steps[3]), once, atol=1e-5
    )
    back = rotate(rotate(kv.keys, steps[2]).transpose(1, 2), steps[1]).transpose(1, 2)
    assert torch.allclose(back, kv.keys, atol=1e-5)
    assert torch.allclose(once.transpose(1, 2).norm(dim=-1), kv.keys.norm(dim=-1), atol=1e-5)
    before = kv.values.clone()
    logits(made, PRUNED)
    assert torch.equal(kv.values, before)


def test_auto_follows_the_costs_and_the_store(generator):
    made = generator(mode="parallel", context=ContextPlanner("auto", LOADS))
    assert steps_of(made(QUERY, PRUNED)) == ["text"] * 3
    keep(made, WHOLE)
    answer = made(QUERY, [*PRUNED, GONE])
    assert steps_of(answer) == ["rows", "full", "rows", "drop"]
    assert all(set(step.seconds) == {"text", "rows", "full"} for step in answer.context[:3])
    dear = replace(made, context=ContextPlanner("auto", COMPUTES))
    assert steps_of(dear(QUERY, PRUNED)) == ["text"] * 3
    assert dear(QUERY, PRUNED).tokens.cached == len(made.prompt.prefix())


def test_auto_reads_nothing_twice_and_puts_nothing_of_what_it_does_not_read(generator):
    made = generator(mode="parallel", context=ContextPlanner("auto", LOADS))
    made(QUERY, PRUNED)
    assert made.engine.cache.stats().ram_entries == 1, "the prefix"


def test_passages_encoded_without_the_prefix_are_looked_up_as_such(generator):
    made = generator(mode="parallel", context=ContextPlanner("auto", LOADS), see_prefix=False)
    seeing = replace(made, see_prefix=True)
    keep(seeing, WHOLE)
    assert steps_of(made(QUERY, PRUNED)) == ["text"] * 3
    keep(made, WHOLE)
    assert steps_of(made(QUERY, PRUNED)) == ["rows", "full", "rows"]


def test_this_machine_is_measured_once_if_no_cost_model_is_given(generator, monkeypatch, tmp_path):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path))
    made = generator(mode="parallel", context=ContextPlanner("auto"))
    keep(made, WHOLE)
    asked = []
    monkeypatch.setattr(
        CostModel, "probe", classmethod(lambda *given: asked.append(given[2]) or LOADS)
    )
    for _ in range(2):
        assert steps_of(made(QUERY, PRUNED)) == ["rows", "full", "rows"]
    assert asked == [made.prompt.passage(WHOLE[0], made.prompt.prefix())]


def test_a_real_probe_answers(generator, monkeypatch, tmp_path):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path))
    made = generator(mode="graph", context=ContextPlanner("auto"))
    answer = made(QUERY, PRUNED)
    assert all(step.load_ratio > 0 for step in answer.context)


def test_a_blend_computes_a_share_of_the_rows(generator):
    planner = ContextPlanner("auto", LOADS, quality_slack_s=0.17, blend=0.2)
    made = generator(mode="block", context=planner)
    keep(made, WHOLE)
    plan = made.plan(QUERY, PRUNED)
    assert [step.step for step in plan.steps] == ["blend"] * 3
    assert plan.recompute == Recompute(share=0.2)
    always = generator(mode="block", recompute=Recompute(share=0.2))
    assert torch.equal(logits(made, PRUNED), logits(always, PRUNED))
    assert steps_of(always(QUERY, PRUNED)) == ["blend"] * 3
    with pytest.raises(ValueError, match=r"context.blend must be 0 if recompute.share is set"):
        replace(made, recompute=Recompute(share=0.1))


def test_a_graph_tells_what_it_computes_and_stays_as_it_was(generator):
    made = generator(mode="graph")
    answer = made(QUERY, PRUNED)
    assert steps_of(answer) == ["text", "full", "rows"]
    assert answer.context[0].reason == "mode graph computes it anew over 2 others"
    alone = made(QUERY, PRUNED[:1])
    assert steps_of(alone) == ["rows"]


@pytest.mark.parametrize("edges", ["into_top_k", "from_top_m", "chain", "full"])
@pytest.mark.parametrize("rounds", [None, 2])
def test_targets_of_a_graph_stay_while_their_sources_are_cached(generator, edges, rounds):
    if edges == "full" and rounds is None:
        rounds = 1
    graph = GraphEdges(edges, 2 if edges == "into_top_k" else 1, rounds=rounds)
    made = generator(mode="graph", graph=graph, context=ContextPlanner("auto", LOADS))
    keep(made, WHOLE)
    theirs = replace(made, context=ContextPlanner("rows"))
    assert made.plan(QUERY, PRUNED) == theirs.plan(QUERY, PRUNED)
    assert any(step.reason.startswith("mode graph") for step in made.plan(QUERY, PRUNED).steps)


def test_a_target_whose_source_becomes_text_becomes_text_too(generator):
    pairs = (2, 1), (3, 2)
    graph = GraphEdges("explicit", pairs=pairs)
    made = generator(mode="graph", graph=graph, context=ContextPlanner("auto", LOADS))
    keep(made, WHOLE[:2])  # the last, on which the second depends, and on that the first, is text
    plan = made.plan(QUERY, PRUNED)
    assert not plan.context
    assert [placed.segment.name for _, placed in plan.told] == ["program", "assert", "yield"]
    keep(made, WHOLE[2:])
    plan = made.plan(QUERY, PRUNED)
    assert [placed.segment.name for placed in plan.context] == ["program"]
    assert [target.placed.segment.name for target in plan.targets] == ["assert", "yield"]


@pytest.mark.parametrize("mode", ["sequential", "prefix"])
def test_modes_that_compute_all_passages_say_so(generator, mode):
    answer = generator(mode=mode)(QUERY, [*PRUNED, GONE])
    assert steps_of(answer) == ["text", "text", "text", "drop"]
    assert answer.context[0].reason == f"mode {mode} computes all passages"


@pytest.mark.parametrize("policy", ["rows", "text", "full"])
@pytest.mark.parametrize("mode", CACHED_MODES)
def test_a_selection_of_another_text_is_never_read_as_rows(generator, mode, policy):
    stale = replace(PRUNED[0].kept, text_sha=text_sha("older"))
    passages = [replace(PRUNED[0], kept=stale), *PRUNED[1:]]
    made = generator(mode=mode, context=ContextPlanner(policy))
    answer = made(QUERY, passages)
    assert answer.context[0].step == "text"
    assert "another text" in answer.context[0].reason
    cached = {placed.segment.name for placed in made.plan(QUERY, passages).context}
    assert "yield" not in cached
    assert "# yield: The yield checks. A yield is lazy. No yield returns." in answer.prompt


@pytest.mark.parametrize("mode", [*CACHED_MODES, "sequential", "prefix"])
def test_words_are_read_in_every_mode_and_cited_by_their_sentence(generator, mode):
    text = passage_of("yield").text
    cuts = [0, *(at + 1 for at, letter in enumerate(text) if letter == " "), len(text)]
    words = [Span(a, b) for a, b in pairwise(cuts)]
    kept = {n for n, word in enumerate(words) if word.of(text).strip() in ("yield", "lazy.")}
    passages = [PRUNED[1], passage_of("yield", kept, "word", words)]
    answer = generator(mode=mode)(QUERY, passages)
    assert "# yield: yield yield lazy. yield\n\n" in answer.prompt
    assert answer.passages == tuple(passages)
    made = generator(mode=mode, cite="both")
    looked = made(QUERY, passages).attention[1]
    assert len(looked.sentences) == 3


@pytest.mark.parametrize("mode", CACHED_MODES)
def test_repeated_passages_are_all_that_were_read(generator, mode):
    made = generator(mode=mode, context=ContextPlanner("auto", LOADS), repeat_passages=True)
    keep(made, WHOLE[1:])
    prompt = made(QUERY, PRUNED).prompt
    assert [prompt.count(f"# {one.id}:") for one in PRUNED] == [2, 2, 2]


@pytest.mark.parametrize("policy", ["rows", "text", "full", "auto"])
def test_a_batch_answers_as_a_loop(generator, policy):
    cost = LOADS if policy == "auto" else None
    made = generator(mode="graph", context=ContextPlanner(policy, cost))
    keep(made, WHOLE[1:])
    given = [PRUNED, [GONE], WHOLE[:1]]
    batch = made.batch(query=[QUERY] * 3, passages=given)
    loop = [made(QUERY, one) for one in given]
    assert [a.text for a in batch] == [a.text for a in loop]
    assert [a.context for a in batch] == [a.context for a in loop]
    assert steps_of(batch[1]) == ["drop"]


def test_nothing_to_read_is_no_plan(generator):
    made = generator()
    with pytest.raises(ValueError, match="no sentence of 1 passages is kept; nothing is read"):
        made.plan(QUERY, [GONE])
    assert steps_of(made(QUERY, [GONE])) == ["drop"]
    assert [steps_of(one) for one in made.several(QUERY, [GONE], 2)] == [["drop"]] * 2


def test_a_remote_model_reads_the_same_kept_text(generator):
    class Remote:
        name = "far"
        fingerprint = "f"

        def complete(self, prompts, **_options):
            self.prompts = prompts
            return [Completion("Lazy.")]

        def logprobs(self, prompt, continuations):
            raise NotImplementedError

    text = passage_of("yield").text
    spans = [Span(0, 4), Span(4, 10), Span(10, len(text))]
    words = passage_of("yield", {1}, "word", spans)
    remote = Remote()
    answer = GenerateText(remote, TEMPLATE)(QUERY, [PRUNED[0], words, GONE])
    here = generator(mode="parallel", context=ContextPlanner("text"))
    assert remote.prompts == [here(QUERY, [PRUNED[0], words, GONE]).prompt]
    assert steps_of(answer) == ["text", "text", "drop"]
    assert answer.context[0].reason == "far is remote"
    assert answer.passages == (PRUNED[0], words, GONE)
    plan = here.context_plan([PRUNED[0], words, GONE])
    assert TEMPLATE.render(QUERY, plan.as_text()) == remote.prompts[0]


def test_segments_that_are_placed_stay_what_they_were(generator):
    made = generator(mode="parallel", context=ContextPlanner("auto", LOADS))
    keep(made, WHOLE)
    segment = made.prompt.passage(WHOLE[0], made.prompt.prefix())
    assert isinstance(segment, Segment)
    before = made.engine.cache.get(segment).kv.keys.clone()
    made(QUERY, PRUNED)
    assert torch.equal(made.engine.cache.get(segment).kv.keys, before)
    assert PlacedRows(segment, 0).rows is None

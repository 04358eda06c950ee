"""Generation on cached passages: exactness, accounting, streaming, and what is not read."""

import itertools
import re
from dataclasses import replace
from functools import partial

import pytest
import torch

from kvstore.store import KVStore
from rag.errors import UnsupportedModelError
from rag.generation.attention_citations import AttentionMatcher
from rag.generation.beam_search import beam_search
from rag.generation.cached import MODES, READING_OPTIONS, GenerateCached
from rag.generation.context_planner import ContextPlanner
from rag.generation.decoding import Sampling
from rag.generation.engine import Engine
from rag.generation.graph_edges import GraphEdges
from rag.generation.plain_engine import PlainEngine
from rag.generation.plan import (
    ContextWeights,
    PlacedRows,
    Recompute,
    graph_plan,
    parallel_plan,
    repeated,
)
from rag.generation.prompt import PromptEncoder, PromptTemplate, rows_of_sentences
from rag.protocols import Lookup
from rag.records import (
    Answer,
    CacheUse,
    ModelIdentity,
    Passage,
    Query,
    Selection,
    SentenceScore,
    Span,
    TokenUse,
    text_sha,
)

TEMPLATE = PromptTemplate(
    prefix="Answer.\n\n", header="# {title}:", closing="\n\n", question="Q: {question}\nA:"
)
QUERY = Query("What is lazy?")
NEUTRAL = ContextWeights()
EOS = 2


class DictCache:
    """The plainest PassageCache: a dictionary."""

    def __init__(self):
        self.kept = {}

    def get(self, segment):
        kv = self.kept.get(segment)
        return Lookup(None, "absent") if kv is None else Lookup(kv, "hit (ram)", kv.nbytes)

    def put(self, segment, kv):
        self.kept[segment] = kv
        return True


class Scripted(Engine):
    """An engine that reads as ever, and then says what it is told."""

    script = ()

    def decode(self, state, sampling, stop):
        for token in itertools.islice(self.script, sampling.max_tokens):
            if token in stop:
                return
            yield token


class Untouchable(Engine):
    """An engine that fails as soon as it is asked anything."""

    def prefill(self, plan, **_options):
        raise AssertionError("the model was asked")


class Monotone(Sampling):
    """Sampling that always chooses the same token, a letter."""

    def choose(self, logits, generator):
        return 70


def passage_of(name, *pieces, kept=None, document="d"):
    spans, start = [], 0
    for piece in pieces:
        spans.append(Span(start, start + len(piece)))
        start += len(piece)
    text = "".join(pieces)
    passage = Passage(name, document, text, Span(0, start), tuple(spans), title=name)
    if kept is None:
        return passage
    scores = tuple(SentenceScore(s, 0.5, kept=row in kept) for row, s in enumerate(spans))
    return replace(passage, kept=Selection(name, text_sha(text), scores, "test"))


def pieces_of(name):
    return f"The {name} checks. ", f"A {name} is lazy. ", f"No {name} returns."


PASSAGES = [passage_of(name, *pieces_of(name)) for name in ("yield", "assert", "program")]


@pytest.fixture
def generator(tiny_model, tiny_tokenizer):
    """Return a function that makes a generator over a tiny model, by default on a dict cache."""

    def build(cache=None, *, kind=Engine, dtype=torch.float32, template=TEMPLATE, **options):
        name = str(dtype).removeprefix("torch.")
        identity = ModelIdentity("tiny", "weights", "rope", name, "tokenizer")
        engine = kind(tiny_model(dtype=dtype), identity, DictCache() if cache is None else cache)
        options.setdefault("mode", "ape")
        return GenerateCached(engine, PromptEncoder(tiny_tokenizer, identity, template), **options)

    return build


@pytest.fixture
def saying(generator, tiny_tokenizer):
    """Return a function: text or token ids -> (pieces, answer) of a model that says just that."""

    def say(script, **options):
        made = generator(kind=Scripted, **options)
        made.engine.script = (
            tiny_tokenizer(script, add_special_tokens=False)["input_ids"]
            if isinstance(script, str)
            else script
        )
        *pieces, answer = made.stream(QUERY, PASSAGES)
        assert all(isinstance(piece, str) for piece in pieces)
        assert isinstance(answer, Answer)
        return pieces, answer

    return say


def greedy(made, passages):
    """Prompt logits and the tokens of a greedy answer."""
    state = made.engine.prefill(made.plan(QUERY, passages))
    ids = list(made.engine.decode(state, Sampling(max_tokens=24), frozenset()))
    return state.logits, ids


def test_one_passage_with_neutral_weights_answers_as_sequential_does(generator):
    ape = generator(weights=NEUTRAL)
    sequential = ape.with_mode("sequential")
    logits, ids = greedy(ape, PASSAGES[:1])
    theirs, their_ids = greedy(sequential, PASSAGES[:1])
    assert (logits - theirs).abs().max() < 1e-5
    assert ids == their_ids
    a, b = ape(QUERY, PASSAGES[:1]), sequential(QUERY, PASSAGES[:1])
    assert (a.text, a.prompt, a.tokens.prompt) == (b.text, b.prompt, b.tokens.prompt)
    assert (a.mode, b.mode) == ("ape", "sequential")


def test_two_passages_or_other_weights_are_no_sequential_prefill(generator):
    neutral, sharp = generator(weights=NEUTRAL), generator(weights=ContextWeights(0.5, 0.5))
    one, two = PASSAGES[:1], PASSAGES[:2]
    sequential = neutral.with_mode("sequential")
    assert (greedy(neutral, two)[0] - greedy(sequential, two)[0]).abs().max() > 1e-3
    assert (greedy(sharp, one)[0] - greedy(sequential, one)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_the_prompt_is_prefix_passages_best_last_and_question(generator, mode):
    texts = [f"# {p.title}: {p.text}\n\n" for p in reversed(PASSAGES)]
    question = "Q: What is lazy?\nA:"
    answer = generator(mode=mode)(QUERY, PASSAGES)
    assert answer.prompt == "".join(["Answer.\n\n", *texts, question])


def test_the_template_renders_the_text_of_a_sequential_prompt(generator):
    made = generator(mode="sequential")
    gone = passage_of("gone", "One. ", kept=set())
    pruned = passage_of("pruned", "First line.\n", "    code()\n", "Last one.", kept={1, 2})
    read = [PASSAGES[0], pruned, PASSAGES[1]]
    text = TEMPLATE.render(QUERY, [*read, gone])
    assert text == made.prompt_text(made.plan(QUERY, read))
    assert text.index("# assert:") < text.index("# pruned:") < text.index("# yield:")
    assert TEMPLATE.render(QUERY, [], " It is ") == "Answer.\n\nQ: What is lazy?\nA: It is"


def test_neutral_weights_are_mode_parallel(generator):
    made = generator(weights=ContextWeights(0.5, 0.5))
    neutral = generator(weights=NEUTRAL)
    plan = made.with_mode("parallel").plan(QUERY, PASSAGES)
    assert plan == replace(neutral.plan(QUERY, PASSAGES), mode="parallel")


def test_graph_prefills_the_best_passage_over_the_others(generator):
    made = generator(DictCache(), mode="graph", sampling=Sampling(max_tokens=5))
    texts = [f"# {p.title}: {p.text}\n\n" for p in PASSAGES]
    made(QUERY, PASSAGES)
    answer = made(QUERY, PASSAGES)
    question = "Q: What is lazy?\nA:"
    assert answer.prompt == "".join(["Answer.\n\n", *texts[:0:-1], texts[0], question])
    target = made.prompt.passage(PASSAGES[0], made.prompt.prefix())
    assert answer.tokens.prefilled == len(target) + len(made.prompt.question(QUERY))
    assert answer.mode == "graph"
    assert set(answer.cache.reasons) == {"prefix", *(p.id for p in PASSAGES[1:])}


def test_block_puts_the_best_passage_next_to_the_question(generator):
    made = generator(mode="block")
    plan = made.plan(QUERY, PASSAGES)
    assert [placed.segment.name for placed in plan.context] == [p.id for p in reversed(PASSAGES)]
    sequential = made.with_mode("sequential")
    assert made.prompt_text(plan) == sequential.prompt_text(sequential.plan(QUERY, PASSAGES))


def test_tokens_are_cached_or_prefilled_and_sum_to_the_prompt(generator, tiny_tokenizer):
    made = generator(DictCache(), sampling=Sampling(max_tokens=5))
    missed = made(QUERY, PASSAGES).tokens
    assert (missed.cached, missed.prefilled) == (0, missed.prompt)
    used = made(QUERY, PASSAGES).tokens
    question = len(made.prompt.question(QUERY))
    assert used.prefilled == question
    assert missed.prompt == used.prompt == used.cached + used.prefilled
    assert used.cached == made.plan(QUERY, PASSAGES).cached_tokens
    everything = made.with_mode("sequential")(QUERY, PASSAGES)
    assert everything.tokens.prompt == everything.tokens.prefilled == used.prompt
    assert everything.tokens.cached == 0
    assert everything.cache == CacheUse()


def test_pruned_sentences_are_not_read_in_any_mode(generator):
    pruned = passage_of("yield", *pieces_of("yield"), kept={1})
    made = generator()
    for mode in MODES:
        answer = made.with_mode(mode)(QUERY, [pruned])
        assert answer.prompt == "Answer.\n\n# yield: A yield is lazy.\n\nQ: What is lazy?\nA:"
        assert answer.passages == (pruned,)
        whole = made.with_mode(mode)(QUERY, PASSAGES[:1])
        assert answer.tokens.prompt < whole.tokens.prompt


def test_a_passage_without_a_kept_sentence_is_not_read(generator):
    gone = passage_of("assert", *pieces_of("assert"), kept=set())
    made = generator()
    answer = made(QUERY, [PASSAGES[0], gone])
    alone = made(QUERY, PASSAGES[:1])
    assert answer.passages == (PASSAGES[0], gone)
    assert (answer.prompt, answer.text) == (alone.prompt, alone.text)
    assert answer.tokens.prompt == alone.tokens.prompt
    assert "assert" not in answer.cache.reasons


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("passages", [[], [passage_of("p", "One. ", kept=set())]])
def test_with_nothing_to_read_the_model_is_not_asked(generator, mode, passages):
    made = generator(kind=Untouchable, mode=mode)
    (answer,) = made.stream(QUERY, passages)
    assert answer.abstained
    assert (answer.text, answer.passages, answer.citations) == ("", tuple(passages), ())
    assert answer.tokens == TokenUse(0, 0, 0, 0)
    assert (answer.mode, answer.model) == (mode, "tiny")
    assert set(answer.timings_ms) == {"kv", "ttft", "decode"}


def test_what_missed_is_stored_after_the_answer_and_hits_next_time(generator):
    cache = DictCache()
    stream = generator(cache).stream(QUERY, PASSAGES)
    next(stream)
    assert cache.kept == {}
    first = list(stream)[-1]
    assert (first.cache.hits, first.cache.misses, first.cache.bytes) == (0, 4, 0)
    assert set(first.cache.reasons) == {"prefix", "yield", "assert", "program"}
    assert len(cache.kept) == 4
    again = generator(cache)(QUERY, PASSAGES)
    assert (again.cache.hits, again.cache.misses) == (4, 0)
    assert again.cache.bytes == sum(kv.nbytes for kv in cache.kept.values())
    assert again.text == first.text


def test_a_pruned_passage_reads_what_the_whole_one_stored(generator):
    cache = DictCache()
    generator(cache)(QUERY, PASSAGES[:1])
    answer = generator(cache)(QUERY, [passage_of("yield", *pieces_of("yield"), kept={0, 2})])
    assert (answer.cache.hits, answer.cache.misses) == (2, 0)


def test_another_precision_never_reads_the_same_store(generator, tmp_path):
    with KVStore(tmp_path) as store:
        generator(store)(QUERY, PASSAGES)
        assert generator(store)(QUERY, PASSAGES).cache.misses == 0
        other = generator(store, dtype=torch.bfloat16)(QUERY, PASSAGES)
        assert (other.cache.hits, other.cache.misses) == (0, 4)
        assert other.text == generator(dtype=torch.bfloat16)(QUERY, PASSAGES).text
        assert generator(store)(QUERY, PASSAGES).cache.misses == 0


def test_pieces_make_up_the_answer(saying):
    pieces, answer = saying("A yield is lazy.")
    assert "".join(pieces) == answer.text == "A yield is lazy."
    assert len(pieces) > 3


def test_a_character_is_shown_when_its_last_byte_is_there(saying):
    said = "Zoë 日本 👩‍👩‍👧 é!"
    pieces, answer = saying(said)
    assert "".join(pieces) == answer.text == said
    assert "\ufffd" not in "".join(pieces)


def test_an_unfinished_character_at_the_end_is_left_out(saying, tiny_tokenizer):
    ids = tiny_tokenizer("yes 日", add_special_tokens=False)["input_ids"]
    pieces, answer = saying(ids[:-1])
    assert "".join(pieces).rstrip() == answer.text == "yes"


def test_the_answer_ends_before_the_stop_text(saying):
    pieces, answer = saying("A yield is lazy.\nQ: What next?\nA: nothing")
    assert "".join(pieces) == answer.text == "A yield is lazy."
    assert answer.finish == "stop"
    assert answer.tokens.generated < len("A yield is lazy.\nQ:")


def test_white_space_around_the_answer_is_no_part_of_it(saying):
    pieces, answer = saying(" A yield. \n")
    assert answer.text == "A yield."
    assert "".join(pieces).rstrip() == answer.text


def test_a_stop_text_of_several_tokens_is_not_shown_in_part(saying):
    pieces, answer = saying("A yield.###more", template=replace(TEMPLATE, stop="###"))
    assert answer.text == "A yield."
    assert "".join(pieces) == answer.text


def test_the_end_of_sequence_ends_the_answer(saying, tiny_tokenizer):
    ids = tiny_tokenizer("lazy", add_special_tokens=False)["input_ids"]
    pieces, answer = saying([*ids, EOS, *ids])
    assert "".join(pieces) == answer.text == "lazy"
    assert (answer.finish, answer.tokens.generated) == ("stop", len(ids))


def test_an_answer_may_be_empty(saying):
    pieces, answer = saying([EOS])
    assert ("".join(pieces), answer.text) == ("", "")
    assert (answer.finish, answer.tokens.generated, answer.abstained) == ("stop", 0, True)
    assert answer.timings_ms["ttft"] > 0
    assert answer.cache.misses == 4


def test_no_more_than_max_tokens_are_generated(saying):
    _, answer = saying("A yield is lazy.", sampling=Sampling(max_tokens=3))
    assert (answer.finish, answer.tokens.generated) == ("length", 3)
    assert "A yield is lazy.".startswith(answer.text)


def test_an_answer_that_the_window_cuts_short_says_so(generator):
    made = generator(sampling=Monotone(max_tokens=10_000))
    end = made.plan(QUERY, PASSAGES).last_position + 1
    made.engine._rotary.window = end + 3
    answer = made(QUERY, PASSAGES)
    assert answer.tokens.generated == 4
    assert answer.finish == "length"


def test_what_supports_the_answer_is_cited(saying):
    _, answer = saying("A yield is lazy. Zebras graze.")
    (citation,) = answer.citations
    assert citation.passage_id == "yield"
    assert PASSAGES[0].text[citation.start : citation.end] == "A yield is lazy."
    assert [span.of(answer.text) for span in answer.unsupported] == ["Zebras graze."]
    assert not answer.abstained


def test_times_add_up(generator):
    times = generator()(QUERY, PASSAGES).timings_ms
    assert set(times) == {"kv", "ttft", "decode"}
    assert 0 < times["kv"] <= times["ttft"]
    assert times["decode"] >= 0


def test_calling_gives_the_answer_that_streaming_ends_with(generator):
    made = generator(sampling=Sampling(temperature=1.0, seed=3))
    called, streamed = made(QUERY, PASSAGES), list(made.stream(QUERY, PASSAGES))[-1]
    assert (called.text, called.tokens.prompt, called.prompt) == (
        streamed.text, streamed.tokens.prompt, streamed.prompt,
    )  # fmt: skip


def test_a_prompt_past_the_window_is_refused(generator):
    long = passage_of("long", "word " * 600)
    for mode in ("ape", "sequential"):
        with pytest.raises(UnsupportedModelError, match="window ends at 512"):
            generator(mode=mode)(QUERY, [long])


def test_an_unknown_mode_is_refused(generator):
    known = "sequential, prefix, parallel, ape, block, graph"
    with pytest.raises(ValueError, match=f"mode must be one of {known}, got 'apt'"):
        generator(mode="apt")
    with pytest.raises(ValueError, match="got 'full'"):
        generator().with_mode("full")


def test_a_prompt_of_another_model_is_refused(generator):
    made = generator()
    foreign = PromptEncoder(made.prompt.tokenizer, replace(made.prompt.identity, weights="other"))
    with pytest.raises(ValueError, match="engine and prompt must belong to the same model"):
        replace(made, prompt=foreign)


@pytest.mark.parametrize("edges", ["none", "into_top_k", "from_top_m", "full", "chain", "corpus"])
def test_every_kind_of_edges_answers_and_counts_its_tokens(generator, edges):
    made = generator(mode="graph", sampling=Sampling(max_tokens=3), graph=GraphEdges(edges, 2))
    answer = made(QUERY, PASSAGES)
    plan = made.plan(QUERY, PASSAGES)
    assert answer.tokens.prompt == plan.cached_tokens + plan.computed_tokens
    assert answer.prompt.count("# ") == len(PASSAGES) * (2 if edges == "full" else 1)


def read_of(made, passages=PASSAGES, *, alone=False):
    """What a plan is made of, best passage last: the prefix, segments with rows, the question."""
    prefix = made.prompt.prefix()
    pairs = []
    for passage in reversed(passages):
        segment = made.prompt.passage(passage, prefix)
        rows = rows_of_sentences(segment, passage.kept_rows)
        pairs.append((replace(segment, parents=()) if alone else segment, rows))
    return prefix, tuple(pairs), made.prompt.question(QUERY)


PRUNED = [
    passage_of("yield", *pieces_of("yield"), kept={0, 2}),
    passage_of("assert", *pieces_of("assert")),
    passage_of("program", *pieces_of("program"), kept={1}),
]


@pytest.mark.parametrize("mode", ["ape", "parallel"])
@pytest.mark.parametrize("positions", ["shared", "serial"])
@pytest.mark.parametrize("repack", [True, False])
def test_positions_and_gaps_reach_the_plan(generator, mode, positions, repack):
    made = generator(mode=mode, positions=positions, repack=repack)
    weights = made.weights if mode == "ape" else NEUTRAL
    want = parallel_plan(
        *read_of(made, PRUNED), weights, mode=mode, positions=positions, gaps=not repack
    )
    assert made.plan(QUERY, PRUNED) == want


@pytest.mark.parametrize(
    ("edges", "sources"),
    [
        # Rows count from the worst passage, which is read first.
        (GraphEdges("into_top_k", 2), ((), (0,), (0,))),
        (GraphEdges("from_top_m"), ((2,), (2,), ())),
        (GraphEdges("chain"), ((), (0,), (0, 1))),
        (GraphEdges("full"), ((1, 2), (0, 2), (0, 1))),
        (GraphEdges("explicit", pairs=((3, 1), (2, 3))), ((1,), (), (0,))),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "options",
    [{}, {"rounds": 2, "keep_round0": True}, {"self_edge": True, "positions": "serial"}],
    ids=str,
)
def test_edges_and_their_options_reach_the_plan(generator, edges, sources, options):
    graph = replace(edges, **{k: v for k, v in options.items() if k != "positions"})
    positions = options.get("positions", "shared")
    made = generator(mode="graph", graph=graph, positions=positions)
    prefix, pairs, question = read_of(made, PRUNED)
    want = graph_plan(
        prefix,
        pairs,
        sources,
        question,
        rounds=graph.turns,
        positions=positions,
        keep_round0=graph.keep_round0,
        self_edge=graph.self_edge,
    )
    assert made.plan(QUERY, PRUNED) == want


@pytest.mark.parametrize("mode", MODES[2:])
def test_passages_encoded_alone_and_repairs_reach_the_plan(generator, mode):
    repair = Recompute(2, 0.1, "key")
    made = generator(mode=mode, see_prefix=False, recompute=repair)
    plan = made.plan(QUERY, PRUNED)
    assert plan.recompute == repair
    parts = [*plan.context, *(target.placed for target in plan.targets)]
    parts += [placed for _, placed in plan.told]
    assert {placed.segment for placed in parts} == {
        s for s, _ in read_of(made, PRUNED, alone=True)[1]
    }
    assert plan.prefix == PlacedRows(made.prompt.prefix(), 0)
    seeing = replace(made, see_prefix=True).plan(QUERY, PRUNED)
    assert all(placed.segment.parents for placed in seeing.context)


@pytest.mark.parametrize("mode", MODES)
def test_repeated_passages_are_told_twice_and_computed_before_the_question(generator, mode):
    made = generator(mode=mode, repeat_passages=True)
    plain = replace(made, repeat_passages=False).plan(QUERY, PRUNED)
    _, pairs, question = read_of(made, PRUNED)
    assert made.plan(QUERY, PRUNED) == repeated(plain, pairs, len(question))
    answer = made(QUERY, PRUNED)
    assert answer.prompt.count("# yield:") == 2
    assert answer.prompt.endswith(
        "# yield: The yield checks. No yield returns.\n\n" + "Q: What is lazy?\nA:"
    )
    plan = made.plan(QUERY, PRUNED)
    assert answer.tokens.prompt == plan.cached_tokens + plan.computed_tokens


def test_what_a_computing_mode_is_told_is_where_it_stands(generator):
    for mode in ("sequential", "prefix"):
        made = generator(mode=mode)
        plan = made.plan(QUERY, PRUNED)
        assert [placed.segment.name for _, placed in plan.told] == ["program", "assert", "yield"]
        for at, placed in plan.told:
            assert plan.prefill[at : at + len(placed)] == placed.token_ids
            assert placed.start == plan.prefill_start + at


@pytest.mark.parametrize("mode", ["block", "graph"])
def test_all_rows_computed_anew_answer_as_sequential_does(generator, mode):
    options = {"graph": GraphEdges("none"), "positions": "serial"} if mode == "graph" else {}
    for see_prefix in (True, False):
        made = generator(
            mode=mode, recompute=Recompute(share=1.0), see_prefix=see_prefix, **options
        )
        logits, ids = greedy(made, PRUNED)
        theirs, their_ids = greedy(made.with_mode("sequential"), PRUNED)
        assert (logits - theirs).abs().max() < 1e-5
        assert ids == their_ids


OPTIONS = {
    "weights": (ContextWeights(0.5, 0.5), {"ape"}),
    "graph": (GraphEdges("chain"), {"graph"}),
    "positions": ("serial", {"ape", "parallel", "graph"}),
    "repack": (False, {"ape", "parallel"}),
    "see_prefix": (False, set(MODES) - {"sequential", "prefix"}),
    "recompute": (Recompute(3), set(MODES) - {"sequential", "prefix"}),
    "repeat_passages": (True, set(MODES)),
    "context": (ContextPlanner("text"), set(MODES) - {"sequential", "prefix"}),
}


SPELLED = {
    "weights": "weights (ape_temperature, ape_scale, ape_bias)",
    "graph": "graph (edges, k, pairs, rounds, keep_round0, self_edge)",
    "recompute": "recompute (recompute_first_k, recompute_top_r, deviation)",
    "context": "context (context, context_slack_ms, context_blend)",
}


def test_the_options_of_a_pipeline_file_are_used_where_the_field_that_holds_them_is():
    every = {"mode": set(MODES)}
    for field, (_, modes) in OPTIONS.items():
        spelled = SPELLED.get(field, f"({field})").partition("(")[2].rstrip(")").split(", ")
        every |= dict.fromkeys(spelled, modes)
    assert {name: set(modes) for name, modes in READING_OPTIONS.items()} == every
    assert next(iter(READING_OPTIONS)) == "mode"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_works_or_is_refused_and_never_ignored(generator, option, mode):
    value, modes = OPTIONS[option]
    usual = generator(mode=mode)
    if mode in modes:
        assert replace(usual, **{option: value}).plan(QUERY, PRUNED) != usual.plan(QUERY, PRUNED)
        return
    called = re.escape(SPELLED.get(option, option))
    with pytest.raises(ValueError, match=f"mode '{mode}' has no use for {called}, which works in "):
        replace(usual, **{option: value})


def test_a_refused_option_is_told_where_it_works(generator):
    message = (
        "mode 'block' has no use for positions, which works in 'parallel', 'ape', 'graph', "
        "got 'serial'"
    )
    with pytest.raises(ValueError, match=message):
        generator(mode="block", positions="serial")
    with pytest.raises(ValueError, match="positions must be one of shared, serial, got 'apart'"):
        generator(positions="apart")


@pytest.mark.parametrize("mode", MODES)
def test_another_mode_drops_what_it_has_no_use_for_and_keeps_the_rest(generator, mode):
    rich = {
        "ape": {"weights": ContextWeights(0.5), "repack": False, "positions": "serial"},
        "graph": {"graph": GraphEdges("chain"), "see_prefix": False, "recompute": Recompute(1)},
    }
    for start, options in rich.items():
        made = generator(mode=start, repeat_passages=True, **options)
        other = made.with_mode(mode)
        usual = generator(mode=mode)
        for name in OPTIONS:
            kept = mode in OPTIONS[name][1]
            assert getattr(other, name) == getattr(made if kept else usual, name)
        assert other.mode == mode
        assert other(QUERY, PASSAGES).mode == mode


def test_tokens_of_a_repair_are_prefilled(generator):
    made = generator(DictCache(), mode="block", recompute=Recompute(2, 0.1))
    missed, used = made(QUERY, PASSAGES).tokens, made(QUERY, PASSAGES).tokens
    plan = made.plan(QUERY, PASSAGES)
    assert (missed.cached, missed.prompt) == (0, used.prompt)
    assert used.cached == plan.cached_tokens
    assert used.prefilled == plan.computed_tokens
    assert plan.recomputed_tokens > 4


# --- beams, stop texts, attention, several answers, time, batches, plain engines -----------------

SHORT = Sampling(max_tokens=8)
GONE = passage_of("gone", "One. ", kept=set())


def said(made, ids):
    """The text of tokens, with nothing that could stop it."""
    return made.prompt.text(tuple(ids)).strip()


def plain(answer):
    """What must not depend on how it was asked."""
    return replace(answer, timings_ms={}, cache=CacheUse(0, 0), tokens=TokenUse(0, 0, 0, 0))


def test_beams_find_what_beam_search_finds(generator):
    made = generator(beams=3, sampling=SHORT, dtype=torch.float64)
    answer = made(QUERY, PASSAGES)
    state = made.engine.prefill(made.plan(QUERY, PASSAGES))
    best = beam_search(made.engine, state, 3, 8, made.prompt.stop_ids)[0]
    assert answer.text == said(made, best.token_ids)
    assert answer.tokens.generated == len(best.token_ids)
    assert answer.text != replace(made, beams=1)(QUERY, PASSAGES).text
    *pieces, last = made.stream(QUERY, PASSAGES)
    assert "".join(pieces) == last.text == answer.text
    assert (answer.cache.misses, last.cache.misses) == (4, 0)


def test_one_beam_is_greedy(generator):
    made = generator(sampling=SHORT, dtype=torch.float64)
    assert plain(replace(made, beams=1)(QUERY, PASSAGES)) == plain(made(QUERY, PASSAGES))


def test_a_stop_text_ends_a_beam_and_the_length_penalty_weighs_it(generator):
    made = generator(beams=4, sampling=SHORT, dtype=torch.float64)
    state = made.engine.prefill(made.plan(QUERY, PASSAGES))
    # Texts that some beams come to and others do not.
    early = said(made, beam_search(made.engine, state, 4, 2, frozenset())[0].token_ids)
    stop = early[-1]
    stopping = replace(made, sampling=replace(SHORT, stop=(stop,)))
    texts = set()
    for penalty in (0.0, 4.0):
        answer = replace(stopping, length_penalty=penalty)(QUERY, PASSAGES)
        (found,) = beam_search(
            made.engine,
            state,
            4,
            8,
            made.prompt.stop_ids,
            length_penalty=penalty,
            ends=lambda ids: stop in made.prompt.text(ids),
        )
        assert answer.text == said(made, found.token_ids).partition(stop)[0].rstrip()
        assert answer.tokens.generated == len(found.token_ids)
        texts.add((answer.text, answer.tokens.generated))
    assert len(texts) == 2, "the penalty must tell"


@pytest.mark.parametrize(
    ("options", "came"),
    [
        ({"sampling": Sampling(temperature=0.5)}, "temperature 0.5 and 'support'"),
        ({"cite": "attention"}, "temperature 0.0 and 'attention'"),
        ({"cite": "both"}, "temperature 0.0 and 'both'"),
    ],
)
def test_beams_neither_sample_nor_tell_attention(generator, options, came):
    message = f"beams above 1 need temperature 0 and cite 'support', got {came}"
    with pytest.raises(ValueError, match=message):
        generator(beams=2, **options)
    assert generator(**options).beams == 1


def test_beams_and_what_is_cited_are_checked(generator):
    with pytest.raises(ValueError, match="beams must be at least 1, got 0"):
        generator(beams=0)
    with pytest.raises(ValueError, match="cite must be one of support, attention, both, got 'all'"):
        generator(cite="all")


def test_the_first_stop_text_of_the_sampling_or_the_template_ends_the_answer(saying):
    for stop, text in ((("END", "lazy"), "A yield is"), (("END",), "A yield is lazy."), ((), None)):
        pieces, answer = saying(
            "A yield is lazy. END###more", template=replace(TEMPLATE, stop="###"),
            sampling=Sampling(stop=stop),
        )  # fmt: skip
        assert "".join(pieces) == answer.text == (text or "A yield is lazy. END")
        assert answer.finish == "stop"


def looked_at(made, passages, heads):
    """Shares by the definition: the mass of the queries that chose tokens, added, as a share.

    By passage id, and by passage id and sentence row.
    """
    read = [passage for passage in passages if passage.kept_rows]
    state = made.engine.prefill(made.plan(QUERY, read), watch=True)
    total = torch.zeros(len(state.units) + 1, dtype=torch.float64)
    decoded = made.engine.decode_states(state, made.sampling, made.prompt.stop_ids)
    for _, before in decoded:
        for layer, head in heads:
            total += before.cache.mass[layer, head].double()
    share = (total[:-1] / total[:-1].sum()).tolist()
    units = list(zip(state.units, share, strict=True))
    of_passage = {p.id: sum(s for u, s in units if u.passage == p.id) for p in passages}
    return of_passage, {(u.passage, u.sentence): s for u, s in units}


ALL_HEADS = tuple(itertools.product(range(3), range(6)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("heads", [None, ((0, 1),), ((2, 5), (1, 0))], ids=str)
def test_an_answer_has_the_attention_of_its_heads(generator, mode, heads):
    options = {} if heads is None else {"heads": heads}
    made = generator(
        mode=mode, cite="attention", sampling=SHORT, dtype=torch.float64, **options
    )  # fmt: skip
    answer = made(QUERY, [*PRUNED, GONE])
    shares, sentences = looked_at(made, [*PRUNED, GONE], heads or ALL_HEADS)
    assert {one.passage_id: one.share for one in answer.attention} == pytest.approx(shares)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["gone"] == 0
    for passage, one in zip([*PRUNED, GONE], answer.attention, strict=True):
        want = [sentences.get((passage.id, row), 0.0) for row in range(len(passage.sentences))]
        assert one.sentences == pytest.approx(want)
    assert answer.attention[0].sentences[1] == 0, "it was pruned"
    assert answer.text == replace(made, cite="support", heads=None)(QUERY, PRUNED).text


def test_citations_by_attention_are_those_of_the_most_looked_at(generator):
    made = generator(cite="attention", heads=((1, 2),), sampling=SHORT, dtype=torch.float64)
    answer = made(QUERY, PASSAGES)
    found = AttentionMatcher()(answer.text, PASSAGES, lambda _: answer.attention)
    shares = {one.passage_id: one.share for one in answer.attention}
    assert found.citations
    assert {c.passage_id for c in answer.citations} == {max(shares, key=shares.get)}
    assert not answer.abstained
    without = replace(made, cite="support", heads=None)(QUERY, PASSAGES)
    assert (without.attention, without.citations) == ((), ())


class Forced(Engine):
    """An engine that says what it is told, and looks at its passages while it does."""

    script = ()

    def decode_states(self, state, sampling, stop):
        for token in self.script:
            yield token, state
            state = self.advance(state, token)


def test_of_two_passages_that_say_it_the_one_that_was_looked_at_is_cited(generator, tiny_tokenizer):
    twins = [passage_of(name, "A yield is lazy.") for name in ("first", "second")]
    script = tiny_tokenizer("A yield is lazy.", add_special_tokens=False)["input_ids"]
    cited = set()
    for head in ALL_HEADS:
        made = generator(kind=Forced, cite="both", heads=(head,))
        made.engine.script = script
        answer = made(QUERY, twins)
        shares = {one.passage_id: one.share for one in answer.attention}
        (citation,) = answer.citations
        assert citation.passage_id == max(shares, key=shares.get)
        cited.add(citation.passage_id)
    assert cited == {"first", "second"}


@pytest.mark.parametrize("mode", ["sequential", "ape", "graph"])
def test_a_batch_has_the_attention_and_the_answers_of_each_alone(generator, mode):
    made = generator(
        mode=mode, cite="attention", heads=((0, 1), (2, 3)), sampling=SHORT, dtype=torch.float64
    )
    queries = [QUERY, Query("Which assert checks a program?"), Query("Why?")]
    passages = [PASSAGES, [*PRUNED, GONE], [GONE]]
    found = made.batch(query=queries, passages=passages)
    for answer, query, given in zip(found, queries, passages, strict=True):
        alone = made(query, given)
        assert answer.text == alone.text
        for one, want in zip(answer.attention, alone.attention, strict=True):
            assert one.share == pytest.approx(want.share, abs=1e-9)
            assert one.sentences == pytest.approx(want.sentences, abs=1e-9)
    assert [len(answer.attention) for answer in found] == [3, 4, 0]


@pytest.mark.parametrize("options", [{"beams": 2}, {"sampling": Sampling(8, 1.0, seed=2)}], ids=str)
def test_a_batch_answers_as_each_alone_does(generator, options):
    made = generator(**{"sampling": SHORT} | options, dtype=torch.float64)
    queries, passages = [QUERY, Query("Why?")], [PASSAGES, PASSAGES[:1]]
    found = made.batch(query=queries, passages=passages)
    alone = [made(query, given) for query, given in zip(queries, passages, strict=True)]
    assert list(map(plain, found)) == list(map(plain, alone))
    with pytest.raises(ValueError, match=r"list|length|shorter"):
        made.batch(query=queries, passages=passages[:1])


def test_several_answers_are_samples_of_the_seeds_that_follow_from_one_prefill(generator):
    cache = DictCache()
    sampling = Sampling(max_tokens=8, temperature=1.0, seed=3)
    made = generator(cache, sampling=sampling, dtype=torch.float64)
    answers = made.several(QUERY, PASSAGES, 3)
    assert [answer.cache.misses for answer in answers] == [4, 4, 4]
    assert len(cache.kept) == 4
    for number, answer in enumerate(answers):
        alone = replace(made, sampling=replace(sampling, seed=3 + number))(QUERY, PASSAGES)
        assert plain(answer) == plain(alone)
        assert answer.tokens.generated == alone.tokens.generated
    assert len({answer.text for answer in answers}) == 3
    greedy_one = replace(made, sampling=SHORT)
    (one,) = greedy_one.several(QUERY, PASSAGES, 1)
    assert plain(one) == plain(greedy_one(QUERY, PASSAGES))
    with pytest.raises(ValueError, match="temperature must be above 0 for 2 sequences"):
        greedy_one.several(QUERY, PASSAGES, 2)


def test_several_answers_of_beams_are_the_best_that_were_found(generator):
    made = generator(beams=3, sampling=SHORT, dtype=torch.float64)
    state = made.engine.prefill(made.plan(QUERY, PASSAGES))
    best = beam_search(made.engine, state, 3, 8, made.prompt.stop_ids, num_return_sequences=3)
    answers = made.several(QUERY, PASSAGES, 3)
    assert [answer.text for answer in answers] == [said(made, one.token_ids) for one in best]
    assert [a.text for a in made.several(QUERY, PASSAGES, 2)] == [a.text for a in answers[:2]]
    assert len({one.token_ids for one in best}) == 3
    with pytest.raises(ValueError, match=r"must be in \[1, beams\], got 4 with 3 beams"):
        made.several(QUERY, PASSAGES, 4)


def test_several_answers_to_nothing_abstain(generator):
    answers = generator(kind=Untouchable).several(QUERY, [GONE], 2)
    assert [(a.abstained, a.passages) for a in answers] == [(True, (GONE,))] * 2


@pytest.mark.parametrize("mode", MODES)
def test_the_first_token_is_timed_once_everything_is_cached(generator, mode):
    cache = DictCache()
    made = generator(cache, mode=mode)
    first = made.first_token_ms(QUERY, [*PASSAGES, GONE])
    # The exact mode has nothing to miss.
    assert (first is None) is (mode != "sequential")
    kept = set(cache.kept)
    # The best passage is the target of mode graph: computed, not cached.
    assert len(kept) == {"sequential": 0, "prefix": 1, "graph": 3}.get(mode, 4)
    assert made.first_token_ms(QUERY, PASSAGES) > 0
    assert set(cache.kept) == kept
    assert made(QUERY, PASSAGES).cache.misses == 0
    untouched = generator(kind=Untouchable, mode=mode)
    assert untouched.first_token_ms(QUERY, []) is untouched.first_token_ms(QUERY, [GONE]) is None


def test_a_store_that_keeps_nothing_gives_no_time(generator):
    class Full(DictCache):
        def put(self, segment, kv):
            return False

    made = generator(Full(), kind=partial(Engine, placed_bytes=0))
    assert [made.first_token_ms(QUERY, PASSAGES) for _ in range(2)] == [None, None]


class ScriptedPlain(PlainEngine):
    """A plain engine that reads as ever, and then says what it is told."""

    script = ()

    def __init__(self, model, identity, _cache):
        super().__init__(model, identity, "a test says so")

    def decode(self, state, sampling, stop):
        return iter(self.script) if self.script else super().decode(state, sampling, stop)


def test_a_plain_engine_answers_a_sequential_prompt_as_the_other_engine_does(generator):
    options = {"mode": "sequential", "sampling": SHORT, "dtype": torch.float64}
    own, other = generator(kind=ScriptedPlain, **options), generator(**options)
    logits, ids = greedy(own, PRUNED)
    theirs, their_ids = greedy(other, PRUNED)
    assert (logits - theirs).abs().max() < 1e-7
    assert ids == their_ids
    assert plain(own(QUERY, PRUNED)) == plain(other(QUERY, PRUNED))
    assert own.first_token_ms(QUERY, PRUNED) > 0
    assert own.batch(query=[QUERY], passages=[PRUNED])[0].text == other(QUERY, PRUNED).text
    with pytest.raises(UnsupportedModelError, match="mode 'ape' reads cached passages"):
        own.with_mode("ape")(QUERY, PRUNED)


@pytest.mark.parametrize("cite", ["attention", "both"])
def test_without_attention_to_watch_support_decides(generator, tiny_tokenizer, cite):
    made = generator(kind=ScriptedPlain, mode="sequential", cite=cite)
    made.engine.script = tiny_tokenizer("A yield is lazy.", add_special_tokens=False)["input_ids"]
    answer = made(QUERY, PASSAGES)
    assert answer.attention == ()
    assert [citation.passage_id for citation in answer.citations] == ["yield"]
    assert plain(answer) == plain(replace(made, cite="support")(QUERY, PASSAGES))

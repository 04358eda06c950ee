"""Generation on cached passages: exactness, accounting, streaming, and what is not read."""

import itertools
from dataclasses import replace

import pytest
import torch

from kvstore.store import KVStore
from rag.errors import UnsupportedModelError
from rag.generation.cached import MODES, GenerateCached
from rag.generation.decoding import Sampling
from rag.generation.engine import Engine
from rag.generation.graph_edges import GraphEdges
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
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_works_or_is_refused_and_never_ignored(generator, option, mode):
    value, modes = OPTIONS[option]
    usual = generator(mode=mode)
    if mode in modes:
        assert replace(usual, **{option: value}).plan(QUERY, PRUNED) != usual.plan(QUERY, PRUNED)
        return
    with pytest.raises(ValueError, match=f"mode '{mode}' has no use for {option}, which works in "):
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

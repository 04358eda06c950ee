"""Choosing tokens, several samples of one prompt, stop texts, and what a closed stream frees."""

import gc
import threading
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rag.generation.cached import GenerateCached
from rag.generation.decoding import Sampling, StopTexts, TextStream, decode_samples
from rag.generation.engine import Engine
from rag.generation.ensemble import Mixture
from rag.generation.plan import ContextWeights, parallel_plan, sequential_plan
from rag.generation.prompt import PromptEncoder
from rag.generation.templates import PromptTemplate
from rag.records import ModelIdentity, Passage, Query, Segment, Span

NO_STOP = frozenset()


def draws(sampling, logits, count=200):
    rng = sampling.generator()
    return [sampling.choose(logits, rng) for _ in range(count)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_greedy_takes_the_lower_id_of_a_tie(dtype):
    logits = torch.tensor([0.5, 2.0, -1.0, 2.0, 2.0], dtype=dtype)
    assert draws(Sampling(), logits, 3) == [1, 1, 1]


def test_greedy_takes_the_lowest_of_many_ties():
    logits = torch.zeros(50_000)
    logits[[123, 40_000, 49_999]] = 1.0
    assert draws(Sampling(), logits, 1) == [123]


def test_a_seed_repeats_its_draws_and_another_gives_others():
    logits = torch.randn(30, generator=torch.Generator().manual_seed(0))
    first = draws(Sampling(temperature=1.0, seed=3), logits)
    assert first == draws(Sampling(temperature=1.0, seed=3), logits)
    assert first != draws(Sampling(temperature=1.0, seed=4), logits)


def test_every_request_starts_the_sampler_anew():
    sampling = Sampling(temperature=1.0, seed=3)
    assert torch.equal(
        torch.rand(4, generator=sampling.generator()), torch.rand(4, generator=sampling.generator())
    )


def test_draws_follow_the_softmax_over_the_temperature():
    logits = torch.tensor([0.0, 1.0, 2.0])
    counts = torch.bincount(torch.tensor(draws(Sampling(temperature=0.5), logits, 4000)))
    assert torch.allclose(counts / 4000, torch.softmax(logits / 0.5, -1), atol=0.03)


def test_a_temperature_near_zero_is_greedy():
    logits = torch.tensor([0.5, 2.0, 1.9])
    assert set(draws(Sampling(temperature=1e-3), logits)) == {1}


def test_a_token_that_is_forbidden_is_never_drawn():
    logits = torch.tensor([0.0, -torch.inf, 0.0])
    assert set(draws(Sampling(temperature=5.0), logits)) == {0, 2}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("max_tokens", 0, "max_tokens must be at least 1, got 0"),
        ("temperature", -0.1, "temperature must be at least 0, got -0.1"),
        ("temperature", float("nan"), "temperature must be at least 0, got nan"),
        ("temperature", float("inf"), "temperature must be at least 0, got inf"),
        ("top_k", -1, "top_k must be at least 0, got -1"),
        ("top_p", 0.0, r"top_p must be in \(0, 1\], got 0.0"),
        ("top_p", 1.01, r"top_p must be in \(0, 1\], got 1.01"),
        ("top_p", float("nan"), r"top_p must be in \(0, 1\], got nan"),
        ("min_p", -0.1, r"min_p must be in \[0, 1\), got -0.1"),
        ("min_p", 1.0, r"min_p must be in \[0, 1\), got 1.0"),
        ("min_p", float("nan"), r"min_p must be in \[0, 1\), got nan"),
        ("stop", ("a", ""), r"stop must hold no empty text, got \['a', ''\]"),
        ("stop", "END", "stop must be a tuple of texts, got one text 'END'"),
    ],
)
def test_numbers_out_of_range_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**({"temperature": 1.0} | {field: value}))


@pytest.mark.parametrize("options", [{"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_a_filter_that_would_have_no_effect_is_refused(options):
    with pytest.raises(ValueError, match="temperature must be above 0 for filters to act, got 0"):
        Sampling(**options)
    assert Sampling(temperature=0.1, **options)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_refused(temperature, bad):
    sampling = Sampling(temperature=temperature)
    logits = torch.tensor([0.0, bad, 1.0])
    with pytest.raises(ValueError, match=r"must have a finite maximum, got (nan|inf) among 3"):
        sampling.choose(logits, sampling.generator())
    with pytest.raises(ValueError, match="must have a finite maximum, got -inf among 3"):
        sampling.choose(torch.full((3,), -torch.inf), sampling.generator())


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-10])
def test_the_smallest_temperatures_are_greedy_and_nothing_overflows(temperature):
    logits = torch.tensor([-3e4, 3e4, 2.9e4])
    assert set(draws(Sampling(temperature=temperature), logits, 5)) == {1}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_only_tokens_that_the_filters_keep_are_drawn(dtype):
    logits = torch.tensor([0.1, 0.4, 0.05, 0.25, 0.2]).log().to(dtype)
    assert set(draws(Sampling(temperature=1.0, top_k=3), logits)) == {1, 3, 4}
    assert set(draws(Sampling(temperature=1.0, top_p=0.6), logits)) == {1, 3}
    assert set(draws(Sampling(temperature=1.0, min_p=0.55), logits)) == {1, 3}
    assert set(draws(Sampling(temperature=1.0, top_k=1), logits)) == {1}


def test_filters_that_are_off_change_no_draw():
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    plain = draws(Sampling(temperature=1.0), logits)
    assert plain == draws(Sampling(temperature=1.0, top_k=50), logits)
    assert plain == draws(Sampling(temperature=1.0, min_p=1e-12), logits)


def bytes_as_text(ids):
    return bytes(ids).decode("utf-8", errors="replace")


def shown(ids, stops, decode=bytes_as_text):
    """The pieces a stream shows, one token after another until it stops, and whether it did."""
    stream = TextStream(decode, *stops)
    pieces = []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    pieces.append(stream.rest())
    assert "".join(pieces) == stream.text
    return pieces, stream.stopped


def cut_by_definition(text, stops):
    """Read the whole text: it ends before the stop text that begins first."""
    text = text.lstrip()
    starts = [at for at in range(len(text)) if any(text.startswith(stop, at) for stop in stops)]
    return text[: starts[0]].rstrip() if starts else text.rstrip("\ufffd").rstrip()


@given(
    text=st.text(alphabet="ab \né日😀", max_size=20),
    stops=st.lists(st.text(alphabet="ab \né日", min_size=1, max_size=4), max_size=4),
)
def test_the_pieces_of_bytes_join_to_the_whole_text_cut_at_the_first_stop(text, stops):
    pieces, stopped = shown(text.encode(), stops)
    assert "".join(pieces) == cut_by_definition(text, stops)
    assert stopped == any(stop in text.lstrip() for stop in stops)


@given(
    data=st.data(),
    text=st.text(alphabet="abc \né", max_size=20),
    stops=st.lists(st.text(alphabet="abc \n", min_size=1, max_size=5), max_size=4),
)
def test_wherever_tokens_break_the_text_is_the_same(data, text, stops):
    borders = sorted(data.draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=8)))
    parts = [text[a:b] for a, b in zip([0, *borders], [*borders, len(text)], strict=True)]
    decode = lambda ids: "".join(parts[row] for row in ids)  # noqa: E731
    pieces, _ = shown(range(len(parts)), stops, decode)
    assert "".join(pieces) == cut_by_definition(text, stops)


def test_a_complete_stop_text_waits_for_one_that_begins_earlier():
    decode = lambda ids: "".join("xabcdy"[row] for row in ids)  # noqa: E731
    stream = TextStream(decode, "bc", "abcd")
    assert [stream.push(row) for row in range(4)] == ["x", "", "", ""]
    assert not stream.stopped
    stream.push(4)
    assert (stream.text, stream.stopped) == ("x", True)
    assert shown(range(4), ["bc", "abcd"], decode) == (["x", "", "", "", "a"], True)
    pieces, _ = shown([0, 1, 2, 3, 5], ["bc", "abcd"], decode)
    assert "".join(pieces) == "xa"


def test_of_two_stop_texts_that_begin_together_the_shorter_does_not_wait():
    stream = TextStream(lambda ids: "xab"[: len(ids)], "ab", "abc")
    assert [stream.push(0), stream.push(0), stream.push(0)] == ["x", "", ""]
    assert stream.stopped


def test_each_stop_text_is_held_back_from_its_first_character():
    pieces, _ = shown(b"ok <end>", ["<end>", "##"])
    assert pieces == ["o", "k", "", "", "", "", "", "", ""]
    pieces, _ = shown(b"a#b##", ["<end>", "##"])
    assert pieces == ["a", "", "#b", "", "", ""]


def test_without_stop_texts_nothing_but_the_end_is_held_back():
    assert shown(b" a  b ", []) == (["", "a", "", "", "  b", "", ""], False)


def test_where_stop_texts_begin():
    stops = StopTexts(("END", "\n\n"))
    assert [stops.found(text) for text in ("a END", "a\n\nEND", "a EN", "")] == [2, 1, 4, 0]
    assert [stops.pending(text) for text in ("a EN", "a\n", "END", "")] == [2, 1, 3, 0]


def tokens(n, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(3, 300, (n,), generator=rng).tolist())


@pytest.fixture
def engine(tiny_model):
    return Engine(tiny_model(), ModelIdentity("tiny", "w", "r", "float32", "t"))


def cached_plan(engine, seed=0):
    """A prefix, two passages beside each other, and a question."""
    prefix = Segment(engine.identity, "prefix", tokens(4), name="prefix")
    passages = tuple(
        (Segment(engine.identity, "passage", tokens(n, n + seed), (prefix,), name=f"p{n}"), None)
        for n in (9, 6)
    )
    return parallel_plan(prefix, passages, tokens(5, 1), ContextWeights(0.8, 1.0))


def test_samples_are_those_of_their_seeds_alone(engine):
    sampling = Sampling(6, temperature=1.0, seed=4, top_p=0.9)
    state = engine.prefill(cached_plan(engine))
    found = [list(run) for run in decode_samples(engine, state, sampling, NO_STOP, 3)]
    for seed, sample in zip((4, 5, 6), found, strict=True):
        alone = Sampling(6, temperature=1.0, seed=seed, top_p=0.9)
        fresh = engine.prefill(cached_plan(engine))
        assert sample == list(engine.decode_scored(fresh, alone, NO_STOP))
    assert len({tuple(sample) for sample in found}) == 3


def test_samples_may_be_read_at_once_and_leave_the_state_as_it_is(engine):
    sampling = Sampling(5, temperature=1.0)
    state = engine.prefill(cached_plan(engine))
    logits, length = state.logits.clone(), state.cache.tail_tokens
    one_by_one = [list(run) for run in decode_samples(engine, state, sampling, NO_STOP, 2)]
    first, second = decode_samples(engine, state, sampling, NO_STOP, 2)
    pairs = list(zip(first, second, strict=True))
    assert [list(run) for run in zip(*pairs, strict=True)] == one_by_one
    assert torch.equal(state.logits, logits)
    assert state.cache.tail_tokens == length


def test_samples_outlive_the_callers_state(engine):
    sampling = Sampling(5, temperature=1.0)
    plan, other = cached_plan(engine), cached_plan(engine, seed=50)
    expected = [
        list(run) for run in decode_samples(engine, engine.prefill(plan), sampling, NO_STOP, 2)
    ]
    runs = list(decode_samples(engine, engine.prefill(plan), sampling, NO_STOP, 2))
    gc.collect()
    kept = engine.prefill(other)  # would take over the buffers of a state that nobody holds
    assert [list(run) for run in runs] == expected
    assert kept.logits.isfinite().all()


@pytest.mark.parametrize(
    ("count", "temperature", "message"),
    [
        (0, 1.0, "num_return_sequences must be at least 1, got 0"),
        (2, 0.0, "temperature must be above 0 for 2 sequences, got 0"),
    ],
)
def test_a_number_of_samples_that_makes_no_sense_is_refused(count, temperature, message):
    with pytest.raises(ValueError, match=message):
        decode_samples(None, None, Sampling(temperature=temperature), NO_STOP, count)


def reachable(engine, use):
    """Whether another thread gets the engine's lock, and what its next request gives."""
    found = []

    def ask():
        if engine._lock.acquire(timeout=5):
            engine._lock.release()
            found.append(list(engine.decode(engine.prefill(use), Sampling(4), NO_STOP)))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(30)
    return found


def two_tokens(engine, kind):
    """Start a decoding loop of some kind, take two tokens, and return it with its state's cache."""
    state = engine.prefill(cached_plan(engine))
    cache = weakref.ref(state.cache)
    if kind == "decode":
        loop = engine.decode(state, Sampling(9), NO_STOP)
    elif kind == "scored":
        loop = engine.decode_scored(state, Sampling(9, temperature=1.0, top_k=9), NO_STOP)
    elif kind == "mixture":
        loop = Mixture(engine, [state], torch.ones(1)).decode(Sampling(9), NO_STOP, 9)
    else:
        loop = next(decode_samples(engine, state, Sampling(9, temperature=1.0), NO_STOP, 2))
    assert [next(loop), next(loop)]
    return loop, cache


@pytest.mark.parametrize("kind", ["decode", "scored", "mixture", "samples"])
def test_a_loop_that_is_closed_frees_its_state_and_the_next_request_runs(engine, kind):
    plan = cached_plan(engine, seed=50)
    expected = list(engine.decode(engine.prefill(plan), Sampling(4), NO_STOP))
    gc.collect()
    free = len(engine._free_arenas)
    loop, cache = two_tokens(engine, kind)
    assert len(engine._free_arenas) == free - 1
    loop.close()
    gc.collect()
    assert cache() is None
    assert len(engine._free_arenas) == free
    assert reachable(engine, plan) == [expected]


def test_a_stream_that_is_closed_gives_its_buffers_back(tiny_model, tiny_tokenizer):
    identity = ModelIdentity("tiny", "w", "r", "float32", "t")
    engine = Engine(tiny_model(), identity)
    template = PromptTemplate(
        prefix="Answer.\n\n", header="# {title}:", closing="\n\n", question="Q: {question}\nA:"
    )
    prompt = PromptEncoder(tiny_tokenizer, identity, template)
    made = GenerateCached(engine, prompt, sampling=Sampling(9))
    text = "A yield is lazy."
    passage = Passage("p", "d", text, Span(0, len(text)), (Span(0, len(text)),), title="p")
    expected = made(Query("What is lazy?"), [passage]).text
    gc.collect()
    free = len(engine._free_arenas)
    events = made.stream(Query("What is lazy?"), [passage])
    assert isinstance(next(events) + next(events), str)
    assert len(engine._free_arenas) == free - 1
    events.close()
    gc.collect()
    assert len(engine._free_arenas) == free
    assert reachable(engine, sequential_plan(tokens(9)))
    assert made(Query("What is lazy?"), [passage]).text == expected

"""Beam search: brute force, greedy decoding, transformers' own search, and what it holds."""

import gc
import itertools
import math
import weakref
from dataclasses import dataclass

import pytest
import torch

from rag.generation.beam_search import beam_search, beam_steps
from rag.generation.decoding import Sampling
from rag.generation.engine import Engine
from rag.generation.plan import ContextWeights, parallel_plan, sequential_plan
from rag.records import ModelIdentity, Segment

NO_STOP = frozenset()


def tokens(n, seed=0, vocabulary=300):
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(3, vocabulary, (n,), generator=rng).tolist())


def engine_of(model):
    dtype = str(model.dtype).removeprefix("torch.")
    return Engine(model, ModelIdentity("tiny", "w", "r", dtype, "t"))


def cached_plan(engine, vocabulary=300):
    """A prefix, two passages beside each other, and a question."""
    prefix = Segment(engine.identity, "prefix", tokens(4, 0, vocabulary), name="prefix")
    passages = tuple(
        (
            Segment(engine.identity, "passage", tokens(n, n, vocabulary), (prefix,), name=f"p{n}"),
            None,
        )
        for n in (9, 6)
    )
    return parallel_plan(prefix, passages, tokens(5, 1, vocabulary), ContextWeights(0.8, 1.0))


def likely_stops(engine, state, count=1, steps=3):
    """Tokens that come up high a few steps into the answer: some beams end with them, not all."""
    found = beam_search(engine, state, 4, steps, NO_STOP, num_return_sequences=4)
    seen = dict.fromkeys(made.token_ids[-1] for made in found)
    return frozenset(list(seen)[-count:])


def by_brute_force(engine, state, vocabulary, steps, stop, length_penalty):
    """Score every continuation there is with `Engine.score`."""
    found = []
    for length in range(1, steps + 1):
        for ids in itertools.product(range(vocabulary), repeat=length):
            ended = ids[-1] in stop
            if any(token in stop for token in ids[:-1]) or (not ended and length < steps):
                continue
            log_prob = float(engine.score(state, ids).sum())
            found.append((log_prob / length**length_penalty, log_prob, ids, ended))
    return sorted(found, reverse=True)


def searched(model, prompt, stop, **options):
    """What transformers' own beam search returns: tokens and score of each sequence."""
    model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        out = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            output_scores=True,
            return_dict_in_generate=True,
            eos_token_id=sorted(stop),
            pad_token_id=0,
            **options,
        )
    model.set_attn_implementation("dovetail_segments")
    rows = []
    for row in out.sequences[:, len(prompt) :].tolist():
        end = next((at for at, token in enumerate(row) if token in stop), None)
        rows.append((tuple(row[:end]), None if end is None else row[end]))
    return rows, out.sequences_scores.tolist()


@dataclass(frozen=True)
class Said:
    """A state of `Table`: what was said so far, and the logits of what comes next."""

    ids: tuple[int, ...]
    logits: torch.Tensor
    position: int = 1


class Table:
    """An engine whose next-token probabilities are written down; token 0 is the stop token."""

    def __init__(self, probabilities):
        self.probabilities = probabilities

    def state(self, ids=()):
        return Said(ids, torch.tensor(self.probabilities[ids], dtype=torch.float64).log())

    def room(self, position, max_tokens):
        return max_tokens

    def fork(self, state):
        return state

    def advance(self, state, token):
        return self.state((*state.ids, token))


def test_a_hand_worked_search_goes_on_while_an_open_beam_beats_the_worst_finished_one():
    table = Table(
        {
            (): [0.5, 0.3, 0.2],
            (1,): [0.3, 0.7, 0.0],  # 0.09 finished, 0.21 open
            (2,): [0.2, 0.4, 0.4],  # 0.04, and 0.08 twice
            (1, 1): [0.9, 0.05, 0.05],  # 0.189 finished
            (2, 1): [0.1, 0.1, 0.8],
        }
    )
    options = {"beams": 2, "max_tokens": 9, "stop_ids": {0}, "num_return_sequences": 2}
    options["length_penalty"] = 0.0
    found = beam_search(table, table.state(), **options)
    assert [(made.token_ids, made.stop) for made in found] == [((), 0), ((1, 1), 0)]
    assert [math.exp(made.log_prob) for made in found] == pytest.approx([0.5, 0.189])
    early = beam_search(table, table.state(), **options, early_stopping=True)
    assert [math.exp(made.score) for made in early] == pytest.approx([0.5, 0.09])


def test_an_open_beam_that_only_equals_the_worst_finished_one_ends_the_search():
    table = Table({(): [0.5, 0.3, 0.2], (1,): [0.5, 0.5, 0.0], (2,): [0.2, 0.4, 0.4]})
    steps = beam_steps(table, table.state(), 2, 9, frozenset({0}), length_penalty=0.0)
    assert list(steps) == [1]


def test_an_impossible_token_is_never_part_of_a_sequence():
    table = Table({(): [0.0, 1.0, 0.0], (1,): [0.5, 0.0, 0.5], (1, 2): [1.0, 0.0, 0.0]})
    found = beam_search(table, table.state(), 9, 3, frozenset({0}), num_return_sequences=9)
    assert {(made.token_ids, made.stop) for made in found} == {((1,), 0), ((1, 2), 0)}


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_with_a_beam_for_every_sequence_the_best_are_exact(tiny_model, length_penalty):
    engine = engine_of(tiny_model(dtype=torch.float64, vocab_size=6))
    state = engine.prefill(cached_plan(engine, vocabulary=6))
    stop = frozenset({2, 4})
    found = beam_search(
        engine, state, 6**3, 3, stop, length_penalty=length_penalty, num_return_sequences=12
    )
    expected = by_brute_force(engine, state, 6, 3, stop, length_penalty)[:12]
    whole = [(*m.token_ids, m.stop) if m.finished else m.token_ids for m in found]
    assert whole == [ids for _, _, ids, _ in expected]
    assert [made.finished for made in found] == [ended for *_, ended in expected]
    assert {made.finished for made in found} == {True, False}
    for made, (score, log_prob, _, _) in zip(found, expected, strict=True):
        assert abs(made.score - score) < 1e-10
        assert abs(made.log_prob - log_prob) < 1e-10


def test_all_sequences_are_returned_where_there_are_fewer_than_asked_for(tiny_model):
    engine = engine_of(tiny_model(vocab_size=5))
    state = engine.prefill(sequential_plan(tokens(8, vocabulary=5)))
    found = beam_search(engine, state, 60, 2, frozenset({2}), num_return_sequences=60)
    assert len(found) == len({(made.token_ids, made.stop) for made in found}) == 1 + 4 * 5
    assert math.isclose(sum(math.exp(made.log_prob) for made in found), 1, rel_tol=1e-5)
    assert [made.score for made in found] == sorted((made.score for made in found), reverse=True)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("stopping", [True, False])
def test_one_beam_is_greedy_decoding(tiny_model, cached, stopping):
    engine = engine_of(tiny_model())
    plan = cached_plan(engine) if cached else sequential_plan(tokens(20))
    greedy = list(engine.decode(engine.prefill(plan), Sampling(9), NO_STOP))
    end = next(token for token in greedy[3:] if token not in greedy[:3])
    stop = frozenset({end}) if stopping else NO_STOP
    expected = tuple(engine.decode(engine.prefill(plan), Sampling(9), stop))
    assert len(expected) < 9 or not stopping
    (found,) = beam_search(engine, engine.prefill(plan), 1, 9, stop)
    assert found.token_ids == expected
    assert found.stop == (end if stopping else None)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize(("beams", "returned"), [(2, 1), (3, 3), (5, 2)])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 1.7, -0.5])
def test_finds_what_the_search_of_transformers_finds(
    tiny_model, family, early_stopping, beams, returned, length_penalty
):
    model = tiny_model(family)
    engine = engine_of(model)
    prompt = tokens(15, seed=beams)
    state = engine.prefill(sequential_plan(prompt))
    for count in (1, 2):
        stop = likely_stops(engine, state, count)
        rows, scores = searched(
            model,
            prompt,
            stop,
            num_beams=beams,
            num_return_sequences=returned,
            max_new_tokens=8,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
        )
        found = beam_search(
            engine,
            state,
            beams,
            8,
            stop,
            length_penalty=length_penalty,
            num_return_sequences=returned,
            early_stopping=early_stopping,
        )
        assert [(made.token_ids, made.stop) for made in found] == rows
        assert [made.score for made in found] == pytest.approx(scores, rel=1e-4)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-10), (torch.float32, 1e-3)])
def test_log_probabilities_are_those_of_scoring(tiny_model, dtype, error):
    engine = engine_of(tiny_model(dtype=dtype))
    state = engine.prefill(cached_plan(engine))
    stop = likely_stops(engine, state)
    found = beam_search(engine, state, 4, 6, stop, length_penalty=0.5, num_return_sequences=4)
    assert {made.finished for made in found} == {True, False}
    for made in found:
        ids = (*made.token_ids, made.stop) if made.finished else made.token_ids
        log_prob = float(engine.score(state, ids).double().sum())
        assert abs(made.log_prob - log_prob) < error
        assert made.score == made.log_prob / len(ids) ** 0.5
    assert [made.score for made in found] == sorted((m.score for m in found), reverse=True)


def test_more_beams_find_no_worse_a_sequence_than_greedy_decoding(tiny_model):
    engine = engine_of(tiny_model())
    for seed in range(4):
        state = engine.prefill(sequential_plan(tokens(12, seed)))
        (greedy,) = beam_search(engine, state, 1, 5, NO_STOP)
        assert beam_search(engine, state, 6, 5, NO_STOP)[0].log_prob >= greedy.log_prob


def test_ties_go_to_the_lower_id(tiny_model, monkeypatch):
    engine = engine_of(tiny_model())
    state = engine.prefill(sequential_plan(tokens(12)))
    monkeypatch.setattr(torch.Tensor, "log_softmax", lambda self, _: torch.zeros_like(self))
    found = beam_search(engine, state, 3, 2, NO_STOP, num_return_sequences=3)
    assert [made.token_ids for made in found] == [(0, 0), (0, 1), (0, 2)]


def test_early_stopping_ends_with_the_first_that_are_finished(tiny_model, monkeypatch):
    engine = engine_of(tiny_model())
    state = engine.prefill(sequential_plan(tokens(12)))
    stop = likely_stops(engine, state)
    read = []
    advance = Engine.advance
    monkeypatch.setattr(
        Engine, "advance", lambda self, *rest: (read.append(rest[1]), advance(self, *rest))[1]
    )
    counts = []
    for early_stopping in (True, False):
        read.clear()
        beam_search(engine, state, 2, 30, stop, length_penalty=3.0, early_stopping=early_stopping)
        counts.append(len(read))
    assert counts[0] < counts[1]


def test_the_window_ends_a_search_as_max_tokens_does(tiny_model):
    engine = engine_of(tiny_model(max_position_embeddings=40))
    state = engine.prefill(sequential_plan(tokens(38)))
    found = beam_search(engine, state, 2, 50, NO_STOP, num_return_sequences=2)
    assert [len(made.token_ids) for made in found] == [3, 3]


def test_the_state_stays_as_it_is_and_a_search_repeats(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64))
    state = engine.prefill(cached_plan(engine))
    before, ids = state.logits.clone(), tokens(4, 3)
    scores, length = engine.score(state, ids), state.cache.tail_tokens
    first = beam_search(engine, state, 3, 5, NO_STOP, num_return_sequences=3)
    assert first == beam_search(engine, state, 3, 5, NO_STOP, num_return_sequences=3)
    assert torch.equal(state.logits, before)
    assert state.cache.tail_tokens == length
    assert torch.equal(engine.score(state, ids), scores)


def test_no_more_states_are_held_than_beams_and_all_share_the_stored_keys(tiny_model, monkeypatch):
    engine = engine_of(tiny_model())
    state = engine.prefill(cached_plan(engine))
    caches, alive = [], []
    fork, advance = Engine.fork, Engine.advance

    def forked(self, parent):
        made = fork(self, parent)
        for layer, own in zip(state.cache.layers, made.cache.layers, strict=True):
            assert [g.keys.data_ptr() for g in own.groups] == [
                g.keys.data_ptr() for g in layer.groups
            ]
        caches.append(weakref.ref(made.cache))
        return made

    def advanced(self, parent, token):
        alive.append(sum(ref() is not None for ref in caches))
        return advance(self, parent, token)

    monkeypatch.setattr(Engine, "fork", forked)
    monkeypatch.setattr(Engine, "advance", advanced)
    gc.disable()
    try:
        beam_search(engine, state, 4, 12, NO_STOP)
        assert max(alive) <= 4
        assert sum(ref() is not None for ref in caches) == 0
    finally:
        gc.enable()
    # A beam with one continuation goes on in its own cache.
    assert 4 < len(caches) < 4 * 11


def test_a_search_that_is_closed_frees_its_states(tiny_model, monkeypatch):
    engine = engine_of(tiny_model())
    state = engine.prefill(cached_plan(engine))
    caches, fork = [], Engine.fork

    def forked(self, parent):
        made = fork(self, parent)
        caches.append(weakref.ref(made.cache))
        return made

    monkeypatch.setattr(Engine, "fork", forked)
    steps = beam_steps(engine, state, 3, 9, NO_STOP)
    assert [next(steps), next(steps)] == [1, 2]
    assert any(ref() is not None for ref in caches)
    steps.close()
    gc.collect()
    assert all(ref() is None for ref in caches)
    assert len(beam_search(engine, state, 3, 2, NO_STOP, num_return_sequences=3)) == 3


def test_a_text_that_ends_a_continuation_does_what_a_stop_token_does(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64))
    state = engine.prefill(cached_plan(engine))
    stop = likely_stops(engine, state)
    options = {"length_penalty": 0.5, "num_return_sequences": 4}
    by_token = beam_search(engine, state, 4, 6, stop, **options)
    by_text = beam_search(
        engine, state, 4, 6, NO_STOP, ends=lambda ids: bool(stop & {ids[-1]}), **options
    )
    assert {made.finished for made in by_text} == {True, False}
    for text, token in zip(by_text, by_token, strict=True):
        ended = () if token.stop is None else (token.stop,)
        assert text.token_ids == token.token_ids + ended
        assert text.stop is None
        assert (text.finished, text.log_prob, text.score) == (
            token.finished,
            token.log_prob,
            token.score,
        )


def test_the_end_is_asked_of_whole_continuations(tiny_model):
    engine = engine_of(tiny_model())
    state = engine.prefill(sequential_plan(tokens(12)))
    found = beam_search(
        engine, state, 3, 9, NO_STOP, num_return_sequences=3, ends=lambda ids: len(ids) == 4
    )
    assert [(len(made.token_ids), made.finished) for made in found] == [(4, True)] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 0}, "beams must be at least 1, got 0"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"length_penalty": math.nan}, "length_penalty must be finite, got nan"),
        ({"num_return_sequences": 3}, r"in \[1, beams\], got 3 with 2 beams"),
        ({"num_return_sequences": 0}, r"in \[1, beams\], got 0 with 2 beams"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        beam_search(None, None, **({"beams": 2, "max_tokens": 3, "stop_ids": NO_STOP} | options))


def test_logits_that_are_no_numbers_are_refused(tiny_model):
    model = tiny_model()
    engine = engine_of(model)
    state = engine.prefill(sequential_plan(tokens(5)))
    with torch.no_grad():
        model.lm_head.weight[7].fill_(torch.nan)
    with pytest.raises(ValueError, match="finite maximum, got nan among 300"):
        beam_search(engine, state, 2, 3, NO_STOP)

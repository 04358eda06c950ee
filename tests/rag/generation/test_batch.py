"""Batches: each request gets what it gets alone, whatever stands beside it; nothing is shared twice."""

import gc
import hashlib
import threading
import weakref
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvstore.store import KVStore
from rag.errors import UnsupportedModelError
from rag.generation import attention
from rag.generation import batch as module
from rag.generation.batch import passes
from rag.generation.decoding import Sampling
from rag.generation.engine import Engine
from rag.generation.plan import (
    ContextWeights,
    EncodingPlan,
    PlacedRows,
    Recompute,
    block_plan,
    graph_plan,
    parallel_plan,
    sequential_plan,
)
from rag.generation.segment_cache import Lease
from rag.generation.segment_reader import SegmentReader
from rag.protocols import Lookup
from rag.records import ModelIdentity, Segment

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 0.5}
NEUTRAL, SHARP = ContextWeights(), ContextWeights(0.7, 0.9, 0.2)
NEVER = frozenset()


class CountingCache:
    """The plainest PassageCache: a dictionary that counts lookups."""

    def __init__(self):
        self.kept = {}
        self.asked = Counter()

    def get(self, segment):
        self.asked[segment.name] += 1
        kv = self.kept.get(segment)
        return Lookup(None, "absent") if kv is None else Lookup(kv, "hit (ram)", kv.nbytes)

    def put(self, segment, kv):
        self.kept[segment] = kv
        return True

    def digest(self):
        content = b"".join(
            kv.keys.numpy().tobytes() + kv.values.numpy().tobytes() for kv in self.kept.values()
        )
        return hashlib.sha256(content).hexdigest()


def tokens(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(3, 300, (n,), generator=generator).tolist())


def engine_of(model, cache=None, **options):
    dtype = str(model.dtype).removeprefix("torch.")
    return Engine(model, ModelIdentity("tiny", "w", "r", dtype, "t"), cache, **options)


def segments(engine, lengths=(4, 9, 6, 13)):
    prefix = Segment(engine.identity, "prefix", tokens(lengths[0]), name="prefix")
    passages = tuple(
        Segment(engine.identity, "passage", tokens(n, seed=i + 1), (prefix,), name=f"p{i}")
        for i, n in enumerate(lengths[1:])
    )
    return prefix, passages


def plans_of(engine):
    """One plan of every kind, with questions of different lengths."""
    prefix, (a, b, c) = segments(engine)
    whole = lambda *some: tuple((p, None) for p in some)  # noqa: E731
    graph = graph_plan(prefix, whole(a, b, c), ((1, 2), (2,), ()), tokens(8, 13))
    assert graph.targets
    repaired = block_plan(prefix, whole(a, b, c), tokens(3, 14))
    fields = ("mode", "prefix", "context", "prefill", "prefill_start", "weights")
    repaired = EncodingPlan(
        **{name: getattr(repaired, name) for name in fields}, recompute=Recompute(2, 0.2)
    )
    return {
        "ape": parallel_plan(prefix, whole(a, b), tokens(7, 9), SHARP),
        "sequential": sequential_plan(tokens(41, 10)),
        "block": block_plan(prefix, whole(c, a), tokens(1, 11)),
        "rows": parallel_plan(prefix, ((a, (0, 2, 5)), (c, None)), tokens(5, 12), NEUTRAL),
        "graph": graph,
        "recompute": repaired,
        "no passages": parallel_plan(prefix, (), tokens(2, 15), NEUTRAL),
        "ape again": parallel_plan(prefix, whole(a, b), tokens(4, 16), SHARP),
    }


def difference(engine, plans, **options):
    """The largest difference of any logit from those of the same request alone."""
    states = engine.prefill_batch(plans, **options)
    alone = [engine.prefill(plan).logits for plan in plans]
    assert all(torch.isfinite(state.logits).all() for state in states)
    return max(
        float((state.logits - logits).abs().max())
        for state, logits in zip(states, alone, strict=True)
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_kind_of_request_has_the_logits_it_has_alone(tiny_model, dtype):
    engine = engine_of(tiny_model(dtype=dtype))
    plans = list(plans_of(engine).values())
    assert difference(engine, plans) < TOLERANCE[dtype]
    assert difference(engine, plans[::-1]) < TOLERANCE[dtype]
    for plan in plans:
        assert difference(engine, [plan]) < TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("mistral", {"sliding_window": 16}),
        ("qwen3", {}),
        ("granite", {}),
        ("gemma2", {"sliding_window": 16, "max_position_embeddings": 512}),
    ],
)
def test_other_families_and_windows_too(tiny_model, family, changes):
    engine = engine_of(tiny_model(family, torch.float64, **changes))
    plans = list(plans_of(engine).values())
    assert difference(engine, plans) < TOLERANCE[torch.float64]
    stop = dict.fromkeys(range(len(plans)), 24)
    together = decoded(engine, plans, [Sampling(max_tokens=n) for n in stop.values()])
    assert together == [one(engine, plan, Sampling(max_tokens=24)) for plan in plans]


def test_a_window_hides_what_is_too_far_away(tiny_model):
    logits = {}
    for window in (None, 16):
        engine = engine_of(tiny_model("mistral", torch.float64, sliding_window=window))
        logits[window] = engine.prefill_batch([sequential_plan(tokens(41, 10))] * 2)[1].logits
    assert (logits[None] - logits[16]).abs().max() > 1e-3


@pytest.mark.parametrize("chunk", [1, 7, 16])
def test_forward_passes_of_few_tokens_change_nothing(tiny_model, monkeypatch, chunk):
    engine = engine_of(tiny_model(dtype=torch.float64))
    plans = list(plans_of(engine).values())
    alone = [engine.prefill(plan).logits for plan in plans]
    sizes = []
    handle = engine.model.register_forward_pre_hook(lambda _, ids: sizes.append(ids[0].numel()))
    monkeypatch.setattr("rag.generation.engine.PREFILL_CHUNK", chunk)
    states = engine.prefill_batch(plans)
    handle.remove()
    full, rest = divmod(sum(len(plan.prefill) for plan in plans), chunk)
    expected = [chunk] * full + [rest] * bool(rest)
    assert sizes[-len(expected) :] == expected
    for state, logits in zip(states, alone, strict=True):
        assert (state.logits - logits).abs().max() < TOLERANCE[torch.float64]


def one(engine, plan, sampling, stop=NEVER):
    return list(engine.decode(engine.prefill(plan), sampling, stop))


def decoded(engine, plans, samplings, stop=NEVER):
    answers = [[] for _ in plans]
    for step in engine.decode_batch(engine.prefill_batch(plans), samplings, stop):
        for row, token in step.items():
            answers[row].append(token)
    return answers


def test_decoding_goes_on_as_alone_each_with_its_own_seed_and_length(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64))
    plans = list(plans_of(engine).values())
    samplings = [
        Sampling(max_tokens=3 + 2 * n, temperature=1.5 * (n % 2), seed=n) for n in range(len(plans))
    ]
    alone = [one(engine, plan, how) for plan, how in zip(plans, samplings, strict=True)]
    assert [len(answer) for answer in alone] == [3 + 2 * n for n in range(len(plans))]
    assert decoded(engine, plans, samplings) == alone
    assert decoded(engine, plans[::-1], samplings[::-1]) == alone[::-1]


def test_logits_of_every_step_are_those_alone(tiny_model):
    engine = engine_of(tiny_model())
    plans = list(plans_of(engine).values())
    states, alone = engine.prefill_batch(plans), [engine.prefill(plan) for plan in plans]
    for step in range(6):
        token = [int(state.logits.argmax()) for state in alone]
        alone = [engine.advance(state, t) for state, t in zip(alone, token, strict=True)]
        states = engine.advance_batch(states, token)
        for state, other in zip(states, alone, strict=True):
            assert (state.logits - other.logits).abs().max() < TOLERANCE[torch.float32], step
            assert state.position == other.position


def test_a_request_that_is_finished_leaves_and_costs_nothing_more(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64))
    prefix, (a, b, c) = segments(engine)
    plans = [parallel_plan(prefix, ((p, None),), tokens(5, 9), SHARP) for p in (a, b, c)]
    alone = [one(engine, plan, Sampling(max_tokens=9)) for plan in plans]
    stop = frozenset({alone[1][2]})
    expected = [one(engine, plan, Sampling(max_tokens=9), stop) for plan in plans]
    assert len(expected[1]) == alone[1].index(alone[1][2]) < 9
    sizes = []
    states = engine.prefill_batch(plans)
    engine.model.register_forward_pre_hook(lambda _, ids: sizes.append(ids[0].shape[1]))
    answers = [[], [], []]
    for step in engine.decode_batch(states, [Sampling(max_tokens=9)] * 3, stop):
        for row, token in step.items():
            answers[row].append(token)
    assert answers == expected
    # Every token but the last of an answer that was cut is run once.
    cut = sum(len(answer) == 9 for answer in answers)
    assert sum(sizes) == sum(map(len, answers)) - cut
    assert sizes == sorted(sizes, reverse=True)


def test_one_who_has_heard_enough_can_end_a_request(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64))
    plans = [sequential_plan(tokens(9, seed)) for seed in range(3)]
    sizes = []
    decoding = engine.decode_batch(engine.prefill_batch(plans), [Sampling(max_tokens=4)] * 3, NEVER)
    engine.model.register_forward_pre_hook(lambda _, ids: sizes.append(ids[0].shape[1]))
    assert decoding.open == {0, 1, 2}
    assert set(next(decoding)) == {0, 1, 2}
    decoding.leave([1])
    decoding.leave([1])
    assert decoding.open == {0, 2}
    rest = list(decoding)
    assert [set(step) for step in rest] == [{0, 2}] * 3
    assert [step[2] for step in rest] == one(engine, plans[2], Sampling(max_tokens=4))[1:]
    assert sizes[:3] == [2, 2, 2]
    assert list(decoding) == []
    assert decoding.open == frozenset()


def test_the_window_ends_a_request_and_not_its_neighbours(tiny_model):
    engine = engine_of(tiny_model(max_position_embeddings=64))
    plans = [sequential_plan(tokens(62)), sequential_plan(tokens(9))]
    answers = decoded(engine, plans, [Sampling(max_tokens=9)] * 2)
    assert [len(answer) for answer in answers] == [3, 9]
    with pytest.raises(UnsupportedModelError, match=r"position 65, the model's window ends at 64"):
        engine.prefill_batch([plans[1], sequential_plan(tokens(65))])


@pytest.mark.parametrize("chunk", [512, 5])
def test_attention_is_watched_for_each_request_by_itself(tiny_model, monkeypatch, chunk):
    engine = engine_of(tiny_model(dtype=torch.float64))
    plans = [plan for name, plan in plans_of(engine).items() if name != "sequential"]
    prefix, passages = segments(engine)
    pairs = tuple((passage, None) for passage in passages)
    merged = graph_plan(prefix, pairs, ((1, 2), (), ()), tokens(4, 17))
    assert merged.told
    plans.append(merged)
    monkeypatch.setattr("rag.generation.engine.PREFILL_CHUNK", chunk)
    states = engine.prefill_batch(plans, watch=True)
    for state, plan in zip(states, plans, strict=True):
        alone = engine.prefill(plan, watch=True)
        assert state.units == alone.units
        assert (state.cache.mass - alone.cache.mass).abs().max() < 1e-6
        assert torch.allclose(state.cache.mass.sum(-1), torch.tensor(1.0), atol=1e-5)


def test_each_token_has_the_state_that_it_was_chosen_from(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64))
    plans = [plan for name, plan in plans_of(engine).items() if name in ("ape", "graph")]
    how = Sampling(max_tokens=4, temperature=1.0)
    alone = [
        [
            (token, state.logits, state.position, state.cache.mass.clone())
            for token, state in engine.decode_states(engine.prefill(plan, watch=True), how, NEVER)
        ]
        for plan in plans
    ]
    decoding = engine.decode_batch(engine.prefill_batch(plans, watch=True), [how] * 2, NEVER)
    for number, step in enumerate(decoding):
        for row, token in step.items():
            state, (other, logits, position, mass) = decoding.state(row), alone[row][number]
            assert (token, state.position) == (other, position)
            assert (state.logits - logits).abs().max() < TOLERANCE[torch.float64]
            assert (state.cache.mass - mass).abs().max() < 1e-6
    assert number == 3
    with pytest.raises(KeyError):
        decoding.state(0)


def test_what_requests_share_is_looked_up_encoded_and_placed_once(tiny_model, monkeypatch):
    for placed_bytes in (1 << 20, 0):
        cache = CountingCache()
        engine = engine_of(tiny_model(), cache, placed_bytes=placed_bytes)
        encoded, rotated = Counter(), Counter()
        encode, rotate = SegmentReader._encode, engine._rotary.rotate

        def counting(self, pack, reading, encode=encode, encoded=encoded):
            encoded.update(segment.name for segment in pack)
            return encode(self, pack, reading)

        def turning(keys, positions, rotate=rotate, rotated=rotated):
            rotated[len(positions), int(positions[0])] += 1
            return rotate(keys, positions)

        monkeypatch.setattr(SegmentReader, "_encode", counting)
        monkeypatch.setattr(engine._rotary, "rotate", turning)
        prefix, (a, b, c) = segments(engine)
        kept = (0, 2, 3)
        plans = [
            parallel_plan(prefix, tuple(pairs), tokens(5, 9), SHARP)
            for pairs in ([(a, None), (b, kept)], [(b, kept), (c, None)], [(a, None), (c, None)])
        ]
        states = engine.prefill_batch(plans)
        once = dict.fromkeys(("prefix", "p0", "p1", "p2"), 1)
        assert dict(cache.asked) == dict(encoded) == once
        assert sum(rotated.values()) == 4
        assert [[s.name for s, _ in state.fresh] for state in states] == [
            ["prefix", "p0", "p1"],
            ["p2"],
            [],
        ]
        assert [(s.use.hits, s.use.misses) for s in states] == [(0, 3), (2, 1), (3, 0)]
        monkeypatch.undo()


def test_the_same_passages_lie_in_memory_once_and_are_given_back_with_the_last_reader(tiny_model):
    engine = engine_of(tiny_model(), copy_context=True)
    prefix, (a, b, c) = segments(engine)
    ab, ba = ((a, None), (b, None)), ((b, None), (a, None))
    plans = [
        parallel_plan(prefix, pairs, tokens(3 + n, n), SHARP)
        for n, pairs in enumerate((ab, ab, ba))
    ]
    states = engine.prefill_batch(plans)

    def where(state):
        return state.cache.layers[0].groups[0].keys.data_ptr()

    assert where(states[0]) == where(states[1]) != where(states[2])
    shared, free = where(states[0]), len(engine._free_arenas)
    fork = engine.fork(states[0])
    del states[0]
    gc.collect()
    assert len(engine._free_arenas) == free
    expected = one(engine, plans[0], Sampling(max_tokens=5))
    del states[0]
    gc.collect()
    # A fork is a reader too.
    other = engine.prefill(parallel_plan(prefix, ((c, None),), tokens(3), SHARP))
    assert where(other) != shared
    assert list(engine.decode(fork, Sampling(max_tokens=5), NEVER)) == expected
    del fork
    gc.collect()
    assert where(engine.prefill(parallel_plan(prefix, ((c, None),), tokens(3), SHARP))) == shared


def test_of_the_buffers_of_a_large_batch_only_some_are_kept(tiny_model, monkeypatch):
    monkeypatch.setattr("rag.generation.engine.FREE_ARENAS", 2)
    engine = engine_of(tiny_model(), copy_context=True)
    prefix, passages = segments(engine)
    engine._free_arenas.clear()
    plans = [parallel_plan(prefix, ((p, None),), tokens(3), SHARP) for p in passages]
    states = engine.prefill_batch(plans)
    assert len({s.cache.layers[0].groups[0].keys.data_ptr() for s in states}) == 3
    del states
    gc.collect()
    assert len(engine._free_arenas) == 2


def test_a_repair_belongs_to_those_who_asked_for_it(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64), copy_context=True)
    prefix, (a, b, _) = segments(engine)
    plain = block_plan(prefix, ((a, None), (b, None)), tokens(5, 9))
    fields = {name: getattr(plain, name) for name in ("mode", "prefix", "context")}
    rest = {name: getattr(plain, name) for name in ("prefill", "prefill_start", "weights")}
    repaired = EncodingPlan(**fields, **rest, recompute=Recompute(3))
    states = engine.prefill_batch([plain, repaired, plain])
    assert (states[0].logits - states[1].logits).abs().max() > 1e-3
    assert torch.equal(states[0].logits, states[2].logits)
    assert difference(engine, [repaired, plain, repaired]) < TOLERANCE[torch.float64]


def test_nothing_stored_changes(tiny_model):
    cache = CountingCache()
    engine = engine_of(tiny_model(), cache)
    plans = list(plans_of(engine).values())
    for state in engine.prefill_batch(plans):
        engine.store(state.fresh)
    before, placed = cache.digest(), dict(engine.placed._kept)
    copies = {key: [part.clone() for part in kept] for key, kept in placed.items()}
    decoded(engine, plans, [Sampling(max_tokens=6)] * len(plans))
    assert cache.digest() == before
    for key, parts in copies.items():
        assert all(torch.equal(x, y) for x, y in zip(parts, placed[key], strict=True))


@pytest.mark.parametrize("most", [0, 1 << 19])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_few_large_products_decode_as_many_small_ones(tiny_model, monkeypatch, dtype, most):
    monkeypatch.setattr("rag.generation.stacked.STACKED_BYTES", most)
    engine = engine_of(tiny_model(dtype=dtype), copy_context=True)
    prefix, (a, b, c) = segments(engine)
    sets = [((a, None), (b, None)), ((a, None), (b, None)), ((c, None),), ((b, (0, 3)), (c, None))]
    plans = [parallel_plan(prefix, p, tokens(3 + n, n), SHARP) for n, p in enumerate(sets)]
    plans += [sequential_plan(tokens(30)), parallel_plan(prefix, (), tokens(2), NEUTRAL), plans[0]]
    made = []
    together = attention.attend_batch

    def watched(*args):
        made.append(together(*args))
        return made[-1]

    monkeypatch.setattr(attention, "attend_batch", watched)
    states = engine.prefill_batch(plans)
    alone = [engine.prefill(plan) for plan in plans]
    for step in range(4):
        token = [7 + step + row for row in range(len(plans))]
        made.clear()
        states = engine.advance_batch(states, token)
        assert len(made) == engine.layers
        assert all(out is not None for out in made)
        alone = [engine.advance(state, t) for state, t in zip(alone, token, strict=True)]
        for state, other in zip(states, alone, strict=True):
            assert (state.logits - other.logits).abs().max() < TOLERANCE[dtype]


def test_requests_of_other_weights_decode_one_by_one_in_a_batch(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64))
    prefix, (a, *_) = segments(engine)
    plans = [parallel_plan(prefix, ((a, None),), tokens(3), how) for how in (SHARP, NEUTRAL)]
    states = engine.advance_batch(engine.prefill_batch(plans), [7, 7])
    assert (states[0].logits - states[1].logits).abs().max() > 1e-3
    for state, plan in zip(states, plans, strict=True):
        alone = engine.advance(engine.prefill(plan), 7)
        assert (state.logits - alone.logits).abs().max() < TOLERANCE[torch.float64]


@pytest.mark.parametrize("wrong", ["order of tokens", "logits", "positions"])
def test_the_oracle_sees_deliberate_mistakes(tiny_model, monkeypatch, wrong):
    engine = engine_of(tiny_model(dtype=torch.float64))
    prefix, (a, b, _) = segments(engine)
    plans = [parallel_plan(prefix, ((p, None),), tokens(n, n), SHARP) for p, n in ((a, 3), (b, 6))]
    if wrong == "order of tokens":
        update = module.BatchLayer.update

        def turned(self, keys, values, *args):
            return update(self, keys.roll(1, 2), values.roll(1, 2), *args)

        monkeypatch.setattr(module.BatchLayer, "update", turned)
    forward = engine.model.forward

    def mistaken(ids, *, position_ids, logits_to_keep, **options):
        if wrong == "logits" and isinstance(logits_to_keep, torch.Tensor):
            logits_to_keep = logits_to_keep - 1
        if wrong == "positions":
            position_ids = torch.arange(ids.shape[1])[None]
        return forward(ids, position_ids=position_ids, logits_to_keep=logits_to_keep, **options)

    alone = [engine.prefill(plan).logits for plan in plans]
    monkeypatch.setattr(engine.model, "forward", mistaken)
    for state, logits in zip(engine.prefill_batch(plans), alone, strict=True):
        assert (state.logits - logits).abs().max() > 1e-3


def test_refuses_what_is_no_batch(tiny_model):
    engine = engine_of(tiny_model())
    state = engine.prefill(sequential_plan(tokens(5)))
    with pytest.raises(ValueError, match="samplings must be one a request, 1, got 2"):
        engine.decode_batch([state], [Sampling()] * 2, NEVER)
    with pytest.raises(ValueError, match="got 2 states and 2 tokens"):
        engine.advance_batch([state, state], [5, 6])
    with pytest.raises(ValueError, match="1 different caches, got 1 states and 0 tokens"):
        engine.advance_batch([state], [])
    assert engine.prefill_batch([]) == engine.advance_batch([], []) == []
    assert list(engine.decode_batch([], [], NEVER)) == []
    foreign = Segment(ModelIdentity("other", "w", "r", "float32", "t"), "prefix", (5, 6))
    with pytest.raises(ValueError, match="'other' \\(float32\\), the engine runs 'tiny'"):
        engine.prefill_batch([EncodingPlan("x", PlacedRows(foreign, 0), (), (7,), 2)])


def test_passes_by_hand():
    assert list(passes([3, 5, 1], 4)) == [[(0, 0, 3), (1, 0, 1)], [(1, 1, 5)], [(2, 0, 1)]]
    assert list(passes([4], 4)) == [[(0, 0, 4)]]
    assert list(passes([], 4)) == []


@given(lengths=st.lists(st.integers(1, 30), max_size=8), budget=st.integers(1, 20))
def test_passes_run_every_token_once_in_order_and_are_full(lengths, budget):
    found = list(passes(lengths, budget))
    order = [(row, at) for one in found for row, start, end in one for at in range(start, end)]
    assert order == [(row, at) for row, length in enumerate(lengths) for at in range(length)]
    sizes = [sum(end - start for _, start, end in one) for one in found]
    assert all(size == budget for size in sizes[:-1])
    assert all(0 < size <= budget for size in sizes)
    assert all(len({row for row, _, _ in one}) == len(one) for one in found)


def test_many_threads_over_one_store_answer_as_one_does_in_bounded_memory(
    tiny_model, tmp_path, monkeypatch
):
    model = tiny_model(dtype=torch.float64)
    prefix, passages = segments(engine_of(model), (4, 9, 6, 13, 8, 11, 5, 7, 10, 12))
    plans = [
        parallel_plan(
            prefix,
            tuple((passages[(2 * n + k) % len(passages)], None) for k in range(3)),
            tokens(2 + n % 5, n),
            SHARP,
        )
        for n in range(32)
    ]
    alone = engine_of(model)
    expected = [one(alone, plan, Sampling(max_tokens=5)) for plan in plans]
    size = 13 * alone.kv_bytes_per_token
    found, errors = {}, []
    peaks, threads, leases = Counter(), 8, weakref.WeakSet()

    def lend():
        lease = Lease()
        leases.add(lease)
        return lease

    monkeypatch.setattr("rag.generation.engine.Lease", lend)
    with KVStore(tmp_path, ram_bytes=3 * size) as store:
        engine = engine_of(model, store, placed_bytes=2 * size, copy_context=True)

        def ask(first):
            try:
                for n in range(first, len(plans), threads):
                    state = engine.prefill(plans[n])
                    found[n] = list(engine.decode(state, Sampling(max_tokens=5), NEVER))
                    engine.store(state.fresh)
                    peaks["ram"] = max(peaks["ram"], store.stats().ram_bytes)
                    peaks["leases"] = max(peaks["leases"], len(leases))
                    del state
            except BaseException as error:
                errors.append(error)
                raise

        running = [threading.Thread(target=ask, args=(first,)) for first in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        stats, arenas = store.stats(), len(engine._free_arenas)
        batched = decoded(engine, plans, [Sampling(max_tokens=5)] * len(plans))
    assert not errors
    assert [found[n] for n in range(len(plans))] == batched == expected
    assert 0 < peaks["ram"] <= 3 * size
    assert stats.evictions > 0
    assert engine.placed.nbytes <= 2 * size
    assert 0 < peaks["leases"] <= threads
    assert 0 < arenas <= threads + 1
    gc.collect()
    assert not leases
    assert len(passages) <= len(engine._free_arenas) <= max(threads, len(passages)) + 1

"""Packed encoding: the KV that each segment has alone, by definition, whatever stands beside it."""

import threading
from collections import Counter
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache

from rag.errors import UnsupportedModelError
from rag.generation import attention, packed_encoding
from rag.generation.engine import Engine
from rag.generation.packed_encoding import Layout, PackedEncoder
from rag.generation.plan import ContextWeights, PlacedRows, block_plan, parallel_plan
from rag.generation.prefilled import Reading
from rag.protocols import Lookup
from rag.records import ModelIdentity, Segment

LENGTHS = (4, 9, 1, 30, 5, 1, 21)
"""Tokens of a prefix, and of passages: some are past the windows of 16 tokens."""
NEUTRAL, SHARP = ContextWeights(), ContextWeights(0.7, 0.9, 0.2)


class CountingCache:
    """The plainest PassageCache: a dictionary that counts lookups."""

    def __init__(self):
        self.kept, self.asked = {}, Counter()

    def get(self, segment):
        self.asked[segment.name] += 1
        kv = self.kept.get(segment)
        return Lookup(None, "absent") if kv is None else Lookup(kv, "hit (ram)", kv.nbytes)

    def put(self, segment, kv):
        self.kept[segment] = kv
        return True


def tokens(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(3, 300, (count,), generator=generator).tolist())


def engine_of(model, cache=None, **options):
    dtype = str(model.dtype).removeprefix("torch.")
    return Engine(model, ModelIdentity("tiny", "w", "r", dtype, "t"), cache, **options)


def segments(engine, lengths=LENGTHS, parents=True):
    prefix = Segment(engine.identity, "prefix", tokens(lengths[0]), name="prefix")
    above = (prefix,) if parents else ()
    passages = [
        Segment(engine.identity, "passage", tokens(n, seed=i + 1), above, name=f"p{i}")
        for i, n in enumerate(lengths[1:])
    ]
    return prefix, passages


def plan_of(prefix, passages, question=7, weights=SHARP):
    pairs = tuple((passage, None) for passage in passages)
    return parallel_plan(prefix, pairs, tokens(question, 99), weights)


def largest(one, other):
    """The largest difference of any key or value."""
    assert one.keys.shape == other.keys.shape
    assert one.values.shape == other.values.shape
    return max(
        float((one.keys - other.keys).abs().max()), float((one.values - other.values).abs().max())
    )


def own_cache(families, engine, ids):
    """Rotated keys, and values, that the model itself caches: (layers, kv_heads, tokens, dim)."""
    count, dtype = len(ids), engine.model.dtype
    where = torch.arange(count)
    width = getattr(engine.model.config, "sliding_window", None) or count + 1
    visible = where[:, None] >= where
    full, sliding = (
        torch.zeros(count, count, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)[
            None, None
        ]
        for seen in (visible, visible & (where[:, None] - where < width))
    )
    types = getattr(engine.model.config, "layer_types", None)
    cache = DynamicCache()
    families.own_forward(
        engine,
        "literal_attention",
        ids,
        position_ids=where[None],
        attention_mask={"full_attention": full, "sliding_attention": sliding} if types else sliding,
        past_key_values=cache,
        use_cache=True,
    )
    layers = cache.layers
    return torch.cat([one.keys for one in layers]), torch.cat([one.values for one in layers])


@pytest.fixture
def passes(monkeypatch):
    """Names of the segments of each forward pass of `PackedEncoder`."""
    made, call = [], PackedEncoder.__call__

    def counting(self, pack, prefix):
        made.append([segment.name for segment in pack])
        return call(self, pack, prefix)

    monkeypatch.setattr(PackedEncoder, "__call__", counting)
    return made


@pytest.mark.parametrize("parents", [True, False])
def test_each_of_many_has_the_keys_and_values_that_the_model_gives_it_alone(
    families, family, passes, parents
):
    engine = families.engine(family, torch.float64)
    prefix, passages = segments(engine, parents=parents)
    wanted = [prefix, *passages, passages[3]] if parents else [*passages, passages[3]]
    before = prefix.token_ids if parents else ()
    encoded = list(engine.encode_all(wanted))
    assert max(map(len, passes)) == len(passages) + 1
    for segment, kv in zip(wanted, encoded, strict=True):
        ids = (*before, *segment.token_ids) if segment.parents else segment.token_ids
        keys, values = (part[:, :, -len(segment) :] for part in own_cache(families, engine, ids))
        positions = torch.arange(segment.start, segment.start + len(segment))
        limit = 1e-9 * max(1.0, float(values.abs().max()))
        assert (engine._rotary.rotate(kv.keys, positions) - keys).abs().max() < limit
        assert (kv.values.transpose(1, 2) - values).abs().max() < limit
        assert largest(kv, engine.encode(segment)) < limit


def test_an_answer_over_them_has_the_logits_of_one_dense_forward(families, family, passes):
    engine = families.engine(family, torch.float64)
    engine.placed.clear()
    passes.clear()
    prefix, passages = segments(engine)
    plan = plan_of(prefix, [*passages, passages[1]], weights=NEUTRAL)
    want = families.dense_oracle(engine, plan)[-1]
    state = engine.prefill(plan)
    assert passes == [["prefix"], [f"p{n}" for n in range(6)]]
    assert (state.logits - want).abs().max() < 1e-9 * max(1.0, float(want.abs().max()))


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_oss", "phi3", "smollm3"])
def test_answers_are_those_over_passages_encoded_one_by_one(families, name):
    model = families.model(name, torch.float64)
    packed, cache = engine_of(model), CountingCache()
    alone = engine_of(model, cache)
    prefix, passages = segments(packed)
    for segment in (prefix, *passages):
        cache.put(segment, alone.encode(segment))
    for plan in (
        plan_of(prefix, passages),
        block_plan(prefix, tuple((p, None) for p in passages[:3]), tokens(5, 98)),
    ):
        packed.placed.clear()
        one, other = packed.prefill(plan), alone.prefill(plan)
        assert (one.use.misses, other.use.misses) == (len(plan.context) + 1, 0)
        for token in (5, 6):
            limit = 1e-9 * max(1.0, float(other.logits.abs().max()))
            assert (one.logits - other.logits).abs().max() < limit
            one, other = packed.advance(one, token), alone.advance(other, token)


def test_order_and_neighbours_change_nothing(families, family):
    engine = families.engine(family, torch.float64)
    _, passages = segments(engine)
    want = dict(zip(passages, engine.encode_all(passages), strict=True))
    limit = 1e-9 * max(1.0, *(float(kv.values.abs().max()) for kv in want.values()))
    for order in (passages[::-1], passages[2:] + passages[:2], passages[1::2]):
        for segment, kv in zip(order, engine.encode_all(order), strict=True):
            assert largest(kv, want[segment]) < limit


@pytest.mark.parametrize("mistake", ["all before", "one key less", "row positions", "no prefix"])
def test_deliberate_mistakes_move_keys_and_values(families, mistake, monkeypatch):
    engine = families.engine("llama", torch.float64)
    _, passages = segments(engine)
    want = list(engine.encode_all(passages))
    made, of_segments = Layout.__init__, Layout.of_segments

    def moved(self, stand, before, scratch, device):
        made(self, stand, before, scratch, device)
        self.positions = torch.arange(before, before + len(self.positions))

    def wrong(self, keys, values):
        rows = of_segments(self, keys, values)
        if mistake == "all before":
            ends = [*torch.tensor(self.seen).cumsum(0).tolist()]
            cut = [(keys[:, :end], values[:, :end]) for end in ends]
            return tuple(
                packed_encoding.LayerKeys(
                    (), k, v, torch.arange(k.shape[1]), row.own, row.query_positions,
                    NEUTRAL, row.scratch,
                )
                for (k, v), row in zip(cut, rows, strict=True)
            )  # fmt: skip
        drop = 1 if mistake == "one key less" else LENGTHS[0]
        return tuple(
            packed_encoding.LayerKeys(
                (), row.tail_keys[:, drop:], row.tail_values[:, drop:], row.tail_positions[drop:],
                row.own, row.query_positions, NEUTRAL, row.scratch,
            )
            for row in rows
        )  # fmt: skip

    if mistake == "row positions":
        monkeypatch.setattr(Layout, "__init__", moved)
    else:
        monkeypatch.setattr(Layout, "of_segments", wrong)
    found = list(engine.encode_all(passages))
    first = 1 if mistake in ("all before", "row positions") else 0
    for number, (one, other) in enumerate(zip(found, want, strict=True)):
        assert (largest(one, other) > 1e-3) == (number >= first)


@pytest.mark.parametrize("parents", [True, False])
def test_a_segment_longer_than_a_pass_is_read_in_blocks(tiny_model, passes, parents):
    model = tiny_model(dtype=torch.float64)
    whole, short = engine_of(model), engine_of(model, pass_tokens=10)
    passes.clear()
    _, passages = segments(short, parents=parents)
    for segment, kv in zip(passages, short.encode_all(passages), strict=True):
        assert largest(kv, whole.encode(segment)) < 1e-10
    own = [names for names in passes if names != ["prefix"]]
    grouped = [names for names in own if len(names) > 1]
    assert grouped == [["p0", "p1"], ["p3", "p4"]]


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float32, 1e-5), (torch.bfloat16, 0.2), (torch.float16, 0.02)]
)
def test_narrower_types_stay_what_they_are_and_differ_by_rounding(tiny_model, dtype, limit):
    engine = engine_of(tiny_model(dtype=dtype))
    _, passages = segments(engine)
    for segment, kv in zip(passages, engine.encode_all(passages), strict=True):
        assert kv.keys.dtype == kv.values.dtype == dtype
        assert largest(kv, engine.encode(segment)) < limit


def test_nothing_is_no_work_and_a_segment_of_one_token_is_enough(tiny_model, passes):
    engine = engine_of(tiny_model())
    passes.clear()
    assert list(engine.encode_all([])) == []
    assert passes == []
    segment = Segment(engine.identity, "passage", (7,), name="one")
    kv = engine.encode(segment)
    assert kv.keys.shape == (3, 1, 2, 8)
    same = list(engine.encode_all([segment] * 3))
    assert all(largest(one, kv) < 1e-5 for one in same)


def test_what_is_kept_of_one_segment_does_not_keep_the_pass(tiny_model):
    for changes in ({}, {"num_hidden_layers": 1}):
        engine = engine_of(tiny_model(**changes))
        _, passages = segments(engine)
        for kv in engine.encode_all(passages):
            for part in (kv.keys, kv.values):
                assert part.is_contiguous()
                assert part.untyped_storage().nbytes() == part.nbytes


def test_a_pass_ends_where_the_last_layer_has_its_keys_and_values(tiny_model):
    engine = engine_of(tiny_model())
    calls = Counter()
    for number, layer in enumerate(engine.model.model.layers):
        layer.mlp.register_forward_hook(lambda *_, number=number: calls.update([number]))
    _, passages = segments(engine, parents=False)
    list(engine.encode_all(passages))
    assert calls == {0: 1, 1: 1}


def pack_names(encoder, found):
    """Names of the segments of each pass."""
    return [[segment.name for segment in pack] for pack in encoder.packs(found)]


def test_packs_fill_passes_in_order(tiny_model):
    engine = engine_of(tiny_model())
    encoder = PackedEncoder(engine.model, engine._rotary, engine._scratch, 10)
    prefix, (a, b, c, d, e, f) = segments(engine)
    free = Segment(engine.identity, "passage", tokens(2), name="free")
    assert pack_names(encoder, [prefix, a, b, c, d, e, f]) == [
        ["prefix"], ["p0", "p1"], ["p2"], ["p3", "p4"], ["p5"],
    ]  # fmt: skip
    assert pack_names(encoder, [e, free, free, e, e]) == [["p4"], ["free"] * 2, ["p4"] * 2]
    assert pack_names(encoder, []) == []


@given(
    lengths=st.lists(st.integers(1, 12), max_size=12),
    heads=st.lists(st.booleans(), min_size=12, max_size=12),
    budget=st.integers(1, 30),
)
def test_packs_are_a_partition_and_none_could_take_the_next(lengths, heads, budget):
    model = SimpleNamespace(config=SimpleNamespace(num_hidden_layers=1), device=torch.device("cpu"))
    encoder = PackedEncoder(model, None, None, budget)
    identity = ModelIdentity("tiny", "w", "r", "float32", "t")
    prefix = Segment(identity, "prefix", (1,), name="prefix")
    found = [
        Segment(identity, "passage", tokens(n, i), (prefix,) if head else (), name=str(i))
        for i, (n, head) in enumerate(zip(lengths, heads, strict=False))
    ]
    packs = list(encoder.packs(iter(found)))
    assert [segment for pack in packs for segment in pack] == found
    for pack, after in zip(packs, [*packs[1:], None], strict=False):
        taken = sum(map(len, pack))
        assert taken <= budget or len(pack) == 1
        assert len({segment.parents for segment in pack}) == 1
        if after is not None:
            assert taken + len(after[0]) > budget or after[0].parents != pack[0].parents


def test_a_pass_is_bounded_by_the_device_unless_it_is_said(tiny_model):
    engine = engine_of(tiny_model())
    assert engine.pass_tokens == packed_encoding.PASS_TOKENS["cpu"] == 512
    elsewhere = SimpleNamespace(config=engine.model.config, device=torch.device("cuda"))
    assert PackedEncoder(elsewhere, None, None).pass_tokens == packed_encoding.MOST_PASS_TOKENS
    with pytest.raises(ValueError, match="pass_tokens must be at least 1, got 0"):
        engine_of(tiny_model(), pass_tokens=0)


@pytest.mark.parametrize("placed_bytes", [1 << 20, 0])
def test_misses_of_a_request_share_a_pass_and_hits_are_looked_up_once(
    tiny_model, passes, placed_bytes
):
    cache = CountingCache()
    engine = engine_of(tiny_model(dtype=torch.float64), cache, placed_bytes=placed_bytes)
    prefix, passages = segments(engine)
    plan = plan_of(prefix, passages)
    want = engine_of(engine.model).prefill(plan).logits
    for found in (passages[1], passages[4]):
        cache.put(found, engine.encode(found))
    cache.asked.clear()
    passes.clear()
    engine.placed.clear()
    state = engine.prefill(plan)
    assert passes == [["prefix"], ["p0", "p2", "p3", "p5"]]
    assert (state.use.hits, state.use.misses) == (2, 5)
    assert state.use.reasons["p1"] == "hit (ram)"
    assert [segment.name for segment, _ in state.fresh] == ["prefix", "p0", "p2", "p3", "p5"]
    assert {cache.asked[p.name] for p in passages} == {1}
    assert (state.logits - want).abs().max() < 1e-10
    engine.store(state.fresh)
    engine.placed.clear()
    again = engine.prefill(plan)
    assert (again.use.hits, again.use.misses) == (7, 0)
    assert (again.logits - want).abs().max() < 1e-10


def test_rows_of_a_segment_that_was_pruned_twice_are_right(tiny_model):
    cache = CountingCache()
    engine = engine_of(tiny_model(dtype=torch.float64), cache, placed_bytes=0)
    prefix, (a, b, c, *_) = segments(engine)
    pairs = ((a, (0, 2, 5)), (c, (1, 2)), (c, tuple(range(20, 30))), (a, None), (b, None))
    plan = parallel_plan(prefix, pairs, tokens(5, 9), SHARP)
    alone = engine_of(engine.model, CountingCache())
    for segment in (prefix, a, b, c):
        alone.cache.put(segment, alone.encode(segment))
    want = alone.prefill(plan).logits
    for misses in (4, 0):
        state = engine.prefill(plan)
        assert state.use.misses == misses
        assert (state.logits - want).abs().max() < 1e-10
        engine.store(state.fresh)


def test_misses_of_a_batch_share_a_pass(tiny_model, passes):
    engine = engine_of(tiny_model(dtype=torch.float64), CountingCache())
    prefix, passages = segments(engine)
    plans = [plan_of(prefix, passages[at : at + 3], 3 + at) for at in (0, 2, 3, 3)]
    passes.clear()
    states = engine.prefill_batch(plans)
    assert passes == [["prefix"], [f"p{n}" for n in range(6)]]
    assert [[s.name for s, _ in state.fresh] for state in states] == [
        ["prefix", "p0", "p1", "p2"], ["p3", "p4"], ["p5"], [],
    ]  # fmt: skip
    assert [(s.use.hits, s.use.misses) for s in states] == [(0, 4), (2, 2), (3, 1), (4, 0)]
    alone = engine_of(engine.model)
    for plan, state in zip(plans, states, strict=True):
        assert (state.logits - alone.prefill(plan).logits).abs().max() < 1e-9
    passes.clear()
    alone.placed.clear()
    fresh = alone.prefill_all(plans)
    assert passes == [["prefix"], [f"p{n}" for n in range(6)]]
    assert fresh[-1].use.misses == 7


def test_what_comes_before_a_passage_that_cannot_be_encoded_is_yielded(tiny_model, passes):
    engine = engine_of(tiny_model())
    _, passages = segments(engine)
    long = Segment(engine.identity, "passage", tokens(engine.window + 1), name="long")
    foreign = Segment(ModelIdentity("other", "w", "r", "float32", "t"), "passage", (5,), name="far")
    two = Segment(engine.identity, "passage", (5,), (*passages[:2],), name="two")
    for wrong, error, message in (
        (long, UnsupportedModelError, "'long' reaches position .*, the model's window ends at"),
        (foreign, ValueError, "'far' belongs to 'other'"),
        (two, ValueError, "'two' has 2 parents, not 1"),
    ):
        for at in (0, 2):
            encoded = engine.encode_all([*passages[:at], wrong, *passages[at:]])
            assert [largest(next(encoded), engine.encode(p)) < 1e-5 for p in passages[:at]] == (
                [True] * at
            )
            with pytest.raises(error, match=message):
                next(encoded)


def test_a_segment_of_the_same_parents_that_fails_does_not_cost_the_others(tiny_model, passes):
    engine = engine_of(tiny_model(), pass_tokens=1 << 20)
    passes.clear()
    prefix, passages = segments(engine)
    long = Segment(engine.identity, "passage", tokens(engine.window), (prefix,), name="long")
    encoded = engine.encode_all([*passages[:2], long, *passages[2:]])
    assert next(encoded).keys.shape[1] == len(passages[0])
    assert next(encoded).keys.shape[1] == len(passages[1])
    with pytest.raises(UnsupportedModelError, match="'long'"):
        next(encoded)


def test_a_pass_that_does_not_fit_into_memory_is_done_one_by_one(tiny_model, monkeypatch):
    engine = engine_of(tiny_model())
    _, passages = segments(engine)
    want = list(engine.encode_all(passages))
    call, tried = PackedEncoder.__call__, []

    def small(self, pack, prefix):
        tried.append(len(pack))
        if len(pack) > 1:
            raise torch.OutOfMemoryError
        return call(self, pack, prefix)

    monkeypatch.setattr(PackedEncoder, "__call__", small)
    found = list(engine.encode_all(passages))
    assert tried == [6, 1, 1, 1, 1, 1, 1]
    assert all(largest(a, b) < 1e-5 for a, b in zip(found, want, strict=True))
    monkeypatch.setattr(PackedEncoder, "__call__", lambda *_: small(None, [1, 2], None))
    with pytest.raises(torch.OutOfMemoryError):
        list(engine.encode_all(passages[:1]))


def test_passes_of_a_long_run_let_other_requests_in_between(tiny_model):
    engine = engine_of(tiny_model(), pass_tokens=32)
    prefix, passages = segments(engine)
    encoded = engine.encode_all(passages)
    next(encoded)
    done = []
    other = threading.Thread(
        target=lambda: done.append(engine.prefill(plan_of(prefix, passages)).logits)
    )
    other.start()
    other.join(timeout=20)
    assert len(done) == 1
    assert len(list(encoded)) == len(passages) - 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3_text"])
@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.bfloat16, 0.05), (torch.float32, 1e-4), (torch.float64, 1e-5)]
)
def test_on_a_gpu_each_has_what_it_has_alone_on_a_cpu(families, name, dtype, limit, monkeypatch):
    head = {"head_dim": 16} if name == "llama" else {}
    rounded = families.model(name, torch.bfloat16, **head)
    exact = engine_of(deepcopy(rounded).double())
    ours = engine_of(rounded.to("cuda", dtype))
    (_, passages), (_, others) = segments(exact), segments(ours)
    wanted = list(exact.encode_all(passages))
    if name == "llama" and dtype == torch.bfloat16:
        # One call for all: no segment is attended to by itself.
        ours._reader.place(PlacedRows(segments(ours)[0], 0), Reading())
        monkeypatch.setattr(attention, "_attend_row", None)
    for want, kv in zip(wanted, ours.encode_all(others), strict=True):
        for part, right in ((kv.keys, want.keys), (kv.values, want.values)):
            assert part.is_cuda
            assert (part.double().cpu() - right).norm() / right.norm() < limit


def test_what_is_placed_is_not_looked_up_and_other_rows_of_a_miss_are_not_encoded_again(
    tiny_model, passes
):
    engine = engine_of(tiny_model(), CountingCache())
    prefix, (a, b, *_) = segments(engine)
    whole = plan_of(prefix, [a, b])
    some = parallel_plan(prefix, ((a, (0, 2, 5)),), tokens(5, 9), SHARP)
    passes.clear()
    states = engine.prefill_batch([whole, some])
    assert passes == [["prefix"], ["p0", "p1"]]
    assert [state.use.misses for state in states] == [3, 0]
    engine.cache.asked.clear()
    assert engine.prefill(whole).use.hits == 3
    assert not engine.cache.asked

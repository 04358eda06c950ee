"""The engine against stock Hugging Face forwards with dense masks: logits, not only tokens."""

import hashlib
import threading
from dataclasses import replace

import pytest
import torch

from rag.errors import UnsupportedModelError
from rag.generation.decoding import Sampling
from rag.generation.engine import READ_BLOCK, Engine
from rag.generation.plan import (
    ContextWeights,
    EncodingPlan,
    PlacedRows,
    Target,
    block_plan,
    graph_plan,
    parallel_plan,
    sequential_plan,
)
from rag.protocols import Lookup
from rag.records import ModelIdentity, Segment

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "olmo2", "granite")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


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


def tokens(n, seed=0):
    return tuple(
        torch.randint(3, 300, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    )


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


def stock_forward(engine, ids, positions, visible):
    """Logits of every token by the model's own attention under a dense boolean mask.

    Eager in float32; its softmax is float32 even in a float64 model, so there SDPA is the oracle.
    """
    dtype = engine.model.dtype
    engine.model.set_attn_implementation("sdpa" if dtype == torch.float64 else "eager")
    mask = torch.zeros(len(ids), len(ids), dtype=dtype)
    mask.masked_fill_(~visible, torch.finfo(dtype).min)
    with torch.inference_mode():
        out = engine.model(
            torch.tensor([ids]),
            position_ids=torch.tensor([positions]),
            attention_mask=mask[None, None],
            use_cache=False,
        )
    engine.model.set_attn_implementation("dovetail_segments")
    return out.logits[0]


def dense_oracle(engine, plan, extra=()):
    """Lay a neutral plan out as one row: prefix, passages, question, generated tokens."""
    parts = [plan.prefix, *plan.context]
    ids, positions, owner = [], [], []
    for number, part in enumerate(parts):
        ids += part.token_ids
        positions += range(part.start, part.start + len(part))
        owner += [number] * len(part)
    end = [*plan.prefill, *extra]
    ids += end
    positions += range(plan.prefill_start, plan.prefill_start + len(end))
    owner += [len(parts)] * len(end)
    who = torch.tensor(owner)
    causal = torch.ones(len(ids), len(ids)).tril().bool()
    same, prefix, question = who[:, None] == who, who == 0, who == len(parts)
    return stock_forward(engine, ids, positions, causal & (same | prefix | question[:, None]))


EDGES = {
    "into_top_1": ((1, 2), (), ()),
    "into_top_2": ((2,), (2,), ()),
    "from_top_1": ((), (0,), (0,)),
    "chain": ((1,), (2,), ()),
    "dag": ((1, 2), (2,), ()),
    "other way": ((), (0,), (0, 1)),
    "none": ((), (), ()),
}


def graph_oracle(engine, prefix, passages, sources, question, *, keep_round0=False):
    """One dense forward in which every copy of a passage is laid out and sees what it may see.

    Written from the definition: a passage stands at the prefix's end if it is cached, and after the
    longest of its sources if it is computed anew.
    """
    ids, positions, owner = list(prefix.token_ids), list(range(len(prefix))), [-1] * len(prefix)
    seen = {}  # copy: the copies it sees

    def lay(copy, token_ids, start):
        ids.extend(token_ids)
        positions.extend(range(start, start + len(token_ids)))
        owner.extend([copy] * len(token_ids))

    ends, current = {}, {}
    for row, passage in enumerate(passages):
        if not sources[row] or keep_round0:
            lay(row, passage.token_ids, len(prefix))
            seen[row], ends[row], current[row] = set(), len(prefix) + len(passage), row
    waiting = [row for row in range(len(passages)) if sources[row]]
    done = set(range(len(passages))) - set(waiting)
    while waiting:
        row = next(r for r in waiting if set(sources[r]) <= done)
        waiting.remove(row)
        start = max(ends[s] for s in sources[row])
        copy = row + len(passages)
        seen[copy] = {current[s] for s in sources[row]}
        lay(copy, passages[row].token_ids, start)
        done.add(row)
        ends[row], current[row] = start + len(passages[row]), copy
    asked = 2 * len(passages)
    seen[asked] = set(seen)
    lay(asked, question, max(ends.values()))
    visible = torch.ones(len(ids), len(ids)).tril().bool()
    for i, one in enumerate(owner):
        for j, other in enumerate(owner[: i + 1]):
            visible[i, j] = other in (one, -1) or other in seen.get(one, ())
    return stock_forward(engine, ids, positions, visible)[-1]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("edges", EDGES)
def test_any_acyclic_graph_equals_one_dense_forward(tiny_model, family, dtype, edges):
    engine = engine_of(tiny_model(family, dtype))
    prefix, passages = segments(engine)
    question = tokens(7, seed=9)
    plan = graph_plan(prefix, tuple((p, None) for p in passages), EDGES[edges], question)
    want = graph_oracle(engine, prefix, passages, EDGES[edges], question)
    # Rounding grows with what is rounded.
    limit = TOLERANCE[dtype] * max(1.0, float(want.abs().max()))
    assert (engine.prefill(plan).logits - want).abs().max() < limit


@pytest.mark.parametrize("edges", ["into_top_1", "chain", "from_top_1"])
def test_round_0_can_be_kept(tiny_model, edges):
    engine = engine_of(tiny_model(dtype=torch.float64))
    prefix, passages = segments(engine)
    question, sources = tokens(7, seed=9), EDGES[edges]
    pairs = tuple((p, None) for p in passages)
    plan = graph_plan(prefix, pairs, sources, question, keep_round0=True)
    want = graph_oracle(engine, prefix, passages, sources, question, keep_round0=True)
    found = engine.prefill(plan).logits
    assert (found - want).abs().max() < TOLERANCE[torch.float64]
    without = engine.prefill(graph_plan(prefix, pairs, sources, question)).logits
    assert (found - without).abs().max() > 1e-3


def test_no_edges_are_parallel_and_one_block_is_sequential(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64))
    prefix, passages = segments(engine)
    question, pairs = tokens(7, seed=9), tuple((p, None) for p in passages)
    none = graph_plan(prefix, pairs, EDGES["none"], question)
    assert none == replace(parallel_plan(prefix, pairs, question, ContextWeights()), mode="graph")
    ids = (*prefix.token_ids, *passages[0].token_ids, *question)
    want = engine.prefill(sequential_plan(ids)).logits
    alone = engine.prefill(block_plan(prefix, pairs[:1], question)).logits
    assert (alone - want).abs().max() < TOLERANCE[torch.float64]


def test_a_target_over_all_others_is_one_pass_and_equals_two(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64))
    prefix, passages = segments(engine)
    question, pairs = tokens(7, seed=9), tuple((p, None) for p in passages)
    merged = graph_plan(prefix, pairs, EDGES["into_top_1"], question)
    assert merged.targets == ()
    start = merged.prefill_start
    apart = replace(
        merged,
        prefill=question,
        prefill_start=start + len(passages[0]),
        targets=(Target(PlacedRows(passages[0], start), (0, 1)),),
    )
    difference = engine.prefill(merged).logits - engine.prefill(apart).logits
    assert difference.abs().max() < TOLERANCE[torch.float64]


def test_targets_read_the_kept_rows_of_their_sources(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64))
    prefix, passages = segments(engine)
    kept = tuple((p, (0, 1, 3)) for p in passages)
    plan = graph_plan(prefix, kept, EDGES["dag"], tokens(7, seed=9))
    assert [len(target.placed) for target in plan.targets] == [3, 3]
    assert plan.prefill_start == len(prefix) + 9
    whole = graph_plan(prefix, tuple((p, None) for p in passages), EDGES["dag"], tokens(7, seed=9))
    difference = engine.prefill(plan).logits - engine.prefill(whole).logits
    assert difference.abs().max() > 1e-3


def test_the_order_of_sources_and_other_targets_change_nothing(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64))
    prefix, (a, b, c) = segments(engine)
    question = tokens(7, seed=9)
    one = graph_plan(prefix, ((a, None), (b, None), (c, None)), ((2,), (2,), ()), question)
    other = graph_plan(prefix, ((c, None), (b, None), (a, None)), ((), (0,), (0,)), question)
    difference = engine.prefill(one).logits - engine.prefill(other).logits
    assert difference.abs().max() < TOLERANCE[torch.float64]


def test_the_graph_oracle_sees_other_edges(tiny_model):
    engine = engine_of(tiny_model())
    prefix, passages = segments(engine)
    question = tokens(7, seed=9)
    plan = graph_plan(prefix, tuple((p, None) for p in passages), EDGES["into_top_2"], question)
    found = engine.prefill(plan).logits
    for edges in ("into_top_1", "chain", "none"):
        want = graph_oracle(engine, prefix, passages, EDGES[edges], question)
        assert (found - want).abs().max() > 1e-3, edges


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (((1,), (0,), ()), "sources must have no cycle"),
        (((3,), (), ()), r"sources of passage 0 must be rows in \[0, 3\), got \(3,\)"),
        (((), ()), "sources must be one a passage, 3, got 2"),
    ],
)
def test_edges_that_are_no_acyclic_graph_are_refused(tiny_model, sources, message):
    prefix, passages = segments(engine_of(tiny_model()))
    with pytest.raises(ValueError, match=message):
        graph_plan(prefix, tuple((p, None) for p in passages), sources, tokens(7))


def test_blocks_depend_on_their_order(tiny_model):
    engine = engine_of(tiny_model())
    prefix, passages = segments(engine)
    pairs = tuple((p, None) for p in passages)
    one, other = (block_plan(prefix, ps, tokens(7, seed=9)) for ps in (pairs, pairs[::-1]))
    difference = engine.prefill(one).logits - engine.prefill(other).logits
    assert difference.abs().max() > 1e-3


@pytest.mark.parametrize("change", ["start", "weights", "swapped groups"])
def test_the_oracle_sees_deliberate_mistakes(tiny_model, change):
    engine = engine_of(tiny_model())
    prefix, passages = segments(engine)
    pairs = tuple((p, None) for p in passages)
    plan = parallel_plan(prefix, pairs, tokens(7, seed=9), ContextWeights())
    want = dense_oracle(engine, plan)[-1]
    if change == "start":
        wrong = EncodingPlan("x", plan.prefix, plan.context, plan.prefill, plan.prefill_start + 3)
    elif change == "weights":
        wrong = parallel_plan(prefix, pairs, plan.prefill, ContextWeights(0.5, 0.8))
    else:
        moved = tuple(PlacedRows(p.segment, p.start + 2) for p in plan.context)
        wrong = EncodingPlan("x", plan.prefix, moved, plan.prefill, plan.prefill_start)
    assert (engine.prefill(wrong).logits - want).abs().max() > 1e-3


def test_order_of_passages_changes_nothing_at_any_weights(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64))
    prefix, (a, b, c) = segments(engine)
    logits = [
        engine.prefill(
            parallel_plan(
                prefix,
                tuple((p, None) for p in order),
                tokens(7, seed=9),
                ContextWeights(0.7, 0.8, -0.1),
            )
        ).logits
        for order in [(a, b, c), (c, a, b), (b, c, a)]
    ]
    assert torch.allclose(logits[0], logits[1], atol=1e-9, rtol=0)
    assert torch.allclose(logits[0], logits[2], atol=1e-9, rtol=0)


def test_decoding_equals_recomputing_everything_at_every_step(tiny_model):
    engine = engine_of(tiny_model())
    prefix, passages = segments(engine)
    plan = parallel_plan(
        prefix, tuple((p, None) for p in passages), tokens(7, seed=9), ContextWeights()
    )
    state = engine.prefill(plan)
    made = []
    for token in engine.decode(state, Sampling(max_tokens=8), frozenset()):
        want = dense_oracle(engine, plan, tuple(made))[-1]
        assert token == int(want.argmax())
        made.append(token)
    assert len(made) == 8


def test_token_by_token_equals_one_block(tiny_model):
    engine = engine_of(tiny_model())
    prefix, passages = segments(engine)
    pairs, ids = tuple((p, None) for p in passages), tokens(9, seed=9)
    block = engine.prefill(parallel_plan(prefix, pairs, ids, ContextWeights(0.9, 0.9)))
    state = engine.prefill(parallel_plan(prefix, pairs, ids[:1], ContextWeights(0.9, 0.9)))
    with torch.inference_mode():
        for n, token in enumerate(ids[1:], 1):
            logits = engine._run((token,), state.position + n - 1, state.cache)
    assert (logits - block.logits).abs().max() < 1e-5


def test_a_long_prompt_in_chunks_equals_one_forward(tiny_model, monkeypatch):
    engine = engine_of(tiny_model())
    ids = tokens(50)
    whole = engine.prefill(sequential_plan(ids)).logits
    monkeypatch.setattr("rag.generation.engine.PREFILL_CHUNK", 16)
    assert (engine.prefill(sequential_plan(ids)).logits - whole).abs().max() < 1e-5
    long = Segment(engine.identity, "prefix", ids, name="long")
    chunked = engine.encode(long)
    monkeypatch.undo()
    assert torch.allclose(chunked.keys, engine.encode(long).keys, atol=1e-5)


def test_all_rows_are_the_whole_passage_bit_for_bit(tiny_model):
    engine = engine_of(tiny_model())
    prefix, (passage, *_) = segments(engine)
    whole = parallel_plan(prefix, ((passage, None),), tokens(7, seed=9), ContextWeights())
    rows = parallel_plan(
        prefix, ((passage, tuple(range(len(passage)))),), tokens(7, seed=9), ContextWeights()
    )
    assert torch.equal(engine.prefill(whole).logits, engine.prefill(rows).logits)


def test_selected_rows_equal_the_pruned_text_where_keys_do_not_depend_on_context(tiny_model):
    engine = engine_of(tiny_model(num_hidden_layers=1))
    prefix, (passage, *_) = segments(engine)
    rows = (0, 1, 5, 6, 8)
    pruned = Segment(
        engine.identity, "passage", tuple(passage.token_ids[r] for r in rows), (prefix,), name="x"
    )
    question = tokens(7, seed=9)
    got = engine.prefill(parallel_plan(prefix, ((passage, rows),), question, ContextWeights()))
    want = engine.prefill(parallel_plan(prefix, ((pruned, None),), question, ContextWeights()))
    assert (got.logits - want.logits).abs().max() < 1e-5
    assert got.position == want.position == 4 + 5 + 7


def test_hits_give_the_logits_of_misses_and_count_every_segment_once(tiny_model):
    cache = DictCache()
    engine = engine_of(tiny_model(), cache)
    prefix, passages = segments(engine)
    plan = parallel_plan(
        prefix, tuple((p, None) for p in passages), tokens(7, seed=9), ContextWeights()
    )
    first = engine.prefill(plan)
    assert (first.use.hits, first.use.misses) == (0, 4)
    engine.store(first.fresh)
    again = engine_of(engine.model, cache).prefill(plan)
    assert (again.use.hits, again.use.misses) == (4, 0)
    assert again.use.bytes == sum(kv.nbytes for kv in cache.kept.values())
    assert again.use.bytes == plan.cached_tokens * engine.kv_bytes_per_token - 7 * 0
    assert torch.equal(first.logits, again.logits)
    warm = engine.prefill(plan)
    assert torch.equal(first.logits, warm.logits)
    assert set(warm.use.reasons.values()) == {"hit (placed)"}


def test_requests_never_change_what_is_stored_even_side_by_side(tiny_model):
    cache = DictCache()
    engine = engine_of(tiny_model(), cache)
    prefix, passages = segments(engine)
    pairs = tuple((p, None) for p in passages)
    plan = parallel_plan(prefix, pairs, tokens(7, seed=9), ContextWeights(0.9, 0.9))
    engine.store(engine.prefill(plan).fresh)

    def digest():
        content = b"".join(
            kv.keys.numpy().tobytes() + kv.values.numpy().tobytes() for kv in cache.kept.values()
        )
        return hashlib.sha256(content).hexdigest()

    before = digest()
    alone = list(engine.decode(engine.prefill(plan), Sampling(max_tokens=6), frozenset()))
    found = []

    def ask():
        state = engine.prefill(plan)
        found.append(list(engine.decode(state, Sampling(max_tokens=6), frozenset())))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 4
    assert digest() == before


def test_a_request_keeps_its_context_while_another_is_prefilled(tiny_model):
    engine = engine_of(tiny_model())
    prefix, (a, b, c) = segments(engine)
    plans = [
        parallel_plan(prefix, ((p, None), (c, None)), tokens(7, seed=9), ContextWeights())
        for p in (a, b)
    ]
    decode = lambda state: list(engine.decode(state, Sampling(max_tokens=6), frozenset()))  # noqa: E731
    alone = [decode(engine.prefill(plan)) for plan in plans]
    first = engine.prefill(plans[0])
    kept = [group.keys.clone() for layer in first.cache.layers for group in layer.groups]
    second = engine.prefill(plans[1])
    now = [group.keys for layer in first.cache.layers for group in layer.groups]
    assert all(torch.equal(k, n) for k, n in zip(kept, now, strict=True))
    assert [decode(first), decode(second)] == alone


def test_the_arena_of_a_finished_request_is_used_again(tiny_model):
    engine = engine_of(tiny_model())
    prefix, (a, *_) = segments(engine)
    plan = parallel_plan(prefix, ((a, None),), tokens(7, seed=9), ContextWeights())
    where = set()
    for _ in range(4):
        state = engine.prefill(plan)
        where.add(state.cache.layers[0].groups[0].keys.data_ptr())
        del state
    assert len(where) == 1


def test_a_small_budget_for_rotated_copies_changes_no_logits(tiny_model):
    engine = engine_of(tiny_model(), DictCache(), placed_bytes=3000)
    prefix, passages = segments(engine)
    plan = parallel_plan(
        prefix, tuple((p, None) for p in passages), tokens(7, seed=9), ContextWeights()
    )
    first = engine.prefill(plan)
    assert torch.equal(first.logits, engine.prefill(plan).logits)
    assert 0 < engine.placed.nbytes <= 3000


def test_a_seed_repeats_a_sample_and_temperature_zero_is_greedy(tiny_model):
    engine = engine_of(tiny_model())
    state = lambda: engine.prefill(sequential_plan(tokens(9)))  # noqa: E731
    draw = lambda **o: list(engine.decode(state(), Sampling(8, **o), frozenset()))  # noqa: E731
    assert draw(temperature=1.0, seed=3) == draw(temperature=1.0, seed=3)
    assert draw(temperature=1.0, seed=3) != draw(temperature=1.0, seed=4)
    greedy = draw()
    assert greedy == draw(seed=5)
    assert list(engine.decode(state(), Sampling(8), frozenset({greedy[2]}))) == greedy[:2]


def test_scored_tokens_are_the_decoded_ones_with_their_log_probabilities(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64))
    state = lambda: engine.prefill(sequential_plan(tokens(9)))  # noqa: E731
    sampling = Sampling(6, temperature=0.5, seed=2)
    plain = list(engine.decode(state(), sampling, frozenset()))
    scored = list(engine.decode_scored(state(), sampling, frozenset()))
    assert [token for token, _ in scored] == plain
    assert all(logprob < 0 for _, logprob in scored)
    ids = [*tokens(9), *plain]
    causal = torch.ones(len(ids), len(ids)).tril().bool()
    table = stock_forward(engine, ids, list(range(len(ids))), causal).log_softmax(-1)
    for at, (token, logprob) in enumerate(scored):
        assert abs(float(table[8 + at, token]) - logprob) < 1e-10
    again = engine.score(state(), plain)
    assert torch.allclose(again, torch.tensor([p for _, p in scored]).double(), atol=1e-10)


def test_a_score_sees_cached_passages_and_leaves_the_request_as_it_was(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64))
    prefix, passages = segments(engine)
    plan = parallel_plan(
        prefix, tuple((p, None) for p in passages), tokens(7, seed=9), ContextWeights()
    )
    state, more = engine.prefill(plan), tokens(5, seed=4)
    found = engine.score(state, more)
    table = dense_oracle(engine, plan, more).log_softmax(-1)[-6:-1]
    expected = torch.stack([row[token] for row, token in zip(table, more, strict=True)])
    assert (found - expected).abs().max() < 1e-10
    assert torch.equal(found, engine.score(state, more))
    assert engine.score(state, ()).shape == (0,)
    decoded = list(engine.decode(state, Sampling(4), frozenset()))
    assert decoded == list(engine.decode(engine.prefill(plan), Sampling(4), frozenset()))


def test_a_shared_beginning_is_a_view_that_outlives_what_is_appended(tiny_model):
    engine = engine_of(tiny_model())
    ids = tokens(READ_BLOCK + 9)
    first = engine.read(ids)
    keys, values = first.cache.first(READ_BLOCK)
    before = [tensor.clone() for tensor in (*keys, *values)]
    second = engine.read((*ids[:READ_BLOCK], 7, 8), like=first.cache, shared=READ_BLOCK)
    list(engine.decode(first, Sampling(90), frozenset()))
    list(engine.decode(second, Sampling(90), frozenset()))
    for tensor, was in zip((*keys, *values), before, strict=True):
        assert torch.equal(tensor, was)
    assert second.cache.tail_tokens == READ_BLOCK + 2 + 89
    assert all(layer._prefix is None for layer in second.cache.layers)
    assert second.cache.nbytes == sum(
        tensor.nbytes for layer in second.cache.layers for tensor in (layer._keys, layer._values)
    )


def test_a_raw_prompt_is_read_in_blocks_wherever_its_beginning_comes_from(tiny_model):
    engine, sizes = engine_of(tiny_model()), []
    engine.model.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[1]))
    ids = tokens(2 * READ_BLOCK + 5)
    first = engine.read(ids)
    assert sizes == [READ_BLOCK, READ_BLOCK, 5]
    sizes.clear()
    engine.read(ids, like=first.cache, shared=READ_BLOCK)
    assert sizes == [READ_BLOCK, 5]


def test_prompts_read_together_count_what_they_share_once(tiny_model):
    engine = engine_of(tiny_model(), DictCache(), placed_bytes=0)
    prefix, (a, b, _) = segments(engine)
    plans = [
        parallel_plan(prefix, ((p, None),), tokens(7, seed=9), ContextWeights()) for p in (a, b)
    ]
    states = engine.prefill_all(plans)
    assert [segment.name for segment, _ in states[-1].fresh] == ["prefix", a.name, b.name]
    assert (states[-1].use.hits, states[-1].use.misses) == (0, 3)
    for state, plan in zip(states, plans, strict=True):
        alone = engine.prefill(plan).logits
        limit = TOLERANCE[torch.float32] * max(1.0, float(alone.abs().max()))
        assert (state.logits - alone).abs().max() < limit


def test_engines_of_one_model_take_turns(tiny_model):
    model = tiny_model()
    first, second, other = engine_of(model), engine_of(model), engine_of(tiny_model())
    assert first._lock is second._lock
    assert first._lock is not other._lock


def test_refuses_a_prompt_past_the_window_naming_both(tiny_model):
    engine = engine_of(tiny_model(max_position_embeddings=64))
    with pytest.raises(UnsupportedModelError, match=r"position 65, the model's window ends at 64"):
        engine.prefill(sequential_plan(tokens(65)))
    assert (
        len(
            list(
                engine.decode(engine.prefill(sequential_plan(tokens(62))), Sampling(9), frozenset())
            )
        )
        == 3
    )


def test_refuses_a_segment_of_another_model(tiny_model):
    engine = engine_of(tiny_model())
    foreign = Segment(ModelIdentity("other", "w", "r", "float32", "t"), "prefix", (5, 6))
    with pytest.raises(ValueError, match="'other' \\(float32\\), the engine runs 'tiny'"):
        engine.prefill(EncodingPlan("x", PlacedRows(foreign, 0), (), (7,), 2))


def test_a_fork_can_be_forked_and_scored_before_it_goes_on(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.float64))
    prefix, passages = segments(engine)
    plan = parallel_plan(prefix, ((passages[0], None),), tokens(5, seed=9), ContextWeights(0.9))
    state = engine.prefill(plan)
    twice = engine.fork(engine.fork(state))
    ids = tokens(4, seed=3)
    assert torch.equal(engine.score(twice, ids), engine.score(state, ids))
    assert torch.equal(engine.advance(twice, 7).logits, engine.advance(state, 7).logits)

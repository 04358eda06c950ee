"""Fused kernels: which one is taken, blocks of keys, contexts in pieces; no GPU is needed."""

import ctypes
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rag.generation import attention, fused_attention, scattered
from rag.generation.attention import Group, LayerKeys, Scratch, attend, segment_attention
from rag.generation.engine import Engine
from rag.generation.plan import (
    ContextWeights,
    Recompute,
    block_plan,
    graph_plan,
    parallel_plan,
)
from rag.generation.scattered import BLOCK, Pieces, ScatteredGroup, divide, table
from rag.records import ModelIdentity, Segment

WEIGHED = ContextWeights(0.8, 0.9, -0.3)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def by_definition(query, keys, values, scale, causal=0):
    """Softmax attention with its log-sum-exp, read literally."""
    logits = torch.einsum("hrd,htd->hrt", query.double(), keys.double()) * scale
    for row in range(query.shape[1] if causal else 0):
        later = keys.shape[1] - causal + row % causal + 1
        logits[:, row, later:] = -torch.inf
    weights = logits.softmax(-1)
    return torch.einsum("hrt,htd->hrd", weights, values.double()), logits.logsumexp(-1)


def flash_by_definition(q, k, v, *_, **options):
    """What the operator of PyTorch returns: (1, queries, heads, dim) and (1, heads, queries)."""
    groups = q.shape[2] // k.shape[2]
    causal, scale = _[5], options["scale"]
    rows = q[0].transpose(0, 1).reshape(k.shape[2], groups * q.shape[1], -1)
    out, lse = by_definition(
        rows, k[0].transpose(0, 1), v[0].transpose(0, 1), scale, q.shape[1] if causal else 0
    )
    out = out.view(q.shape[2], q.shape[1], -1).transpose(0, 1)[None].to(q.dtype)
    return out, lse.view(1, q.shape[2], q.shape[1]).float(), None, None, None


def varlen_by_definition(q, k, v, q_ends, k_ends, *_, **options):
    """What `varlen_attn` returns: (queries, heads, dim) and (heads, queries)."""
    assert q_ends.tolist() == [0, len(q)]
    assert k_ends.tolist() == [0, len(k)]
    causal = options["window_size"] == (-1, 0)
    assert options["enable_gqa"] == (q.shape[1] != k.shape[1])
    none = (None, None, 0, 0, 0.0, causal)
    out, lse, *_ = flash_by_definition(q[None], k[None], v[None], *none, scale=options["scale"])
    return out[0], lse[0]


@pytest.fixture
def fresh():
    """Forget what kernels have proven, before and after."""
    caches = fused_attention.proven, fused_attention._varlen
    for kept in caches:
        kept.cache_clear()
    yield
    for kept in caches:
        kept.cache_clear()


@pytest.fixture
def fakes(monkeypatch, fresh):
    """Kernels of CUDA replaced by their definitions; returns a list of what is called."""
    called = []

    def flash(*arguments, **options):
        called.append("flash")
        return flash_by_definition(*arguments, **options)

    def varlen(*arguments, **options):
        called.append("varlen")
        return varlen_by_definition(*arguments, **options)

    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", flash)
    monkeypatch.setattr(fused_attention, "_varlen", lambda: (varlen, {"enable_gqa": False}))
    monkeypatch.setattr(fused_attention, "usable", lambda _: True)
    return called


CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_tensors_on_a_cpu_are_not_for_fused_kernels(dtype):
    assert not fused_attention.usable(random(2, 3, 8, dtype=dtype))
    assert fused_attention.fused(*(random(2, 3, 8, dtype=dtype),) * 3, 1.0, 0) is None


@pytest.mark.parametrize("kernel", [fused_attention.by_flash, fused_attention.by_varlen])
@pytest.mark.parametrize("causal", [0, 1, 4])
def test_kernels_are_called_so_that_they_give_the_definition(fakes, kernel, causal):
    query, keys = random(2, 12, 8, dtype=torch.float16), random(2, 9, 8, seed=1)
    keys, values = keys.half(), random(2, 9, 8, seed=2, dtype=torch.float16)
    out, lse = kernel(query, keys, values, 0.3, causal)
    want, want_lse = by_definition(query, keys, values, 0.3, causal)
    assert out.is_contiguous()
    assert (out.dtype, lse.dtype) == (torch.float16, torch.float32)
    assert (out.double() - want).abs().max() < 1e-3
    assert (lse.double() - want_lse).abs().max() < 1e-5
    # Grouped heads stay rows without a mask: keys are read once for all of them.
    assert fused_attention._by_token(query, causal).shape == (
        (causal, 24 // causal, 8) if causal else (12, 2, 8)
    )


def test_a_log_sum_exp_by_token_is_turned(fakes, monkeypatch):
    def turned(*arguments, **options):
        out, lse = varlen_by_definition(*arguments, **options)
        return out, lse.transpose(0, 1)

    monkeypatch.setattr(fused_attention, "_varlen", lambda: (turned, {"enable_gqa": False}))
    assert fused_attention.proven(fused_attention.by_varlen, CPU, torch.float16, 8)


def test_the_first_kernel_that_proves_itself_is_taken(fakes, monkeypatch):
    inputs = random(2, 3, 8, dtype=torch.float16), *(random(2, 9, 8, dtype=torch.float16),) * 2
    fused_attention.fused(*inputs, 1.0, 0)
    assert set(fakes) == {"flash"}
    fused_attention.proven.cache_clear()

    def broken(*_, **__):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", broken)
    fakes.clear()
    fused_attention.fused(*inputs, 1.0, 0)
    assert set(fakes) == {"varlen"}


def base_two(out, lse, *rest):
    return out, lse * 1.4426950408889634, *rest


def top_left(out, lse, *rest):
    return out.flip(1), lse, *rest


@pytest.mark.parametrize("wrong", [base_two, top_left])
def test_a_kernel_that_is_wrong_is_never_used(fakes, monkeypatch, wrong):
    kernel = flash_by_definition
    monkeypatch.setattr(
        torch.ops.aten, "_flash_attention_forward", lambda *a, **o: wrong(*kernel(*a, **o))
    )
    assert not fused_attention.proven(fused_attention.by_flash, CPU, torch.float16, 8)


def test_a_varlen_without_log_sum_exp_is_not_used(monkeypatch, fresh):
    def old(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False):
        raise AssertionError

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", old)
    with pytest.raises(RuntimeError, match="takes only query, key"):
        fused_attention._varlen()
    assert not fused_attention.proven(fused_attention.by_varlen, CPU, torch.float16, 8)


def test_the_varlen_of_this_pytorch_is_asked_for_its_log_sum_exp(fresh):
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    if not hasattr(varlen, "AuxRequest"):
        pytest.skip("an older one")
    assert fused_attention._varlen()[1]["return_aux"].lse


def test_attention_dispatches_only_what_a_kernel_can_do(fakes):
    query, keys = random(2, 6, 8, dtype=torch.float16), random(2, 9, 8, seed=1).half()
    call = lambda **o: attend(query, keys, keys, 0.3, Scratch(), **o)  # noqa: E731
    out, lse, units = call(temperature=0.5)
    want, want_lse = by_definition(query, keys, keys, 0.6)
    assert (out.double() - want).abs().max() < 2e-3
    assert (lse.double() - want_lse).abs().max() < 1e-5
    assert units is None
    assert call(alone=True)[1] is None
    fakes.clear()
    call(softcap=5.0)
    call(hidden=torch.zeros(3, 9, dtype=torch.bool))
    call(units=(torch.zeros(9, dtype=torch.int64), 1), last=3)
    assert not fakes


@given(
    size=st.integers(1, 30),
    causal=st.sampled_from([0, 1, 3]),
    alone=st.booleans(),
    masked=st.booleans(),
    softcap=st.sampled_from([None, 2.0]),
    seed=st.integers(0, 9),
)
def test_blocks_of_keys_give_what_all_of_them_give(size, causal, alone, masked, softcap, seed):
    query, keys, values = random(2, 6, 8), random(2, 21, 8, seed=1), random(2, 21, 8, seed=2)
    hidden = None
    if masked:
        hidden = torch.rand(3, 21, generator=torch.Generator().manual_seed(seed)) < 0.7
        hidden[0] = True  # sees nothing at all
    units = torch.arange(21) % 4, 4
    options = {"causal": causal, "hidden": hidden, "softcap": softcap, "temperature": 0.7}
    whole = attend(query, keys, values, 0.5, Scratch(), last=3, units=units, **options)
    bytes_per_key = 2 * 6 * 8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "LOGIT_BYTES", size * bytes_per_key)
        blocks = attend(
            query, keys, values, 0.5, Scratch(), last=3, units=units, alone=alone, **options
        )
    assert torch.allclose(blocks[0], whole[0], atol=1e-12)
    assert alone or torch.allclose(blocks[1], whole[1], atol=1e-12)
    assert (blocks[1] is None) == alone
    assert torch.allclose(blocks[2], whole[2], atol=1e-12)


def test_blocks_of_keys_take_no_more_logits_than_allowed(monkeypatch):
    monkeypatch.setattr(attention, "LOGIT_BYTES", 10 * 2 * 6 * 8)
    taken = []

    class Watched(Scratch):
        def take(self, name, shape, like, dtype):
            taken.append(shape[-1])
            return super().take(name, shape, like, dtype)

    attend(random(2, 6, 8), random(2, 47, 8), random(2, 47, 8), 1.0, Watched(), causal=3)
    assert max(taken) <= 13
    assert len(taken) == 2 * 5


def flash_of_several(q, k, v, q_begin, k_begin, most_q, most_k, _p, causal, _d, *, scale):
    """What the operator of PyTorch returns where it is told where requests begin."""
    assert causal
    counts, lengths = q_begin.diff().tolist(), k_begin.diff().tolist()
    assert (most_q, most_k) == (max(counts), max(lengths))
    by_head = ([one.transpose(0, 1) for one in x.split(lengths)] for x in (k, v))
    out, lse = ragged_by_definition(q, *by_head, counts, scale)
    return out.to(q.dtype), lse.float(), None, None, None


def test_several_requests_in_one_call_get_what_each_gets_alone(fakes, monkeypatch):
    fused_attention._ragged_proven.cache_clear()
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", flash_of_several)
    queries, lengths = (1, 3, 2), (4, 3, 9)
    query = random(6, 6, 8, dtype=torch.float16)
    keys, values = (
        [random(2, n, 8, seed=n + i, dtype=torch.float16) for n in lengths] for i in (0, 50)
    )
    out, lse = fused_attention.ragged(query, keys, values, queries, 0.3)
    want, want_lse = ragged_by_definition(query, keys, values, queries, 0.3)
    assert (out.double() - want).abs().max() < 2e-3
    assert (lse.double() - want_lse).abs().max() < 1e-5
    monkeypatch.setattr(
        torch.ops.aten,
        "_flash_attention_forward",
        lambda *a, **o: base_two(*flash_of_several(*a, **o)),
    )
    assert fused_attention.ragged(query, keys, values, queries, 0.3) is not None
    fused_attention._ragged_proven.cache_clear()
    assert fused_attention.ragged(query, keys, values, queries, 0.3) is None
    fused_attention._ragged_proven.cache_clear()


# Contexts in pieces


def pieces_of(lengths, *, layers=2, kv_heads=2, dim=8, dtype=torch.float64, seed=0):
    parts = []
    for number, n in enumerate(lengths):
        shape = (layers, kv_heads, n, dim)
        keys = random(*shape, seed=seed + 2 * number, dtype=dtype)
        values = random(*shape, seed=seed + 2 * number + 1, dtype=dtype)
        parts.append((keys, values, torch.arange(n)))
    return parts


def read(blocks, which, row, layer, head, shape, dtype):
    """Read one block from memory as the kernel does: by address alone."""
    place, step_head, step_layer, n = (int(blocks.table[row, i]) for i in (which, 2, 3, 4))
    start = blocks.base.data_ptr() + (place + head * step_head + layer * step_layer) * 8 * (
        dtype.itemsize
    )
    buffer = (ctypes.c_char * (n * shape * dtype.itemsize)).from_address(start)
    return torch.frombuffer(buffer, dtype=dtype).view(n, shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_table_points_at_every_key_and_value_once_and_in_order(dtype):
    lengths = (5, BLOCK, 2 * BLOCK + 1, 1)
    parts = pieces_of(lengths, dtype=dtype, layers=3)
    blocks = Pieces(parts).blocks
    assert blocks.table[:, 4].tolist() == [5, BLOCK, BLOCK, BLOCK, 1, 1]
    assert blocks.begin == (0, 6)
    for which, layer, head in itertools.product((0, 1), (0, 2), (0, 1)):
        got = [read(blocks, which, row, layer, head, 8, dtype) for row in range(6)]
        assert torch.equal(torch.cat(got), torch.cat([p[which][layer, head] for p in parts]))


def test_a_table_reads_a_buffer_with_room_to_grow():
    buffer, more = torch.randn(1, 2, 100, 8), torch.randn(1, 2, 100, 8)
    blocks = table([(buffer[:, :, :70], more[:, :, :70])])
    got = [read(blocks, 1, row, 0, 1, 8, torch.float32) for row in (0, 1)]
    assert torch.equal(torch.cat(got), more[0, 1, :70])


def test_a_table_of_a_batch_says_where_each_request_begins():
    parts = [part[:2] for part in pieces_of((5, 130, 64, 3))]
    assert table(parts, (0, 1, 3)).begin == (0, 1, 5, 6)


@pytest.mark.parametrize(
    "layout",
    [
        lambda k, v: (k.transpose(1, 2), v.transpose(1, 2)),
        lambda k, v: (k[..., ::2], v[..., ::2]),
        lambda k, v: (k[:, :, :10], v[:, :, :10].contiguous()),
        lambda k, v: (k.flatten()[3:-61].view(2, 2, 15, 8), v.flatten()[3:-61].view(2, 2, 15, 8)),
        lambda k, v: (k[..., :4].contiguous(), v[..., :4].contiguous()),
    ],
    ids=["tokens before heads", "gaps", "two layouts", "odd places", "small heads"],
)
def test_what_no_table_can_point_at_is_left_to_others(layout):
    keys, values = layout(torch.randn(2, 2, 17, 8), torch.randn(2, 2, 17, 8))
    assert table([(keys, values)]) is None


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    size=st.integers(1, 50),
)
def test_shares_cover_every_block_once_and_none_is_empty(counts, size):
    begin = [0, *itertools.accumulate(counts)]
    work, starts = divide(begin, size)
    assert [b for _, first, end in work for b in range(first, end)] == [*range(begin[-1])]
    assert all(0 < end - first <= size for _, first, end in work)
    for request, (first, end) in enumerate(itertools.pairwise(starts)):
        assert {work[share][0] for share in range(first, end)} == {request}
        assert work[first][1] == begin[request]
    assert starts[-1] == len(work)


def test_a_group_in_pieces_reads_as_one_side_by_side():
    parts = pieces_of((5, 9))
    group = ScatteredGroup(Pieces(parts), 1)
    assert torch.equal(group.keys, torch.cat([keys[1] for keys, _, _ in parts], 1))
    assert torch.equal(group.values, torch.cat([values[1] for _, values, _ in parts], 1))
    assert group.positions.tolist() == [*range(5), *range(9)]
    assert group.attend(random(2, 3, 8), 1.0) is None


def by_blocks_definition(query, rows_begin, blocks, layer, scale):
    """What the kernel computes, from what the table points at."""
    outs = []
    for request, (first, end) in enumerate(itertools.pairwise(blocks.begin)):
        rows = query[:, slice(*rows_begin[request : request + 2])]
        keys, values = (
            torch.stack(
                [
                    torch.cat(
                        [
                            read(blocks, which, row, layer, head, query.shape[-1], query.dtype)
                            for row in range(first, end)
                        ]
                    )
                    for head in range(len(query))
                ]
            )
            for which in (0, 1)
        )
        outs.append(by_definition(rows, keys, values, scale))
    assert rows_begin[-1] == query.shape[1]
    return torch.cat([out for out, _ in outs], 1), torch.cat([lse for _, lse in outs], 1)


def ragged_by_definition(query, keys, values, queries, scale):
    """What the kernel for several requests computes."""
    outs, at = [], 0
    for count, k, v in zip(queries, keys, values, strict=True):
        of_one = query[at : at + count].transpose(0, 1)
        rows = of_one.reshape(len(k), -1, query.shape[-1])
        out, lse = by_definition(rows, k, v, scale, count)
        outs.append((out.view(of_one.shape).transpose(0, 1), lse.view(of_one.shape[:2])))
        at += count
    assert at == len(query)
    return torch.cat([out for out, _ in outs]), torch.cat([lse for _, lse in outs], 1)


@pytest.fixture
def kernel(monkeypatch):
    """Kernels replaced by their definitions; returns where rows of requests began in each call."""
    began = []

    def kernel(query, rows_begin, blocks, layer, scale):
        began.append(rows_begin)
        return by_blocks_definition(query, rows_begin, blocks, layer, scale)

    monkeypatch.setattr(scattered, "readable", lambda _: True)
    monkeypatch.setattr(scattered, "attend_blocks", kernel)
    monkeypatch.setattr(attention, "ragged", ragged_by_definition)
    monkeypatch.setattr(attention, "usable", lambda _: True)
    return began


def tokens(n, seed=0):
    return tuple(
        torch.randint(3, 300, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    )


def engines_of(model):
    dtype = str(model.dtype).removeprefix("torch.")
    identity = ModelIdentity("tiny", "w", "r", dtype, "t")
    return [Engine(model, identity, copy_context=copy) for copy in (True, False)]


def segments(engine, lengths=(4, 9, 70, 13)):
    prefix = Segment(engine.identity, "prefix", tokens(lengths[0]), name="prefix")
    return prefix, tuple(
        Segment(engine.identity, "passage", tokens(n, seed=i + 1), (prefix,), name=f"p{i}")
        for i, n in enumerate(lengths[1:])
    )


def plans_of(engine):
    prefix, passages = segments(engine)
    pairs, question = tuple((p, None) for p in passages), tokens(7, seed=9)
    rows = tuple((p, (0, 3, 4)) for p in passages)
    neutral = ContextWeights()
    return {
        "neutral": parallel_plan(prefix, pairs, question, neutral),
        "weighed": parallel_plan(prefix, pairs, question, WEIGHED),
        "blocks": block_plan(prefix, pairs, question),
        "rows": parallel_plan(prefix, rows, question, WEIGHED, gaps=True),
        "graph": graph_plan(prefix, pairs, ((), (0,), (0, 1)), question, weights=WEIGHED),
        "nothing": parallel_plan(prefix, (), question, neutral),
    }


PLANS = ("neutral", "weighed", "blocks", "rows", "graph", "nothing")


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("by_kernel", [False, True])
def test_a_context_in_place_equals_a_copied_one(tiny_model, request, name, by_kernel):
    copying, in_place = engines_of(tiny_model(dtype=torch.float64))
    shapes = request.getfixturevalue("kernel") if by_kernel else []
    plan = plans_of(copying)[name]
    one, other = copying.prefill(plan), in_place.prefill(plan)
    for token in (5, 6, 7):
        assert (one.logits - other.logits).abs().max() < 1e-10
        one, other = copying.advance(one, token), in_place.advance(other, token)
    assert bool(shapes) == (by_kernel and name != "nothing")
    assert not in_place._free_arenas


def test_a_context_in_place_is_the_pool_itself(tiny_model):
    _, engine = engines_of(tiny_model())
    plan = plans_of(engine)["blocks"]
    state = engine.prefill(plan)
    (group,) = state.cache.layers[0].groups
    parts = group.pieces.parts
    assert group.positions.tolist() == [p for item in plan.context for p in item.positions]
    pool = [engine.placed.get(item)[0].data_ptr() for item in plan.context]
    assert [keys.data_ptr() for keys, _, _ in parts] == pool
    engine.placed.clear()
    assert (engine.advance(state, 5).logits - _after(engine, plan, 5)).abs().max() == 0


def _after(engine, plan, token):
    return engine.advance(engine.prefill(plan), token).logits


@pytest.mark.parametrize("repair", [Recompute(first=2), Recompute(share=0.3)])
def test_a_repair_copies_and_leaves_the_pool_as_it_was(tiny_model, repair):
    from dataclasses import replace

    copying, in_place = engines_of(tiny_model(dtype=torch.float64))
    plan = plans_of(copying)["blocks"]
    before = in_place.prefill(plan).logits
    repaired = replace(plan, recompute=repair)
    want = copying.prefill(repaired).logits
    assert (in_place.prefill(repaired).logits - want).abs().max() < 1e-10
    assert (want - before).abs().max() > 1e-4
    assert torch.equal(in_place.prefill(plan).logits, before)


def test_a_watched_request_copies_and_counts_the_same_mass(tiny_model):
    copying, in_place = engines_of(tiny_model(dtype=torch.float64))
    for name in ("weighed", "graph"):
        one, other = (e.prefill(plans_of(copying)[name], watch=True) for e in (copying, in_place))
        assert (one.logits - other.logits).abs().max() < 1e-10
        assert torch.allclose(one.cache.mass, other.cache.mass, atol=1e-6)
    (group,) = in_place.prefill(plans_of(copying)["weighed"], watch=True).cache.layers[0].groups
    assert group.keys.data_ptr() == group.keys.data_ptr()  # no copy at every access


def test_on_a_cpu_contexts_are_copied_by_default(tiny_model):
    model = tiny_model()
    assert Engine(model, ModelIdentity("t", "w", "r", "float32", "t")).copy_context


# Batches


def batch_plans(engine, choice):
    prefix, passages = segments(engine)
    return [
        parallel_plan(
            prefix, tuple((passages[i], None) for i in rows), tokens(5 + n, seed=20 + n), WEIGHED
        )
        for n, rows in enumerate(choice)
    ]


@pytest.mark.parametrize(
    ("choice", "prefilled", "decoded"),
    [
        (((0, 1), (2,), (1, 2)), (0, 15, 33, 54), (0, 3, 6, 9)),
        (((0, 1), (0, 1), (0, 1)), (0, 54), (0, 9)),
    ],
    ids=["passages of their own", "shared passages are read once for all"],
)
def test_a_batch_is_one_pass_and_equals_each_request_alone(
    tiny_model, kernel, choice, prefilled, decoded
):
    copying, in_place = engines_of(tiny_model(dtype=torch.float64))
    plans = batch_plans(copying, choice)
    in_place.prefill_batch(plans)
    alone = [copying.prefill(plan) for plan in plans]
    kernel.clear()
    together = in_place.prefill_batch(plans)
    assert kernel == [prefilled] * 3
    for step in (5, 6, 7):
        for one, other in zip(alone, together, strict=True):
            assert (one.logits - other.logits).abs().max() < 1e-10
        given = [step + n for n in range(3)]
        alone = [copying.advance(s, t) for s, t in zip(alone, given, strict=True)]
        kernel.clear()
        together = in_place.advance_batch(together, given)
        assert kernel == [decoded] * 3


def test_a_batch_that_changes_gets_a_table_of_its_own(tiny_model, kernel):
    copying, in_place = engines_of(tiny_model(dtype=torch.float64))
    plans = batch_plans(copying, ((0, 1), (2,), (1, 2)))
    alone = [copying.advance(copying.prefill(plan), 7).logits for plan in plans]
    for rows in ((0, 1, 2), (0, 2), (0, 2, 1), (0, 1)):
        states = in_place.advance_batch([in_place.prefill(plans[r]) for r in rows], [7] * len(rows))
        for row, state in zip(rows, states, strict=True):
            assert (state.logits - alone[row]).abs().max() < 1e-10


def test_the_table_of_a_batch_is_kept_while_its_members_stay(kernel):
    first, second = Pieces(pieces_of((5,))), Pieces(pieces_of((9,), seed=50))
    made = scattered._together([first, second])
    assert scattered._together([first, second]) is made
    other = Pieces(pieces_of((70,), seed=80))
    assert scattered._together([first, other]).table[:, 4].tolist() == [5, 64, 6]
    assert scattered._together([first]).begin == (0, 1)


@pytest.mark.parametrize("change", ["mass", "weights", "plain", "window", "softcap", "sinks"])
def test_a_batch_with_anything_special_is_attended_one_by_one(kernel, change):
    rows, options = [], {}
    for n in range(2):
        pieces = Pieces(pieces_of((5, 9), seed=30 * n))
        group = ScatteredGroup(pieces, 0)
        weights, mass = ContextWeights(), None
        if change == "weights" and n:
            weights = WEIGHED
        if change == "mass" and n:
            mass = torch.zeros(6, 2)
        if change == "plain" and n:
            group = Group(group.keys, group.values, group.positions)
        tail = random(2, 4, 8, seed=n), random(2, 4, 8, seed=n + 5)
        stand = torch.arange(4) + 9
        rows.append(LayerKeys([group], *tail, stand, 1, stand[-1:], weights, Scratch(), mass))
    if change == "window":
        options = {"sliding_window": 1000}
    if change == "softcap":
        options = {"softcap": 3.0}
    if change == "sinks":
        options = {"s_aux": random(6)}
    query = random(1, 6, 2, 8, seed=77)
    module = torch.nn.Module()
    got = segment_attention(module, query, tuple(rows), None, None, 0.4, **options)[0]
    assert all(len(began) == 2 for began in kernel)
    for n, row in enumerate(rows):
        alone = segment_attention(module, query[:, :, n : n + 1], row, None, None, 0.4, **options)
        assert torch.equal(got[:, n : n + 1], alone[0])

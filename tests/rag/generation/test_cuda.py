"""On a GPU: kernels against float64, and a whole tiny model against its float64 logits on a CPU."""

from copy import deepcopy

import pytest
import torch

from rag.generation import attention, fused_attention, scattered
from rag.generation.attention import Scratch, attend
from rag.generation.engine import Engine
from rag.generation.plan import ContextWeights, block_plan, graph_plan, parallel_plan
from rag.generation.scattered import Pieces, ScatteredGroup
from rag.records import ModelIdentity, Segment

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

HALVES = {torch.bfloat16: 6e-3, torch.float16: 1e-3}
"""Largest relative error of an output: rounded inputs are exact, weights and outputs are not."""
KINDS = [(torch.bfloat16, 64), (torch.bfloat16, 128), (torch.float16, 80)]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def on_gpu(tensors, dtype):
    return [tensor.to("cuda", dtype) for tensor in tensors]


def by_definition(query, keys, values, scale, causal=0):
    logits = query.double().cpu() @ keys.double().cpu().transpose(1, 2) * scale
    if causal:
        later = torch.ones(causal, keys.shape[1]).triu(keys.shape[1] - causal + 1).bool()
        logits.view(len(query), -1, *later.shape).masked_fill_(later, -torch.inf)
    return logits.softmax(-1) @ values.double().cpu(), logits.logsumexp(-1)


def agree(got, want, tolerance):
    out, lse = got[0].double().cpu(), got[1].double().cpu()
    assert (out - want[0]).norm() / want[0].norm() < tolerance
    assert (lse - want[1]).abs().max() < 1e-4


@pytest.mark.parametrize(("dtype", "dim"), KINDS)
@pytest.mark.parametrize(("queries", "tokens"), [(1, 1), (1, 700), (9, 9), (9, 700), (64, 5000)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kernel", fused_attention.KERNELS)
def test_kernels_give_the_definition(kernel, masked, queries, tokens, dim, dtype):
    shapes = (4 * queries, tokens, tokens)
    query, keys, values = on_gpu([random(2, n, dim, seed=n) for n in shapes], dtype)
    if not fused_attention.proven(kernel, query.device, dtype, dim):
        assert kernel is not fused_attention.KERNELS[0]
        pytest.skip("not offered by this PyTorch")
    causal = queries if masked else 0
    scale = dim**-0.5
    want = by_definition(query, keys, values, scale, causal)
    agree(kernel(query, keys, values, scale, causal), want, HALVES[dtype])


@pytest.mark.parametrize("dtype", HALVES)
def test_attention_takes_a_kernel_for_half_precision_alone(dtype, monkeypatch):
    query, keys, values = on_gpu([random(2, n, 64, seed=n) for n in (12, 300, 300)], dtype)
    monkeypatch.setattr(attention._Products, "attend", None)
    out, lse, _ = attend(query, keys, values, 0.125, Scratch(), causal=3, temperature=0.8)
    agree((out, lse), by_definition(query, keys, values, 0.125 / 0.8, 3), HALVES[dtype])
    with pytest.raises(TypeError):
        attend(query.float(), keys.float(), values.float(), 0.125, Scratch())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_on_a_gpu_equal_those_on_a_cpu_in_blocks_too(dtype, monkeypatch):
    tensors = [random(2, n, 64, seed=n) for n in (12, 300, 300)]
    query, keys, values = on_gpu(tensors, dtype)
    want = by_definition(query, keys, values, 0.125, 3)
    for budget in (1 << 29, 50 * 2 * 12 * dtype.itemsize):
        monkeypatch.setattr(attention, "LOGIT_BYTES", budget)
        got = attend(query, keys, values, 0.125, Scratch(), causal=3)
        agree(got, want, 1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize(("dtype", "dim"), KINDS)
def test_several_requests_in_one_call_get_what_each_gets_alone(dtype, dim):
    queries, lengths = (1, 64, 7), (300, 64, 900)
    query = random(72, 6, dim).to("cuda", dtype)
    keys, values = (on_gpu([random(2, n, dim, seed=n + i) for n in lengths], dtype) for i in (0, 1))
    out, lse = fused_attention.ragged(query, keys, values, queries, dim**-0.5)
    cut = zip(out.split(queries), lse.split(queries, 1), query.split(queries), strict=True)
    for (o, s, q), k, v, n in zip(cut, keys, values, queries, strict=True):
        rows = q.transpose(0, 1).reshape(2, 3 * n, dim)
        got = o.transpose(0, 1).reshape(rows.shape), s.reshape(2, 3 * n)
        agree(got, by_definition(rows, k, v, dim**-0.5, n), HALVES[dtype])


@pytest.mark.parametrize(("dtype", "dim"), KINDS)
@pytest.mark.parametrize("rows", [1, 20, 256])
@pytest.mark.parametrize("lengths", [(1,), (5, 64, 130, 1), (512,) * 40])
def test_the_kernel_reads_pieces_wherever_they_lie(lengths, rows, dim, dtype):
    parts = []
    for n in lengths:
        keys, values = on_gpu([random(3, 2, n, dim, seed=n + i) for i in (0, 1)], dtype)
        parts.append((keys, values, torch.arange(n, device="cuda")))
    query = random(2, rows, dim, seed=7).to("cuda", dtype)
    assert scattered.readable(query)
    for layer in (0, 1, 2):
        group = ScatteredGroup(Pieces(parts), layer)
        got = group.attend(query, dim**-0.5)
        agree(got, by_definition(query, group.keys, group.values, dim**-0.5), HALVES[dtype])


def tokens(n, seed=0):
    return tuple(
        torch.randint(3, 300, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    )


def engine_of(model, **options):
    kind = str(model.dtype).removeprefix("torch.")
    return Engine(model, ModelIdentity("tiny", "w", "r", kind, "t"), **options)


def plan_of(engine, name):
    prefix = Segment(engine.identity, "prefix", tokens(5), name="prefix")
    passages = tuple(
        (Segment(engine.identity, "passage", tokens(n, n), (prefix,), name=f"p{n}"), None)
        for n in (9, 70, 13)
    )
    question, weights = tokens(7, 99), ContextWeights(0.8, 0.9, -0.3)
    if name == "longer":
        question, passages = tokens(11, 98), passages[1:]
    if name == "blocks":
        return block_plan(prefix, passages, question)
    if name == "graph":
        return graph_plan(prefix, passages, ((), (0,), (0, 1)), question, weights=weights)
    return parallel_plan(prefix, passages, question, weights)


@pytest.mark.parametrize("name", ["ape", "blocks", "graph"])
@pytest.mark.parametrize("copy", [True, False, None])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.06), (torch.float64, 1e-5)]
)
def test_a_model_on_a_gpu_gives_its_float64_logits(tiny_model, name, copy, dtype, tolerance):
    # Weights are those that bfloat16 holds, so that what differs is arithmetic; the model's own
    # rotary angles are float32 in any case, and a GPU's sines are others in their last bits.
    rounded = tiny_model(dtype=torch.bfloat16, head_dim=16)
    exact = engine_of(deepcopy(rounded).double())
    ours = engine_of(rounded.to("cuda", dtype), copy_context=copy)
    if copy is None:
        assert ours.copy_context == (dtype != torch.bfloat16)
    plan = plan_of(exact, name)
    one, other = exact.prefill(plan), ours.prefill(plan_of(ours, name))
    for token in (5, 6, 7):
        error = (one.logits - other.logits.double().cpu()).norm() / one.logits.norm()
        assert error < tolerance
        one, other = exact.advance(one, token), ours.advance(other, token)


def test_a_batch_is_one_pass_and_equals_each_request_alone(tiny_model, monkeypatch):
    engine = engine_of(tiny_model(dtype=torch.bfloat16, head_dim=16).to("cuda"))
    for names in (("ape", "ape", "ape"), ("ape", "longer", "ape")):
        plans = [plan_of(engine, name) for name in names]
        alone = [engine.prefill(plan) for plan in plans]
        with monkeypatch.context() as patch:
            patch.setattr(attention, "_attend_row", None)
            together = engine.prefill_batch(plans)
        for step in (5, 6, 7):
            alone = [engine.advance(state, step) for state in alone]
            with monkeypatch.context() as patch:
                patch.setattr(attention, "_attend_row", None)
                together = engine.advance_batch(together, [step] * 3)
            for one, other in zip(alone, together, strict=True):
                assert (one.logits - other.logits).norm() / one.logits.norm() < 0.06


def test_what_is_placed_never_passes_through_the_cpu(tiny_model):
    engine = engine_of(tiny_model(dtype=torch.bfloat16, head_dim=16).to("cuda"))
    plan = plan_of(engine, "ape")
    engine.prefill(plan)
    state = engine.prefill(plan)
    group = state.cache.layers[0].groups[0]
    assert isinstance(group, ScatteredGroup)
    assert all(keys.is_cuda for keys, _, _ in group.pieces.parts)
    pool = [engine.placed.get(item)[0].data_ptr() for item in plan.context]
    assert list(group.pieces.places) == pool

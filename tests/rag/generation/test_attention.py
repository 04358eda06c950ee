"""Grouped attention: hand-worked merge, parity with the formula in float64, backends, refusals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import UnsupportedModelError
from rag.generation.attention import Group, LayerKeys, Scratch, attend, join, segment_attention
from rag.generation.plan import ContextWeights

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def by_definition(query, groups, tail, scale, weights=ContextWeights()):
    """Read APE's closed form literally in float64: one weight a key, heads written out.

    Weight of context token j is exp(z_j/T) * Z^(S*T - 1) * e^b with Z the sum of exp(z_k/T) over
    the whole context; of any other token exp(z_j).
    """
    heads, queries = query.shape[1:3]
    kv_heads = tail[0].shape[0]
    out = torch.zeros(heads, queries, query.shape[-1], dtype=torch.float64)
    for h in range(heads):
        kv = h // (heads // kv_heads)
        for i in range(queries):
            q = query[0, h, i].double()
            raw = [
                torch.exp(keys[kv].double() @ q * scale / weights.temperature) for keys, _ in groups
            ]
            total = sum(one.sum() for one in raw)
            factor = torch.tensor(weights.bias, dtype=torch.float64).exp()
            power = weights.scale * weights.temperature - 1
            shares = [one * total**power * factor for one in raw]
            values = [vals[kv].double() for _, vals in groups]
            seen = tail[0].shape[1] - queries + i + 1
            shares.append(torch.exp(tail[0][kv, :seen].double() @ q * scale))
            values.append(tail[1][kv, :seen].double())
            w = torch.cat(shares)
            out[h, i] = (w / w.sum()) @ torch.cat(values)
    return out.transpose(0, 1)[None]


def layer_of(groups, tail, queries, weights=ContextWeights()):
    positions = torch.arange(tail[0].shape[1])
    made = [Group(keys, values, torch.arange(keys.shape[1])) for keys, values in groups]
    return LayerKeys(made, *tail, positions, queries, positions[-queries:], weights, Scratch())


def call(query, groups, tail, scale, weights=ContextWeights(), **options):
    layer = layer_of(groups, tail, query.shape[2], weights)
    return segment_attention(torch.nn.Module(), query, layer, None, None, scale, **options)[0]


def test_two_groups_merge_as_one_softmax_by_hand():
    # Logits 0 and log 3: weights 1/4 and 3/4 of values 1 and 5.
    first = torch.tensor([[1.0]]), torch.tensor([0.0])
    second = torch.tensor([[5.0]]), torch.tensor([3.0]).log()
    out, lse = join([first, second])
    assert out.item() == pytest.approx(4.0)
    assert lse.item() == pytest.approx(math.log(4.0))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("queries", [1, 2, 64])
def test_matches_the_closed_form_with_grouped_heads(queries, dtype):
    query = random(1, 6, queries, 8, seed=1, dtype=dtype)
    prefix = random(2, 5, 8, seed=2, dtype=dtype), random(2, 5, 8, seed=3, dtype=dtype)
    context = random(2, 70, 8, seed=4, dtype=dtype), random(2, 70, 8, seed=5, dtype=dtype)
    tail = (
        random(2, queries + 3, 8, seed=6, dtype=dtype),
        random(2, queries + 3, 8, seed=7, dtype=dtype),
    )
    groups, weights = [prefix, context], ContextWeights(0.8, 0.9, -0.3)
    got = call(query, groups, tail, 0.35, weights).double()
    want = by_definition(query, groups, tail, 0.35, weights)
    assert (got - want).abs().max() < TOLERANCE[dtype]


@given(
    cut=st.integers(1, 29),
    weights=st.builds(ContextWeights, st.floats(0.2, 2), st.floats(0.2, 2), st.floats(-3.0, 3.0)),
    seed=st.integers(0, 20),
    queries=st.integers(1, 4),
)
@settings(deadline=None, max_examples=40)
def test_splitting_the_context_anywhere_changes_nothing(cut, weights, seed, queries):
    query = random(1, 4, queries, 8, seed=seed)
    keys, values = random(2, 30, 8, seed=seed + 1), random(2, 30, 8, seed=seed + 2)
    tail = random(2, queries, 8, seed=seed + 3), random(2, queries, 8, seed=seed + 4)
    whole = [(keys, values)]
    parts = [(keys[:, :cut], values[:, :cut]), (keys[:, cut:], values[:, cut:])]
    one, other = (call(query, groups, tail, 0.3, weights) for groups in (whole, parts))
    assert torch.allclose(one, other)


def test_log_sum_exp_is_natural_and_doubling_a_group_adds_log_two():
    query, keys = random(2, 3, 8), random(2, 9, 8, seed=1)
    _, once, _ = attend(query, keys, keys, 0.5, Scratch())
    double = torch.cat([keys, keys], 1)
    _, twice, _ = attend(query, double, double, 0.5, Scratch())
    assert torch.allclose(once, torch.logsumexp(query @ keys.transpose(1, 2) * 0.5, -1))
    assert torch.allclose(twice - once, torch.tensor(2.0).log().double().expand_as(once))


@pytest.mark.parametrize(
    "wrong", [(1.0, 0.9, 0.0), (0.9, 1.0, 0.0), (0.9, 0.9, 0.5)], ids=["T", "S", "b"]
)
def test_each_of_the_three_weights_matters(wrong):
    query, keys, values = random(1, 4, 2, 8), random(2, 40, 8, seed=1), random(2, 40, 8, seed=2)
    tail = random(2, 2, 8, seed=3), random(2, 2, 8, seed=4)
    groups = [(keys, values)]
    right = call(query, groups, tail, 1.0, ContextWeights(0.9, 0.9))
    assert (call(query, groups, tail, 1.0, ContextWeights(*wrong)) - right).abs().max() > 1e-3


def test_a_query_does_not_see_a_later_one():
    query, tail = random(1, 4, 5, 8), [random(2, 5, 8, seed=3), random(2, 5, 8, seed=4)]
    before = call(query, [], tail, 1.0)
    tail[0][:, -1] += 1
    after = call(query, [], tail, 1.0)
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert not torch.equal(before[:, -1], after[:, -1])


def test_refuses_what_it_would_get_wrong():
    query, tail = random(1, 2, 3, 8), (random(2, 3, 8), random(2, 3, 8))
    layer = layer_of([], tail, 3)
    module = torch.nn.Module()
    with pytest.raises(UnsupportedModelError, match="mask True"):
        segment_attention(module, query, layer, None, torch.zeros(1), 1.0)
    with pytest.raises(UnsupportedModelError, match="position_bias"):
        segment_attention(module, query, layer, None, None, 1.0, position_bias=tail[0])
    with pytest.raises(UnsupportedModelError, match="batch 2"):
        segment_attention(module, query.repeat(2, 1, 1, 1), layer, None, None, 1.0)
    with pytest.raises(UnsupportedModelError, match="set_attn_implementation"):
        segment_attention(module, query, tail[0], tail[1], None, 1.0)

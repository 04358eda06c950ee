"""Grouped attention: hand-worked merge, parity with the formula in float64, backends, refusals."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import UnsupportedModelError
from rag.generation.attention import Group, LayerKeys, Scratch, attend, merge, segment_attention

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def by_definition(query, groups, tail, scale):
    """Read APE's closed form literally in float64: one weight a key, heads written out.

    Weight of context token j is exp(z_j/T) * Z^(S*T - 1) * e^b with Z the sum of exp(z_k/T) over
    its group; of any other token exp(z_j).
    """
    heads, queries = query.shape[1:3]
    kv_heads = tail[0].shape[0]
    out = torch.zeros(heads, queries, query.shape[-1], dtype=torch.float64)
    for h in range(heads):
        kv = h // (heads // kv_heads)
        for i in range(queries):
            q = query[0, h, i].double()
            weights, values = [], []
            for keys, vals, temperature, lse_scale, bias in groups:
                raw = torch.exp(keys[kv].double() @ q * scale / temperature)
                weights.append(
                    raw
                    * raw.sum() ** (lse_scale - 1)
                    * torch.tensor(bias, dtype=torch.float64).exp()
                )
                values.append(vals[kv].double())
            seen = tail[0].shape[1] - queries + i + 1
            weights.append(torch.exp(tail[0][kv, :seen].double() @ q * scale))
            values.append(tail[1][kv, :seen].double())
            w = torch.cat(weights)
            out[h, i] = (w / w.sum()) @ torch.cat(values)
    return out.transpose(0, 1)[None]


def call(query, groups, tail, scale):
    layer = LayerKeys([Group(*group) for group in groups], *tail, Scratch())
    return segment_attention(torch.nn.Module(), query, layer, None, None, scale)[0]


def test_two_groups_merge_as_one_softmax_by_hand():
    # Logits 0 and log 3: weights 1/4 and 3/4 of values 1 and 5.
    first = torch.tensor([[1.0]]), torch.tensor([0.0])
    second = torch.tensor([[5.0]]), torch.tensor([3.0]).log()
    assert merge([first, second]).item() == pytest.approx(4.0)


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
    groups = [(*prefix, 1.0, 1.0, 0.0), (*context, 0.8, 0.9 * 0.8, -0.3)]
    got = call(query, groups, tail, 0.35).double()
    want = by_definition(query, groups, tail, 0.35)
    assert (got - want).abs().max() < TOLERANCE[dtype]


@given(
    cut=st.integers(1, 29),
    temperature=st.floats(0.2, 2),
    seed=st.integers(0, 20),
    queries=st.integers(1, 4),
)
@settings(deadline=None, max_examples=40)
def test_splitting_a_neutral_group_anywhere_changes_nothing(cut, temperature, seed, queries):
    query = random(1, 4, queries, 8, seed=seed)
    keys, values = random(2, 30, 8, seed=seed + 1), random(2, 30, 8, seed=seed + 2)
    tail = random(2, queries, 8, seed=seed + 3), random(2, queries, 8, seed=seed + 4)
    whole = [(keys, values, temperature, 1.0, 0.0)]
    parts = [
        (keys[:, :cut], values[:, :cut], temperature, 1.0, 0.0),
        (keys[:, cut:], values[:, cut:], temperature, 1.0, 0.0),
    ]
    assert torch.allclose(call(query, whole, tail, 0.3), call(query, parts, tail, 0.3))


def test_log_sum_exp_is_natural_and_doubling_a_group_adds_log_two():
    query, keys = random(2, 3, 8), random(2, 9, 8, seed=1)
    _, once = attend(query, keys, keys, 0.5, Scratch())
    _, twice = attend(query, torch.cat([keys, keys], 1), torch.cat([keys, keys], 1), 0.5, Scratch())
    assert torch.allclose(once, torch.logsumexp(query @ keys.transpose(1, 2) * 0.5, -1))
    assert torch.allclose(twice - once, torch.tensor(2.0).log().double().expand_as(once))


@pytest.mark.parametrize(
    "wrong", [(1.0, 0.81, 0.0), (0.9, 1.0, 0.0), (0.9, 0.81, 0.5)], ids=["T", "S", "b"]
)
def test_each_of_the_three_weights_matters(wrong):
    query, keys, values = random(1, 4, 2, 8), random(2, 40, 8, seed=1), random(2, 40, 8, seed=2)
    tail = random(2, 2, 8, seed=3), random(2, 2, 8, seed=4)
    right = call(query, [(keys, values, 0.9, 0.81, 0.0)], tail, 1.0)
    assert (call(query, [(keys, values, *wrong)], tail, 1.0) - right).abs().max() > 1e-3


def test_a_query_does_not_see_a_later_one():
    query, tail = random(1, 4, 5, 8), [random(2, 5, 8, seed=3), random(2, 5, 8, seed=4)]
    before = call(query, [], tail, 1.0)
    tail[0][:, -1] += 1
    after = call(query, [], tail, 1.0)
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert not torch.equal(before[:, -1], after[:, -1])


def test_refuses_what_it_would_get_wrong():
    query, tail = random(1, 2, 3, 8), (random(2, 3, 8), random(2, 3, 8))
    layer = LayerKeys([], *tail, Scratch())
    module = torch.nn.Module()
    with pytest.raises(UnsupportedModelError, match="mask True"):
        segment_attention(module, query, layer, None, torch.zeros(1), 1.0)
    with pytest.raises(UnsupportedModelError, match="softcap"):
        segment_attention(module, query, layer, None, None, 1.0, softcap=30.0)
    with pytest.raises(UnsupportedModelError, match="batch 2"):
        segment_attention(module, query.repeat(2, 1, 1, 1), layer, None, None, 1.0)
    with pytest.raises(UnsupportedModelError, match="set_attn_implementation"):
        segment_attention(module, query, tail[0], tail[1], None, 1.0)

"""Attention to one group of keys against its definition: shapes, types, masks, caps and sinks."""

import pytest
import torch

from rag.generation.attention import Group, LayerKeys, Scratch, attend, segment_attention
from rag.generation.plan import ContextWeights

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 3e-2}


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def by_definition(query, keys, values, scale, *, hidden=None, softcap=None, temperature=1.0):
    """One head, one query, one key at a time, in float64: output and log-sum-exp."""
    out = torch.zeros(query.shape, dtype=torch.float64)
    lse = torch.full(query.shape[:2], -torch.inf, dtype=torch.float64)
    for head in range(query.shape[0]):
        for row in range(query.shape[1]):
            total = torch.zeros((), dtype=torch.float64)
            for token in range(keys.shape[1]):
                if hidden is not None and hidden[row % len(hidden), token]:
                    continue
                z = (query[head, row].double() @ keys[head, token].double()) * scale
                if softcap is not None:
                    z = softcap * torch.tanh(z / softcap)
                weight = torch.exp(z / temperature)
                total += weight
                out[head, row] += weight * values[head, token].double()
            if total > 0:
                out[head, row] /= total
                lse[head, row] = total.log()
    return out, lse


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("queries", [1, 2, 64])
@pytest.mark.parametrize("groups", [1, 3])
def test_equals_the_definition(queries, groups, dtype):
    rows = groups * queries
    query = random(2, rows, 8, dtype=dtype)
    keys, values = random(2, 19, 8, seed=1, dtype=dtype), random(2, 19, 8, seed=2, dtype=dtype)
    hidden = random(queries, 19, seed=3) > 0.5
    hidden[queries // 2] = queries > 1
    out, lse, _ = attend(query, keys, values, 0.4, Scratch(), hidden=hidden)
    want, total = by_definition(query, keys, values, 0.4, hidden=hidden)
    assert out.dtype == dtype
    assert (out - want).abs().max() < TOLERANCE[dtype]
    seen = total > -torch.inf
    assert torch.equal(lse > -torch.inf, seen)
    assert (lse[seen] - total[seen]).abs().max() < TOLERANCE[dtype]
    assert not out[~seen].any()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rows", [3, 70])
def test_keys_that_are_part_of_a_larger_buffer_give_the_same_numbers(rows, dtype):
    room = random(2, 3000, 8, seed=1, dtype=dtype), random(2, 3000, 8, seed=2, dtype=dtype)
    query, scratch = random(2, rows, 8, dtype=dtype), Scratch()
    for start, end in ((0, 1500), (700, 2900), (5, 9)):
        keys, values = (part[:, start:end] for part in room)
        found = attend(query, keys, values, 0.4, scratch)
        alone = attend(query, keys.contiguous(), values.contiguous(), 0.4, Scratch())
        for got, want in zip(found[:2], alone[:2], strict=True):
            assert (got - want).abs().max() <= TOLERANCE[dtype] * want.abs().max()


def test_rows_that_see_nothing_are_zero_alone_as_well():
    query, keys = random(2, 6, 8), random(2, 5, 8, seed=1)
    hidden = torch.zeros(3, 5, dtype=torch.bool)
    hidden[1] = True
    out, lse, _ = attend(query, keys, keys, 1.0, Scratch(), hidden=hidden, alone=True)
    assert lse is None
    assert not out.view(2, 2, 3, 8)[:, :, 1].any()
    assert torch.isfinite(out).all()


def test_logits_are_capped_first_and_then_divided_by_the_temperature():
    query, keys, values = random(2, 3, 8), random(2, 9, 8, seed=1), random(2, 9, 8, seed=2)
    found = attend(query, keys, values, 2.0, Scratch(), softcap=1.5, temperature=0.7)
    want = by_definition(query, keys, values, 2.0, softcap=1.5, temperature=0.7)
    assert (found[0] - want[0]).abs().max() < 1e-12
    assert (found[1] - want[1]).abs().max() < 1e-12
    other_way = by_definition(query, keys, values, 2.0 / 0.7, softcap=1.5)
    assert (found[0] - other_way[0]).abs().max() > 1e-3


def layer_of(groups, tail, queries, start, weights=ContextWeights()):
    """The tail ends with the queries' own keys, at `start` and on."""
    positions = torch.arange(tail[0].shape[1]) + start + queries - tail[0].shape[1]
    return LayerKeys(
        groups, *tail, positions, min(queries, tail[0].shape[1]),
        torch.arange(start, start + queries), weights, Scratch(),
    )  # fmt: skip


@pytest.mark.parametrize("queries", [1, 2, 64, 200])
@pytest.mark.parametrize("window", [None, 1, 7])
def test_a_layer_sees_by_position_caps_and_sinks(queries, window):
    """Against a softmax written out: context weighed by T and S, sink and tail by neither."""
    weights, softcap = ContextWeights(0.8, 0.9, -0.2), 3.0
    query, sinks = random(1, 6, queries, 8), random(6, seed=9)
    context = random(2, 11, 8, seed=1), random(2, 11, 8, seed=2)
    tail = random(2, queries + 3, 8, seed=3), random(2, queries + 3, 8, seed=4)
    where = torch.arange(11) * 2
    layer = layer_of([Group(*context, where)], tail, queries, 20, weights)
    found, _ = segment_attention(
        torch.nn.Module(), query, layer, None, None, 0.5,
        softcap=softcap, sliding_window=window, s_aux=sinks,
    )  # fmt: skip
    keys_at = layer.tail_positions
    for head in range(6):
        capped = [
            softcap * torch.tanh(query[0, head] @ keys[head // 3].T * 0.5 / softcap)
            for keys in (context[0], tail[0])
        ]
        for row in (0, queries // 2, queries - 1):
            at = 20 + row
            near = torch.ones(11).bool() if window is None else at - where < window
            own = (keys_at <= at) & (window is None or at - keys_at < window)
            inside = (capped[0][row] / 0.8).exp() * near
            total = inside.sum()
            power = 0.8 * 0.9 - 1
            factor = total**power * torch.tensor(-0.2).exp() if total > 0 else 0.0
            shares = torch.cat([inside * factor, capped[1][row].exp() * own])
            both = torch.cat([context[1][head // 3], tail[1][head // 3]])
            want = shares @ both / (shares.sum() + sinks[head].exp())
            assert (found[0, row, head] - want).abs().max() < 1e-7


def test_an_empty_tail_is_no_group():
    query, keys, values = random(1, 6, 4, 8), random(2, 9, 8, seed=1), random(2, 9, 8, seed=2)
    empty = keys[:, :0], values[:, :0]
    group = Group(keys, values, torch.arange(9), torch.tensor([1, 4, 4, 9]))
    layer = LayerKeys(
        [group], *empty, torch.arange(0), 0, torch.arange(4), ContextWeights(), Scratch()
    )
    found, _ = segment_attention(torch.nn.Module(), query, layer, None, None, 0.5)
    hidden = torch.arange(9) >= group.visible[:, None]
    packed = query.reshape(2, 12, 8)
    want = by_definition(packed, keys, values, 0.5, hidden=hidden)[0].view(6, 4, 8)
    assert (found[0].transpose(0, 1) - want).abs().max() < 1e-12


def test_a_sink_takes_weight_and_gives_no_value():
    query, tail = torch.zeros(1, 2, 1, 8), (torch.zeros(1, 1, 8), torch.ones(1, 1, 8))
    layer = layer_of([], tail, 1, 0)
    sinks = torch.tensor([0.0, 3.0]).log()  # one key of weight 1 against sinks of weight 0 and 3
    found, _ = segment_attention(torch.nn.Module(), query, layer, None, None, 1.0, s_aux=sinks)
    assert found[0, 0, :, 0].tolist() == pytest.approx([1.0, 0.25])

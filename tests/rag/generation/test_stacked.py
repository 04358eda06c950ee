"""One padded product for a batch: each request as by itself, whatever the lengths beside it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rag.generation.attention import Scratch
from rag.generation.stacked import attend_stacked

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}


def random(*shape, seed, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def by_definition(query, pairs, scale):
    """Each request apart, in float64: softmax and log-sum-exp read literally."""
    outs, sums = [], []
    for one, (keys, values) in zip(query.double(), pairs, strict=True):
        z = torch.einsum("hgd,htd->hgt", one, keys.double()) * scale
        outs.append(torch.einsum("hgt,htd->hgd", z.softmax(-1), values.double()))
        sums.append(z.logsumexp(-1))
    return torch.stack(outs), torch.stack(sums)


def some(lengths, dtype=torch.float64, seed=0):
    query = random(len(lengths), 2, 3, 8, seed=seed, dtype=dtype)
    pairs = [
        tuple(random(2, n, 8, seed=seed + 2 * row + kind + 1, dtype=dtype) for kind in (0, 1))
        for row, n in enumerate(lengths)
    ]
    return query, pairs


def test_two_requests_by_hand():
    query = torch.tensor([[[[1.0]]], [[[2.0]]]])
    one = torch.tensor([[[0.0], [1.0]]])
    other = torch.tensor([[[0.0]]])
    out, lse = attend_stacked(query, [(one, one), (other, other + 5)], 1.0, Scratch())
    e = torch.e
    assert torch.allclose(out.flatten(), torch.tensor([e / (1 + e), 5.0]))
    assert torch.allclose(lse.flatten(), torch.tensor([1 + e, 1.0]).log())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("lengths", [(4, 4), (1, 9, 3), (7,)])
def test_equals_the_definition_for_each_request(dtype, lengths):
    query, pairs = some(lengths, dtype)
    out, lse = attend_stacked(query, pairs, 0.3, Scratch())
    expected, sums = by_definition(query, pairs, 0.3)
    assert out.dtype == dtype
    assert lse.dtype == torch.promote_types(dtype, torch.float32)
    assert (out - expected).abs().max() < TOLERANCE[dtype]
    assert (lse - sums).abs().max() < TOLERANCE[dtype]


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_nothing_that_stood_in_the_buffers_before_matters(lengths, seed):
    query, pairs = some(lengths, seed=seed)
    scratch = Scratch()
    for name in ("stacked keys", "stacked values"):
        scratch.take(name, (6, 2, 12, 8), query, query.dtype).fill_(torch.nan)
    out, lse = attend_stacked(query, pairs, 0.3, scratch)
    expected, sums = by_definition(query, pairs, 0.3)
    assert (out - expected).abs().max() < 1e-12
    assert (lse - sums).abs().max() < 1e-12


def test_keys_that_are_part_of_larger_buffers_are_read_and_not_changed():
    query, pairs = some((5, 3))
    before = [[part.clone() for part in pair] for pair in pairs]
    cut = [(keys[:, :2], values[:, :2]) for keys, values in pairs]
    out, _ = attend_stacked(query, cut, 0.3, Scratch())
    assert (out - by_definition(query, cut, 0.3)[0]).abs().max() < 1e-12
    for pair, was in zip(pairs, before, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(pair, was, strict=True))

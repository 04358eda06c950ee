"""Segments and tensors small enough to try every byte of their files."""

from types import SimpleNamespace

import pytest
import torch

from kvstore.codecs import RAW, encode, pack
from kvstore.keys import segment_key
from rag.protocols import SegmentKV
from rag.records import ModelIdentity, Segment


def make_segment(number=0, tokens=2, *, dtype="float32", document="", **fields):
    model = ModelIdentity("toy", "weights", "rope", dtype, "tokenizer")
    ids = tuple(range(number * 1000, number * 1000 + tokens))
    return Segment(model, "passage", ids, name=f"p{number}", document=document, **fields)


def make_kv(segment, *, layers=1, heads=1, dim=2, seed=None):
    rng = torch.Generator().manual_seed(segment.token_ids[0] if seed is None else seed)
    shape = (layers, len(segment), heads, dim)
    dtype = getattr(torch, segment.model.dtype)
    keys, values = (torch.randn(shape, generator=rng).to(dtype) for _ in range(2))
    return SegmentKV(keys, values)


def same_bits(a, b):
    return all(
        x.dtype == y.dtype
        and x.shape == y.shape
        and torch.equal(x.contiguous().view(torch.uint8), y.contiguous().view(torch.uint8))
        for x, y in ((a.keys, b.keys), (a.values, b.values))
    )


def file_size(segment):
    pieces = encode(segment_key(segment, RAW), segment, pack(segment, make_kv(segment)))
    return sum(map(len, pieces))


@pytest.fixture(scope="session")
def toy():
    """Makers of small segments and their KV, and a comparison of KV bit by bit."""
    return SimpleNamespace(segment=make_segment, kv=make_kv, same=same_bits, file_size=file_size)

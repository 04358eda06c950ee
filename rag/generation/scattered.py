"""A context that stays where it lies: passages of a pool are attended to without being copied.

On a GPU copying a long context takes as long as reading it. Here a table says where each block of
keys begins, and one kernel reads them all, of one request or of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import pairwise
from math import ceil
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor

from rag.generation.fused_attention import by_products, on_device, usable

BLOCK: Final = 64
"""Keys of one step of a program."""
TILE: Final = 64
"""Rows of one program, at most."""
WARPS: Final = 4
STAGES: Final = 3
WAVES: Final = 4
"""Programs for each multiprocessor, at least: what evens out their unequal ends."""

Part = tuple[Tensor, Tensor, Tensor]
"""Keys and values, (layers, kv_heads, tokens, head_dim) each, and positions, int64 (tokens,)."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Where the keys of some requests lie, in blocks of at most `BLOCK` tokens.

    Attributes:
        base: a tensor that places are counted from.
        table: int64 (blocks, 5): where keys and values of layer 0, head 0 begin, steps from head to
            head and from layer to layer, in units of 8 elements; and tokens.
        begin: the first block of each request, and the number of all.
    """

    base: Tensor
    table: Tensor
    begin: tuple[int, ...]
    _shares: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def shares(self, size: int) -> tuple[Tensor, Tensor]:
        """Share blocks out, `size` at a time: int32 (shares, 3) and (requests + 1,), on the device.

        The first says request, first block, and the one after the last; the second where the shares
        of each request begin. No share is empty.
        """
        if size not in self._shares:
            work, begin = divide(self.begin, size)
            device = self.table.device
            self._shares[size] = (
                torch.tensor(work, dtype=torch.int32).to(device),
                torch.tensor(begin, dtype=torch.int32).to(device),
            )
        return self._shares[size]


class Pieces:
    """The passages of one context, each in its own tensors, which live as long as this does.

    Args:
        parts: at least one; of the same model, with at least one token each.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)

    @cached_property
    def positions(self) -> Tensor:
        """Positions of all tokens, int64 (tokens,)."""
        return torch.cat([positions for _, _, positions in self.parts])

    @cached_property
    def blocks(self) -> Blocks | None:
        """Where they lie; None if a tensor is laid out as no block can be."""
        return table([(keys, values) for keys, values, _ in self.parts])

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Addresses: equal for contexts that are the same passages in the same order."""
        return tuple(keys.data_ptr() for keys, _, _ in self.parts)

    def joined(self, which: Literal[0, 1], number: int) -> Tensor:
        """Return keys (0) or values (1) of one layer side by side: (kv_heads, tokens, head_dim)."""
        of_layer = [part[which][number] for part in self.parts]
        return of_layer[0] if len(of_layer) == 1 else torch.cat(of_layer, 1)


class ScatteredGroup:
    """One layer of a context in pieces; reads as a `rag.generation.attention.Group`.

    `keys` and `values` are copies made at every access, for whatever cannot read pieces.

    Attributes:
        pieces: shared by all layers.
        number: of the layer.
        units: as of `Group`.
        visible: always None: every query sees all keys.
    """

    visible = None

    def __init__(self, pieces: Pieces, number: int, units: Tensor | None = None) -> None:
        self.pieces = pieces
        self.number = number
        self.units = units

    @property
    def positions(self) -> Tensor:
        """Positions of the keys, int64 (tokens,)."""
        return self.pieces.positions

    @property
    def keys(self) -> Tensor:
        """A copy of the keys, (kv_heads, tokens, head_dim)."""
        return self.pieces.joined(0, self.number)

    @property
    def values(self) -> Tensor:
        """A copy of the values, the same shape."""
        return self.pieces.joined(1, self.number)

    def attend(self, query: Tensor, scale: float) -> tuple[Tensor, Tensor] | None:
        """Attend to all pieces in one pass; None where there is no kernel for it.

        Args:
            query: (kv_heads, rows, head_dim).
            scale: multiplies the logits.

        Returns:
            Output, float32 like `query`, and natural-log log-sum-exp, float32 (kv_heads, rows).
        """
        if not readable(query) or self.pieces.blocks is None:
            return None
        return attend_blocks(query, (0, query.shape[1]), self.pieces.blocks, self.number, scale)


def table(parts: Sequence[tuple[Tensor, Tensor]], begin: Sequence[int] = ()) -> Blocks | None:
    """Write down where keys and values lie.

    Args:
        parts: keys and values, (layers, kv_heads, tokens, head_dim) each, on one device.
        begin: the first part of each request, if there are several.

    Returns:
        None if rows do not lie side by side, keys and values are laid out differently, or places
        are not multiples of 8 elements.
    """
    first = parts[0][0]
    dim, size, base = first.shape[3], first.element_size(), anchor(first.device, first.dtype)
    rows = []
    for keys, values in parts:
        steps = keys.stride()
        if steps != values.stride() or steps[2:] != (dim, 1) or dim % 8:
            return None
        places = (keys.data_ptr() - base.data_ptr(), values.data_ptr() - base.data_ptr())
        if any(place % (8 * size) for place in places) or steps[0] % 8 or steps[1] % 8:
            return None
        of_keys, of_values = (place // (8 * size) for place in places)
        rows.append((of_keys, of_values, steps[1] // 8, steps[0] // 8, keys.shape[2]))
    made = torch.tensor(rows, dtype=torch.int64)
    counts = (made[:, 4] + BLOCK - 1) // BLOCK
    ends = counts.cumsum(0)
    wide = made.repeat_interleave(counts, 0)
    at = (torch.arange(len(wide)) - (ends - counts).repeat_interleave(counts)) * BLOCK
    wide[:, :2] += (at * (dim // 8))[:, None]
    wide[:, 4] = (wide[:, 4] - at).clamp(max=BLOCK)
    before = [0, *ends.tolist()]
    starts = (*(before[part] for part in begin or (0,)), before[-1])
    return Blocks(base, wide.to(first.device), starts)


@cache
def anchor(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the tensor that places are counted from, so that tables can be put together."""
    return torch.zeros(8, dtype=dtype, device=device)


def divide(begin: Sequence[int], size: int) -> tuple[list[tuple[int, int, int]], list[int]]:
    """Share the blocks of each request out, at most `size` at a time.

    Args:
        begin: the first block of each request, and the number of all; each has at least one.
        size: at least 1.

    Returns:
        Request, first block, and the one after the last, of each share; and the first share of each
        request, and the number of all.
    """
    work: list[tuple[int, int, int]] = []
    starts = [0]
    for request, (first, end) in enumerate(pairwise(begin)):
        count = ceil((end - first) / size)
        for number in range(count):
            share = [first + (end - first) * cut // count for cut in (number, number + 1)]
            work.append((request, share[0], share[1]))
        starts.append(len(work))
    return work, starts


def readable(query: Tensor) -> bool:
    """Return whether the kernel can be used for tensors like this; proven once for each kind."""
    return usable(query) and _proven(query.device, query.dtype, query.shape[-1])


def reads_pieces(model: Any, head_dim: int) -> bool:
    """Return whether the kernel can be used for all of a model's attention.

    Args:
        model: where its device, dtype and configuration are read.
        head_dim: of its keys.
    """
    config = model.config
    names = ("sliding_window", "attn_logit_softcapping")
    if model.device.type != "cuda" or any(getattr(config, name, None) for name in names):
        return False
    return readable(torch.empty(0, head_dim, dtype=model.dtype, device=model.device))


@cache
def _kernels() -> Any:
    from rag.generation import split_kernel

    return split_kernel


@cache
def _proven(device: torch.device, dtype: torch.dtype, dim: int) -> bool:
    """Return whether the kernel compiles and gives what two matrix products give."""
    generator = torch.Generator().manual_seed(0)
    query, *rest = (
        torch.randn(2, 2, n, dim, generator=generator).to(device, dtype) for n in (7, 70, 70, 3, 3)
    )
    pieces = [(rest[0], rest[1]), (rest[2], rest[3])]
    blocks = table([*pieces, *reversed(pieces)], (0, 2))
    if blocks is None:
        return False
    keys, values = (torch.cat(both, 2)[1].float() for both in zip(*pieces, strict=True))
    want = by_products(query[0], keys, values, dim**-0.5, 0)
    try:
        out, lse = attend_blocks(query[0], (0, 5, 7), blocks, 1, dim**-0.5)
    except Exception:  # noqa: BLE001 - a compiler fails in many ways; none of them may end a request
        return False
    wrong = max(float((out - want[0]).abs().max()), float((lse - want[1]).abs().max()))
    return wrong < 0.03


@cache
def _processors(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def attend_blocks(
    query: Tensor, rows_begin: tuple[int, ...], blocks: Blocks, layer: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Attend to what a table points at.

    Args:
        query: (kv_heads, rows, head_dim), of a dtype that the table's keys have.
        rows_begin: where the rows of each request begin, and the number of all.
        blocks: of as many requests.
        layer: whose keys to read.
        scale: multiplies the logits.

    Returns:
        Output, float32 like `query`, and natural-log log-sum-exp, float32 (kv_heads, rows).
    """
    kernels = _kernels()
    query = query.contiguous()
    kv_heads, rows, dim = query.shape
    most = max(end - start for start, end in pairwise(rows_begin))
    tile = min(TILE, max(16, 1 << (most - 1).bit_length()))
    tiles = ceil(most / tile)
    size = max(1, blocks.begin[-1] * kv_heads * tiles // (WAVES * _processors(query.device)))
    work, begin = blocks.shares(size)
    of_rows = on_device(rows_begin, query.device)
    constants = {"DIM": dim, "WIDE": max(16, 1 << (dim - 1).bit_length())}
    out = query.new_empty(len(work), kv_heads, most, dim, dtype=torch.float32)
    lse = query.new_empty(len(work), kv_heads, most, dtype=torch.float32)
    kernels.partial_attention[tiles, kv_heads, len(work)](
        query,
        blocks.base,
        blocks.table,
        work,
        of_rows,
        out,
        lse,
        scale,
        layer,
        kv_heads,
        rows,
        most,
        ROWS=tile,
        BLOCK=BLOCK,
        num_warps=WARPS,
        num_stages=STAGES,
        **constants,
    )
    if len(work) == 1:
        return out[0], lse[0]
    joined_out = query.new_empty(query.shape, dtype=torch.float32)
    joined_lse = query.new_empty(query.shape[:2], dtype=torch.float32)
    kernels.join_shares[most, kv_heads, len(rows_begin) - 1](
        out, lse, begin, of_rows, joined_out, joined_lse, rows, most, **constants
    )
    return joined_out, joined_lse


_TOGETHER: WeakKeyDictionary[Pieces, tuple[tuple[ref[Pieces], ...], Blocks | None]] = (
    WeakKeyDictionary()
)


def _together(pieces: Sequence[Pieces]) -> Blocks | None:
    """Return one table for the contexts of a batch; the last one of each batch is kept."""
    known = _TOGETHER.get(pieces[0])
    if known is not None:
        same = len(known[0]) == len(pieces)
        if same and all(kept() is one for kept, one in zip(known[0], pieces, strict=True)):
            return known[1]
    found = [one.blocks for one in pieces]
    made = None
    if all(one is not None for one in found):
        tables = [one.table for one in found if one is not None]
        begin = [0]
        for one in tables:
            begin.append(begin[-1] + len(one))
        assert found[0] is not None
        made = Blocks(found[0].base, torch.cat(tables), tuple(begin))
    _TOGETHER[pieces[0]] = tuple(ref(one) for one in pieces), made
    return made


def attend_contexts(
    query: Tensor, rows_begin: tuple[int, ...], groups: Sequence[ScatteredGroup], scale: float
) -> tuple[Tensor, Tensor] | None:
    """Attend to the contexts of a batch of requests in one pass.

    Requests that read the same passages count as one with more rows, so that these are read once
    for all of them (Hydragen; Juravsky et al. 2024, arXiv:2402.05099).

    Args:
        query: (kv_heads, rows, head_dim).
        rows_begin: as of `attend_blocks`.
        groups: one a request, of the same layer.
        scale: multiplies the logits.

    Returns:
        As `attend_blocks`; None where there is no kernel for it.
    """
    if not readable(query):
        return None
    number, pieces = groups[0].number, [group.pieces for group in groups]
    if all(one.places == pieces[0].places for one in pieces[1:]):
        return groups[0].attend(query, scale)
    blocks = _together(pieces)
    return None if blocks is None else attend_blocks(query, rows_begin, blocks, number, scale)

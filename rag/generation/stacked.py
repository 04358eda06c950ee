"""Decoding a batch on CPUs: few large products in place of many small ones.

A decoded token brings one query a request, so calling a kernel for each costs more than what it
computes. Requests that read the very same context attend to it together, as one product of all
their queries (Hydragen, arXiv:2402.05099); what differs between requests is copied into one padded
batch, as long as it is small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from torch import Tensor

from rag.generation.scattered import ScatteredGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rag.generation.attention import Group, LayerKeys, Scratch
    from rag.generation.plan import ContextWeights

STACKED_BYTES: Final = 3 << 17
"""Keys of one request and layer, at most: more take longer to copy than the calls that it saves."""

_Reader = tuple["Group", list[int]]
"""A context, and the requests that read it."""


class Attend(Protocol):
    """`rag.generation.attention.attend`, of which this is the batched form."""

    def __call__(
        self, query: Tensor, keys: Tensor, values: Tensor, scale: float, scratch: Scratch, /
    ) -> tuple[Tensor, Tensor | None, Any]:
        """Return output and log-sum-exp of some queries over some keys."""


def attend_batch(
    query: Tensor, rows: Sequence[LayerKeys], scale: float, attend: Attend
) -> Tensor | None:
    """Attend for a batch in which every request decodes one token.

    Args:
        query: (1, heads, requests, head_dim).
        rows: one a request; no window, cap or sinks.
        scale: multiplies the logits.
        attend: for contexts that several requests read, and for what is too large to be copied.

    Returns:
        (1, requests, heads, head_dim); None where there is something to be done that it cannot do:
        more than one token a request, attention that is watched, contexts in several groups or of
        different weights.
    """
    contexts = _contexts(rows)
    if contexts is None:
        return None
    first, heads, head_dim = rows[0], query.shape[1], query.shape[3]
    packed = query[0].transpose(0, 1).reshape(len(rows), first.tail_keys.shape[0], -1, head_dim)
    tails = [(row.tail_keys, row.tail_values) for row in rows]
    out, lse = _attend_each(packed, tails, scale, first.scratch, attend)
    if contexts:
        weights = rows[contexts[0][1][0]].weights
        other, weighed = _attend_contexts(packed, contexts, scale, weights, first.scratch, attend)
        joined = torch.logaddexp(lse, weighed)
        out = torch.addcmul(
            (lse - joined).exp()[..., None] * out, (weighed - joined).exp()[..., None], other
        )
    return out.to(query.dtype).reshape(1, len(rows), heads, head_dim)


def _contexts(rows: Sequence[LayerKeys]) -> list[_Reader] | None:
    """Return which requests read which context, or None where `attend_batch` returns it."""
    found: dict[tuple[int, int], _Reader] = {}
    weights: set[ContextWeights] = set()
    for number, row in enumerate(rows):
        if row.mass is not None or not row.own == row.query_positions.shape[0] == 1:
            return None
        if len(row.groups) > 1:
            return None
        for group in row.groups:
            if isinstance(group, ScatteredGroup) or group.visible is not None:
                return None
            key = group.keys.data_ptr(), group.keys.shape[1]
            found.setdefault(key, (group, []))[1].append(number)
            weights.add(row.weights)
    return None if len(weights) > 1 else list(found.values())


def _attend_contexts(
    packed: Tensor,
    contexts: Sequence[_Reader],
    scale: float,
    weights: ContextWeights,
    scratch: Scratch,
    attend: Attend,
) -> tuple[Tensor, Tensor]:
    """Attend to contexts, each for all who read it: output, and weighed log-sum-exp.

    Args:
        packed: queries, (requests, kv_heads, groups, head_dim).
        contexts: with the requests that read each; a request reads at most one.
        scale: multiplies the logits.
        weights: T, S and b.
        scratch: where intermediate results live.
        attend: as of `attend_batch`.
    """
    scale = scale / weights.temperature
    wide = torch.promote_types(packed.dtype, torch.float32)
    # A request without context has weight 0 there.
    out, lse = torch.zeros_like(packed), packed.new_full(packed.shape[:3], -torch.inf, dtype=wide)
    alone = {rows[0]: group for group, rows in contexts if len(rows) == 1}
    if alone:
        rows, pairs = list(alone), [(group.keys, group.values) for group in alone.values()]
        out[rows], lse[rows] = _attend_each(packed[rows], pairs, scale, scratch, attend)
    for group, rows in contexts:
        if len(rows) == 1:
            continue
        queries = packed[rows].transpose(0, 1)  # (kv_heads, readers, groups, head_dim)
        flat = queries.reshape(len(queries), -1, queries.shape[3])
        of_all, of_lse, _ = attend(flat, group.keys, group.values, scale, scratch)
        assert of_lse is not None
        out[rows] = of_all.view(queries.shape).transpose(0, 1).to(out.dtype)
        lse[rows] = of_lse.view(queries.shape[:3]).transpose(0, 1)
    return out, lse * (weights.scale * weights.temperature) + weights.bias


def _attend_each(
    packed: Tensor,
    pairs: Sequence[tuple[Tensor, Tensor]],
    scale: float,
    scratch: Scratch,
    attend: Attend,
) -> tuple[Tensor, Tensor]:
    """Attend for every request to keys and values of its own, stacked if they are small.

    Args:
        packed: queries, (requests, kv_heads, groups, head_dim).
        pairs: keys and values, (kv_heads, tokens, head_dim) each.
        scale: multiplies the logits.
        scratch: where intermediate results live.
        attend: as of `attend_batch`.
    """
    if all(keys.numel() * keys.itemsize <= STACKED_BYTES for keys, _ in pairs):
        return attend_stacked(packed, pairs, scale, scratch)
    outs, sums = [], []
    for query, (keys, values) in zip(packed, pairs, strict=True):
        out, lse, _ = attend(query, keys, values, scale, scratch)
        assert lse is not None
        outs.append(out)
        sums.append(lse)
    return torch.stack(outs), torch.stack(sums)


def attend_stacked(
    query: Tensor, pairs: Sequence[tuple[Tensor, Tensor]], scale: float, scratch: Scratch
) -> tuple[Tensor, Tensor]:
    """Softmax attention of every request's queries over its own keys, in one product for all.

    Logits and probabilities are rounded as `rag.generation.attention.attend` rounds them.

    Args:
        query: (requests, kv_heads, groups, head_dim): one token each.
        pairs: keys and values of each request, (kv_heads, tokens, head_dim), at least one token.
        scale: multiplies the logits.
        scratch: where intermediate results live.

    Returns:
        Output, like `query`, and natural-log log-sum-exp in float32 or better,
        (requests, kv_heads, groups).
    """
    requests, heads, groups, head_dim = query.shape
    lengths = [keys.shape[1] for keys, _ in pairs]
    most, batch = max(lengths), requests * heads
    stacked = []
    for which, name in enumerate(("stacked keys", "stacked values")):
        room = scratch.take(name, (requests, heads, most, head_dim), query, query.dtype)
        for row, pair, length in zip(room, pairs, lengths, strict=True):
            row[:, :length] = pair[which]
            row[:, length:] = 0
        stacked.append(room.view(batch, most, head_dim))
    wide = torch.promote_types(query.dtype, torch.float32)
    logits = scratch.take("stacked logits", (batch, groups, most), query, query.dtype)
    flat = query.reshape(batch, groups, head_dim)
    torch.baddbmm(logits, flat, stacked[0].transpose(1, 2), beta=0, alpha=scale, out=logits)
    if min(lengths) < most:
        for row, length in zip(logits.view(requests, -1, most), lengths, strict=True):
            row[:, length:] = -torch.inf
    weights = scratch.take("stacked weights", (batch, groups, most), query, wide)
    torch.softmax(logits, -1, dtype=wide, out=weights)
    lse = logits.amax(-1).to(wide) - weights.amax(-1).log()
    narrow = weights if wide == query.dtype else logits.copy_(weights)
    out = torch.bmm(narrow, stacked[1])
    return out.view(query.shape), lse.view(requests, heads, groups)

"""Attention over groups of keys that are softmaxed apart and merged by their log-sum-exp.

One registered function serves encoding, prefill and decoding of every mode: APE (arXiv 2502.05431)
weighs one group, sequential attention is the case of one group or of neutral weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from rag.errors import UnsupportedModelError
from rag.generation.fused_attention import fused, ragged, usable
from rag.generation.one_row import many_rows
from rag.generation.plan import ContextWeights
from rag.generation.scattered import ScatteredGroup, attend_contexts
from rag.generation.stacked import attend_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

IMPLEMENTATION: Final = "dovetail_segments"
QUERY_BLOCK: Final = 128
CACHED_LOGITS: Final = 1 << 17
LOGIT_BYTES: Final = 1 << 29
"""Logits in memory at once, at most, where no fused kernel does without them."""


@dataclass(frozen=True, slots=True)
class Group:
    """Keys and values of the context: cached passages, or passages computed anew.

    Attributes:
        keys: (kv_heads, tokens, head_dim), rotated to their positions; at least one token.
        values: the same shape.
        positions: int64 (tokens,), of the keys.
        visible: int64 (queries,): how many keys, from the first, each query sees; None means all.
        units: int64 (tokens,): the unit of `LayerKeys.mass` that each key counts for.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    visible: Tensor | None = None
    units: Tensor | None = None


@dataclass(frozen=True, slots=True)
class LayerKeys:
    """What a segment cache hands to the attention function in place of one layer's keys.

    Attributes:
        groups: the context. Its groups are joined first, as if they were one, and then weighed.
        tail_keys: (kv_heads, tokens, head_dim): the prefix and this request's own tokens.
        tail_values: the same shape.
        tail_positions: int64 (tokens,).
        own: how many of the last tail tokens are the queries' own: causal. Queries that stand in
            the context have none in the tail.
        query_positions: int64 (queries,).
        weights: T, S and b of the context.
        scratch: buffers that the layers of one forward pass share.
        mass: where the last query's attention to each unit is added: (heads, units), float32; None
            if nobody asks.
        tail_units: as `Group.units`.
    """

    groups: Sequence[Group | ScatteredGroup]
    tail_keys: Tensor
    tail_values: Tensor
    tail_positions: Tensor
    own: int
    query_positions: Tensor
    weights: ContextWeights
    scratch: Scratch
    mass: Tensor | None = None
    tail_units: Tensor | None = None


class Scratch:
    """Named buffers that grow and are reused: fresh pages cost more than the arithmetic on them."""

    def __init__(self) -> None:
        self._flat: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}
        self._future: dict[tuple[int, torch.device], Tensor] = {}

    def future(self, queries: int, device: torch.device) -> Tensor:
        """Return the keys that come after each query of a block: bool (queries, queries)."""
        mask = self._future.get((queries, device))
        if mask is None:
            mask = torch.ones(queries, queries, dtype=torch.bool, device=device).triu_(1)
            self._future = {(queries, device): mask}
        return mask

    def take(self, name: str, shape: Sequence[int], like: Tensor, dtype: torch.dtype) -> Tensor:
        """Return a contiguous uninitialised tensor; an earlier one of the same name is lost."""
        need = 1
        for size in shape:
            need *= size
        key = (name, dtype, like.device)
        flat = self._flat.get(key)
        if flat is None or flat.numel() < need:
            flat = torch.empty(need, dtype=dtype, device=like.device)
            self._flat[key] = flat
        return flat[:need].view(*shape)


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: float,
    scratch: Scratch,
    *,
    causal: int = 0,
    alone: bool = False,
    hidden: Tensor | None = None,
    softcap: float | None = None,
    temperature: float = 1.0,
    last: int = 0,
    units: tuple[Tensor, int] | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Softmax attention of all queries over all keys, with its log-sum-exp.

    Logits and probabilities are rounded to the inputs' dtype, as Hugging Face's eager attention
    does; softmax and log-sum-exp are computed in float32 or better. On CPUs two matrix products
    with reused buffers take half the time of the fused kernel for short queries.

    Args:
        query: (kv_heads, groups * queries, head_dim): grouped heads are rows of one product.
        keys: (kv_heads, tokens, head_dim), at least one token.
        values: the same shape.
        scale: multiplies the logits.
        scratch: where intermediate results live.
        causal: if positive, the number of queries, whose own keys are the last ones: query i does
            not see the keys of later queries.
        alone: whether nothing will be merged with the output: then no log-sum-exp is computed.
        hidden: bool (queries, tokens): keys that a query does not see. A query may see none: its
            output is 0 and its log-sum-exp minus infinity.
        softcap: c of c·tanh(logit / c), which comes before the temperature.
        temperature: T; logits are divided by it.
        last: number of queries, where `units` is given.
        units: for each key its unit, int64 (tokens,), and the number of units: asks for the last
            query's weight on each.

    Returns:
        Output (kv_heads, groups * queries, head_dim) in the inputs' dtype; natural-log log-sum-exp
        (kv_heads, groups * queries) in float32 or better, None if `alone`; and the weights by unit,
        (kv_heads, groups, units), None if nobody asks.
    """
    if hidden is None and units is None and not softcap:
        found = fused(query, keys, values, scale / temperature, causal)
        if found is not None:
            return found[0], None if alone else found[1], None
    products = _Products(
        query, keys, values, scale, scratch, causal, hidden, softcap, temperature, last, units
    )
    tokens = keys.shape[1]
    size = max(1, LOGIT_BYTES // products.bytes_per_key)
    if size + causal >= tokens:
        return products.attend(0, tokens, alone=alone)
    starts = [*range(0, max(1, tokens - causal), size)]
    blocks = [
        products.attend(start, end)
        for start, end in zip(starts, [*starts[1:], tokens], strict=True)
    ]
    return _join_blocks(blocks, last, query.dtype, alone=alone)


@dataclass(frozen=True, slots=True)
class _Products:
    """Attention by two matrix products and a softmax between them; fields as of `attend`."""

    query: Tensor
    keys: Tensor
    values: Tensor
    scale: float
    scratch: Scratch
    causal: int
    hidden: Tensor | None
    softcap: float | None
    temperature: float
    last: int
    units: tuple[Tensor, int] | None

    @property
    def step(self) -> int:
        """Heads at a time: one where results would not stay in a core's cache together."""
        heads, rows = self.query.shape[:2]
        few = rows * self.keys.shape[1] <= CACHED_LOGITS
        return heads if few or self.query.device.type != "cpu" else 1

    @property
    def bytes_per_key(self) -> int:
        """Bytes that the logits of one key take."""
        return self.step * self.query.shape[1] * self.query.element_size()

    def attend(
        self, start: int, end: int, *, alone: bool = False
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Attend to some of the keys; only the last ones can be the queries' own."""
        query, keys, values = self.query, self.keys[:, start:end], self.values[:, start:end]
        hidden = None if self.hidden is None else self.hidden[:, start:end]
        units = None if self.units is None else (self.units[0][start:end], self.units[1])
        causal = self.causal if end == self.keys.shape[1] else 0
        wide = torch.promote_types(query.dtype, torch.float32)
        heads, rows, tokens, step = *query.shape[:2], keys.shape[1], self.step
        out = torch.empty_like(query)
        lse = None if alone else query.new_empty(heads, rows, dtype=wide)
        seen = (
            None
            if units is None
            else query.new_zeros(heads, rows // self.last, units[1], dtype=wide)
        )
        logits = self.scratch.take("logits", (step, rows, tokens), query, query.dtype)
        dtype = query.dtype if alone else wide
        weights = self.scratch.take("weights", (step, rows, tokens), query, dtype)
        alpha = self.scale if self.softcap else self.scale / self.temperature
        for head in range(0, heads, step):
            these = slice(head, head + step)
            _write_logits(query[these], keys[these], alpha, logits, self.scratch)
            if self.softcap:
                logits.div_(self.softcap).tanh_().mul_(self.softcap / self.temperature)
            if causal:
                own = logits.view(step, -1, causal, tokens)[..., tokens - causal :]
                own.masked_fill_(self.scratch.future(causal, query.device), -torch.inf)
            if hidden is not None:
                logits.view(step, -1, *hidden.shape).masked_fill_(hidden, -torch.inf)
            torch.softmax(logits, -1, dtype=dtype, out=weights)
            if hidden is not None:
                weights.nan_to_num_(0.0)
            if lse is not None:
                # The largest weight is exp(0) over the partition sum: no other pass is needed.
                highest, largest = logits.amax(-1).to(wide), weights.amax(-1)
                torch.sub(highest, largest.log(), out=lse[these])
                if hidden is not None:
                    lse[these].nan_to_num_(-torch.inf, neginf=-torch.inf)
            if seen is not None and units is not None:
                of_last = weights.view(step, -1, self.last, tokens)[:, :, -1]
                seen[these].index_add_(-1, units[0], of_last.to(wide))
            narrow = weights if dtype == query.dtype else logits.copy_(weights)
            torch.bmm(narrow, values[these], out=out[these])
        return out, lse, seen


def _write_logits(query: Tensor, keys: Tensor, alpha: float, out: Tensor, scratch: Scratch) -> None:
    """Write alpha times the products of queries and keys: (kv_heads, rows, tokens)."""
    if keys.device.type == "cpu" and keys.dtype.itemsize == 2 and not keys.is_contiguous():
        # A batched product in half precision copies keys that are part of a larger buffer, and
        # transposes them slowly as it does so.
        keys = scratch.take("keys", keys.shape, keys, keys.dtype).copy_(keys)
    torch.baddbmm(out, query, keys.transpose(1, 2), beta=0, alpha=alpha, out=out)


def _join_blocks(
    blocks: Sequence[tuple[Tensor, Tensor | None, Tensor | None]],
    last: int,
    dtype: torch.dtype,
    *,
    alone: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Join what `attend` found in blocks of the keys into what it finds in all of them.

    Args:
        blocks: output, log-sum-exp, and weights by unit or None, of each block.
        last: as of `attend`.
        dtype: of the output.
        alone: as of `attend`.
    """
    out, joined = join([(part, lse) for part, lse, _ in blocks if lse is not None])
    total = None
    for _, lse, seen in blocks:
        if seen is not None and lse is not None:
            share = (lse - joined).exp().nan_to_num_(0.0).view(len(lse), -1, last)[..., -1:]
            total = seen * share if total is None else total + seen * share
    return out.to(dtype), None if alone else joined, total


def join(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Join attention outputs over disjoint groups of keys into that over their union.

    Args:
        parts: outputs (..., head_dim) and log-sum-exps (...); at least one.

    Returns:
        Output, in the wider of the dtypes, and log-sum-exp over the union.
    """
    if len(parts) == 1:
        return parts[0]
    lse = torch.stack([part for _, part in parts])  # (groups, ...)
    joined = torch.logsumexp(lse, 0)
    # A query that sees no key of any group has weight 0 in all of them.
    weights = (lse - joined).exp().nan_to_num_(0.0).unsqueeze(-1)
    total = parts[0][0] * weights[0]
    for (out, _), weight in zip(parts[1:], weights[1:], strict=True):
        total = torch.addcmul(total, out.to(total.dtype), weight)
    return total, joined


def segment_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: LayerKeys | tuple[LayerKeys, ...] | Tensor,
    value: Tensor | None,  # noqa: ARG001 - the values travel inside LayerKeys
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend to the groups and the tail of a `LayerKeys`: the registered function.

    Args:
        module: the attention module that calls.
        query: (1, heads, queries, head_dim), rotated.
        key: what a cache returned from its update: of one request, or of each request of a batch,
            whose queries stand one after another.
        value: unused.
        attention_mask: must be None; what is visible is decided by the groups.
        scaling: logit scale; None means 1/sqrt(head_dim).
        dropout: must be 0.
        **kwargs: passed by the model: `softcap`, `sliding_window` (a key is seen from fewer
            positions away than that) and `s_aux` (sinks: one logit a head, of nothing) are obeyed;
            others that would change the result are refused.

    Returns:
        Output (1, queries, heads, head_dim) and None for the weights.

    Raises:
        UnsupportedModelError: without a segment cache, or for features that are not proven here.
    """
    rows = (key,) if isinstance(key, LayerKeys) else key
    if not isinstance(rows, tuple):
        raise UnsupportedModelError(
            "this model is prepared for segment caches: call it through the engine, "
            "or model.set_attn_implementation('sdpa') first"
        )
    refused = {name for name in ("position_bias",) if kwargs.get(name) is not None}
    counts = [keys.query_positions.shape[0] for keys in rows]
    packed = query.shape[0] == 1 and query.shape[2] == sum(counts)
    if attention_mask is not None or dropout or refused or not packed:
        raise UnsupportedModelError(
            f"{type(module).__name__} asks for attention that KV reuse does not support: "
            f"mask {attention_mask is not None}, dropout {dropout}, batch {query.shape[0]} with "
            f"{query.shape[2]} queries for {sum(counts)}, {sorted(refused)}"
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    way = _Way(scale, kwargs.get("softcap"), kwargs.get("sliding_window"), kwargs.get("s_aux"))
    # Keys are many rows, even if a single query multiplies them.
    with many_rows(query.device, query.dtype):
        return _attend_rows(query, rows, counts, way), None


def _attend_rows(
    query: Tensor, rows: tuple[LayerKeys, ...], counts: list[int], way: _Way
) -> Tensor:
    """Attend for all requests of a batch: (1, all queries, heads, head_dim).

    Args:
        query: (1, heads, all queries, head_dim), those of each request side by side.
        rows: one a request, at least one.
        counts: queries of each.
        way: how the layer attends.
    """
    if len(rows) == 1:
        return _attend_row(query, rows[0], way)
    together = _attend_together(query, rows, way)
    plain = way.softcap is None and way.window is None and way.sinks is None
    if together is None and plain and query.device.type == "cpu":
        together = attend_batch(query, rows, way.scale, attend)
    if together is not None:
        return together
    parts = zip(torch.split(query, counts, 2), rows, strict=True)
    return torch.cat([_attend_row(part, keys, way) for part, keys in parts], 1)


@dataclass(frozen=True, slots=True)
class _Way:
    """How a layer attends: the same for every query."""

    scale: float
    softcap: float | None
    window: int | None
    sinks: Tensor | None


def _attend_together(query: Tensor, rows: tuple[LayerKeys, ...], way: _Way) -> Tensor | None:
    """Attend for a batch in a few passes for all; None where there is no kernel for what it asks.

    Args:
        query: (1, heads, all queries, head_dim), those of each request side by side.
        rows: one a request.
        way: how the layer attends.

    Returns:
        (1, all queries, heads, head_dim).
    """
    if way.softcap or way.window is not None or way.sinks is not None or not usable(query):
        return None
    first, queries = rows[0], [len(row.query_positions) for row in rows]
    for row, count in zip(rows, queries, strict=True):
        if row.own != count or row.mass is not None or row.weights != first.weights:
            return None
    groups = [group for row in rows for group in row.groups if isinstance(group, ScatteredGroup)]
    one_each = len(groups) == len(rows) and all(len(row.groups) == 1 for row in rows)
    if not one_each and any(row.groups for row in rows):
        return None
    _, heads, total, dim = query.shape
    kv_heads = first.tail_keys.shape[0]
    shape = kv_heads, heads // kv_heads, total
    parts = []
    if groups:
        packed = query[0].reshape(*shape, dim).transpose(1, 2).reshape(kv_heads, -1, dim)
        begin = tuple(accumulate((count * shape[1] for count in queries), initial=0))
        weights = first.weights
        context = attend_contexts(packed, begin, groups, way.scale / weights.temperature)
        if context is None:
            return None
        lse = context[1] * (weights.scale * weights.temperature) + weights.bias
        by_query = kv_heads, total, shape[1]
        parts.append((context[0].view(*by_query, dim), lse.view(by_query)))
    tails = [row.tail_keys for row in rows], [row.tail_values for row in rows]
    own = ragged(query[0].transpose(0, 1), *tails, queries, way.scale)
    if own is None:
        return None
    out = own[0].reshape(total, *shape[:2], dim).transpose(0, 1)
    joined, _ = join([*parts, (out, own[1].reshape(shape).transpose(1, 2))])
    return joined.to(query.dtype).transpose(0, 1).reshape(1, total, heads, dim)


def _attend_row(query: Tensor, key: LayerKeys, way: _Way) -> Tensor:
    """Attend for one request, in blocks of queries: (1, queries, heads, head_dim)."""
    queries = query.shape[2]
    if queries <= QUERY_BLOCK or usable(query):
        return _attend_block(query, key, way)
    before = key.tail_keys.shape[1] - key.own
    blocks = []
    for start in range(0, queries, QUERY_BLOCK):
        block = query[:, :, start : start + QUERY_BLOCK]
        end = start + block.shape[2]
        tail = before + min(end, key.own)
        part = replace(
            key,
            groups=[
                replace(group, visible=group.visible[start:end])
                if isinstance(group, Group) and group.visible is not None
                else group
                for group in key.groups
            ],
            tail_keys=key.tail_keys[:, :tail],
            tail_values=key.tail_values[:, :tail],
            tail_positions=key.tail_positions[:tail],
            own=block.shape[2] if key.own else 0,
            query_positions=key.query_positions[start:end],
            mass=key.mass if end == queries else None,
            tail_units=None if key.tail_units is None else key.tail_units[:tail],
        )
        blocks.append(_attend_block(block, part, way))
    return torch.cat(blocks, 1)


def _attend_block(query: Tensor, key: LayerKeys, way: _Way) -> Tensor:
    """Attend to the groups and the tail, the last of which may be the queries' own.

    Args:
        query: (1, heads, queries, head_dim).
        key: the layer's keys.
        way: how the layer attends.

    Returns:
        (1, queries, heads, head_dim).
    """
    _, heads, queries, head_dim = query.shape
    kv_heads = key.tail_keys.shape[0]
    packed = query.reshape(kv_heads, heads // kv_heads * queries, head_dim)
    watched = 0 if key.mass is None else key.mass.shape[-1]
    weights = key.weights
    context: list[tuple[Tensor, Tensor]] = []
    seen: list[tuple[Tensor, Tensor | None]] = []
    for group in key.groups:
        out, lse, units = _attend_group(packed, key, group, way)
        context.append((out, lse))
        seen.append((lse, units))
    parts = []
    if context:
        out, joined = join(context)
        weighed = joined * (weights.scale * weights.temperature) + weights.bias
        parts.append((out, weighed))
        seen = [(lse - joined + weighed, units) for lse, units in seen]
    if key.tail_keys.shape[1]:
        own, own_lse, units = attend(
            packed,
            key.tail_keys,
            key.tail_values,
            way.scale,
            key.scratch,
            causal=key.own if key.own > 1 else 0,
            alone=not parts and way.sinks is None and not watched,
            hidden=_hidden(key.query_positions, key.tail_positions, way.window),
            softcap=way.softcap,
            last=queries,
            units=(key.tail_units, watched) if watched and key.tail_units is not None else None,
        )
        if own_lse is None:
            return own.view(1, heads, queries, head_dim).transpose(1, 2)
        parts.append((own, own_lse))
        seen.append((own_lse, units))
    if way.sinks is not None:
        sink = way.sinks.to(parts[0][1]).view(kv_heads, -1, 1).expand(-1, -1, queries)
        parts.append((torch.zeros_like(packed), sink.reshape(parts[0][1].shape)))
    total, everything = join(parts)
    if key.mass is not None:
        _add_mass(key.mass, queries, everything, seen)
    return total.to(query.dtype).view(1, heads, queries, head_dim).transpose(1, 2)


def _attend_group(
    packed: Tensor, key: LayerKeys, group: Group | ScatteredGroup, way: _Way
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Attend to one group of the context: output, log-sum-exp, and weights by unit if asked for.

    Args:
        packed: queries, (kv_heads, groups * queries, head_dim).
        key: the layer's keys.
        group: one of its groups.
        way: how the layer attends.
    """
    watched = key.mass is not None and group.units is not None
    hidden = _hidden(key.query_positions, group.positions, way.window, group.visible)
    temperature = key.weights.temperature
    if isinstance(group, ScatteredGroup) and hidden is None and not watched and not way.softcap:
        found = group.attend(packed, way.scale / temperature)
        if found is not None:
            return *found, None
    units = None
    if key.mass is not None and group.units is not None:
        units = group.units, key.mass.shape[-1]
    out, lse, seen = attend(
        packed,
        group.keys,
        group.values,
        way.scale,
        key.scratch,
        hidden=hidden,
        softcap=way.softcap,
        temperature=temperature,
        last=len(key.query_positions),
        units=units,
    )
    assert lse is not None
    return out, lse, seen


def _add_mass(
    mass: Tensor,
    queries: int,
    everything: Tensor,
    parts: Sequence[tuple[Tensor, Tensor | None]],
) -> None:
    """Add the last query's attention to each unit: its weight in a group times the group's.

    Args:
        mass: (heads, units).
        queries: how many there are.
        everything: log-sum-exp over all keys, (kv_heads, groups * queries).
        parts: weighed log-sum-exps of groups of keys, and the weights by unit within them.
    """
    for lse, units in parts:
        if units is not None:
            # Where nothing of the context is within the window there is nothing to share.
            share = (lse - everything).exp().nan_to_num(0.0).view(len(lse), -1, queries)[..., -1:]
            mass += (units * share).reshape(mass.shape).to(mass)


def _hidden(
    queries: Tensor, keys: Tensor, window: int | None, visible: Tensor | None = None
) -> Tensor | None:
    """Return which keys a query does not see, bool (queries, tokens); None if it sees all.

    Args:
        queries: positions, int64 (queries,).
        keys: positions, int64 (tokens,).
        window: a key so many positions away, or more, is not seen; None means no limit.
        visible: as of `Group`.
    """
    hidden = None
    if window is not None and int(queries.max() - keys.min()) >= window:
        hidden = queries[:, None] - keys >= window
    if visible is not None:
        later = torch.arange(len(keys), device=keys.device) >= visible[:, None]
        hidden = later if hidden is None else hidden | later
    return hidden


def register() -> None:
    """Make the function known to transformers; again is harmless."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(IMPLEMENTATION, segment_attention)
    AttentionMaskInterface.register(IMPLEMENTATION, lambda *_args, **_kwargs: None)

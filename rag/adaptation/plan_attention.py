"""Differentiable attention of a packed row: groups of blocks, each over its own columns.

Two matrix products with a softmax between them, rather than a fused kernel: on CPUs the backward
pass of PyTorch's fused attention in bfloat16 took up to 40 times as long as that of the products
for blocks of a few hundred tokens. Context and all else of a query are merged in one softmax.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from rag.adaptation.plan_groups import Group, groups
from rag.adaptation.plan_layout import PlanLayout
from rag.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rag.generation.rope import Rotary

IMPLEMENTATION: Final = "dovetail_plans"


@dataclass(frozen=True, slots=True)
class _Way:
    """How a layer attends: the same for every query."""

    scale: float
    softcap: float | None
    window: int | None
    sinks: Tensor | None


@dataclass(frozen=True, slots=True)
class _Mask:
    """What the queries of a group do not see, for all query heads of a key's head.

    Attributes:
        logits: 0 or minus infinity, (kv_heads * blocks or 1, heads per key * queries, columns).
        blind: queries that see no weighed column, bool (kv_heads * blocks or 1, heads per key *
            queries, 1); None if there are none.
    """

    logits: Tensor
    blind: Tensor | None


class LayoutAttention:
    """Attends as a layout says, in any layer of a model.

    Index tensors, rotary tables and masks are made once, and serve all layers, and those that are
    computed anew for a backward pass.
    """

    def __init__(
        self, layout: PlanLayout, rotary: Rotary, dtype: torch.dtype, *, together: bool
    ) -> None:
        """Prepare.

        Args:
            layout: of the pass.
            rotary: of the model.
            dtype: of the model's hidden states.
            together: whether blocks of like sizes are computed together, padded.
        """
        self._layout = layout
        self._rotary = rotary
        self._tables = rotary.tables(layout.moved_positions, dtype) if len(layout.moved) else {}
        self._groups = groups(layout, together=together)
        self._columns = torch.cat([group.columns for group in self._groups])
        self._column_rows = torch.cat([group.column_rows for group in self._groups])
        shapes = [group.shape for group in self._groups]
        self._query_counts = [blocks * queries for blocks, queries, _ in shapes]
        self._column_counts = [blocks * columns for blocks, _, columns in shapes]
        self._order: tuple[Tensor, Tensor] | None = None
        if together:
            rows = torch.cat([group.rows for group in self._groups])
            # Where rows are padded, any of their equal outputs may come back.
            back = torch.empty_like(layout.token_ids)
            back[rows] = torch.arange(len(rows), device=rows.device)
            self._order = rows, back
        self._masks: dict[tuple[int, int | None, torch.dtype, int, int], _Mask] = {}

    def attend(
        self,
        layer: int,
        before_rope: Tensor,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        way: _Way,
    ) -> Tensor:
        """Return the outputs of all queries: (tokens, heads, head_dim).

        Args:
            layer: its number.
            before_rope: keys before RoPE, (tokens, kv_heads, head_dim).
            query: (heads, tokens, head_dim), rotated.
            keys: (kv_heads, tokens, head_dim), rotated.
            values: the same shape.
            way: how the layer attends.
        """
        layout = self._layout
        bank = keys
        if len(layout.moved):
            moved = self._rotary.rotate_layer(before_rope[layout.moved], layer, self._tables)
            bank = torch.cat([keys, moved.to(keys.dtype)], 1)
        if self._order is not None:
            query = query.index_select(1, self._order[0])
        all_queries = torch.split(query, self._query_counts, 1)
        all_keys = torch.split(bank.index_select(1, self._columns), self._column_counts, 1)
        all_values = torch.split(values.index_select(1, self._column_rows), self._column_counts, 1)
        heads, kv_heads, dim = len(query), len(keys), query.shape[-1]
        share = heads // kv_heads
        outputs = []
        for number, group in enumerate(self._groups):
            blocks, queries, _ = group.shape
            by_head = all_queries[number].view(kv_heads, share, blocks, queries, dim)
            out = _attend(
                by_head.transpose(1, 2).reshape(kv_heads * blocks, share * queries, dim),
                all_keys[number].reshape(kv_heads * blocks, -1, dim),
                all_values[number].reshape(kv_heads * blocks, -1, dim),
                group,
                self._mask(number, way.window, query.dtype, share, kv_heads),
                way,
            )
            by_block = out.view(kv_heads, blocks, share, queries, dim).permute(1, 3, 0, 2, 4)
            outputs.append(by_block.reshape(blocks * queries, heads, dim))
        found = torch.cat(outputs)
        return found if self._order is None else found.index_select(0, self._order[1])

    def _mask(
        self, number: int, window: int | None, dtype: torch.dtype, share: int, kv_heads: int
    ) -> _Mask:
        key = number, window, dtype, share, kv_heads
        if key not in self._masks:
            group = self._groups[number]
            hidden = group.hidden(window).repeat(1, share, 1)
            if len(hidden) > 1:
                hidden = hidden.repeat(kv_heads, 1, 1)
            logits = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            blind = hidden[..., : group.context].all(-1, keepdim=True)
            some = bool(group.context) and bool(blind.any())
            self._masks[key] = _Mask(
                logits.masked_fill_(hidden, -torch.inf), blind if some else None
            )
        return self._masks[key]


def _attend(
    query: Tensor, keys: Tensor, values: Tensor, group: Group, mask: _Mask, way: _Way
) -> Tensor:
    """Attend for one group: (kv_heads * blocks, heads per key * queries, head_dim).

    Logits and probabilities are rounded to the inputs' dtype where nothing but scaling and masking
    is asked for; else they are taken in float32 or better.

    Args:
        query: (kv_heads * blocks, heads per key * queries, head_dim).
        keys: (kv_heads * blocks, columns, head_dim).
        values: the same shape.
        group: says which columns are weighed, and how.
        mask: what is not seen.
        way: how the layer attends.
    """
    if not group.context and not way.softcap and way.sinks is None:
        logits = torch.baddbmm(mask.logits, query, keys.transpose(1, 2), alpha=way.scale)
        return torch.bmm(torch.softmax(logits, -1).to(values.dtype), values)
    wide = torch.promote_types(query.dtype, torch.float32)
    logits = torch.bmm(query, keys.transpose(1, 2)).to(wide) * way.scale
    if way.softcap:
        logits = way.softcap * torch.tanh(logits / way.softcap)
    logits = _weighed(logits, group, mask) if group.context else logits + mask.logits
    if way.sinks is not None:
        shares = torch.softmax(torch.cat([logits, _of_sinks(way.sinks, group, logits)], -1), -1)
        shares = shares[..., :-1]
    else:
        shares = torch.softmax(logits, -1)
    return torch.bmm(shares.to(values.dtype), values)


def _of_sinks(sinks: Tensor, group: Group, logits: Tensor) -> Tensor:
    """Return the logit of nothing for each query, by its head: a last column."""
    blocks, queries, _ = group.shape
    kv_heads = len(logits) // blocks
    by_head = sinks.to(logits.dtype).view(kv_heads, 1, -1, 1)
    return by_head.expand(-1, blocks, -1, queries).reshape(*logits.shape[:2], 1)


def _weighed(logits: Tensor, group: Group, mask: _Mask) -> Tensor:
    """Return masked logits of which one softmax is the weighed merge of context and all else.

    A context log-sum-exp l at temperature T counts as S·T·l + b: that much more than l is added to
    each logit of the context.
    """
    weights = group.weights
    context = logits[..., : group.context] / weights.temperature
    context = context + mask.logits[..., : group.context]
    seen = context if mask.blind is None else context.masked_fill(mask.blind, 0.0)
    lse = torch.logsumexp(seen, -1, keepdim=True)
    more = (weights.scale * weights.temperature - 1.0) * lse + weights.bias
    rest = logits[..., group.context :] + mask.logits[..., group.context :]
    return torch.cat([context + more, rest], -1)


@dataclass(frozen=True, slots=True)
class _Layer:
    """What the registered function needs to know of the layer that calls it."""

    number: int
    attention: LayoutAttention
    before_rope: Mapping[int, Tensor]


_LAYERS: WeakKeyDictionary[nn.Module, _Layer] = WeakKeyDictionary()
"""By attention module, as long as a pass runs or is computed anew."""


@contextmanager
def attending(model: Any, rotary: Rotary, attention: LayoutAttention) -> Iterator[None]:
    """Let a model attend by a layout, and put back afterwards how it attended before.

    Args:
        model: a causal language model of transformers.
        rotary: of the model.
        attention: of the layout.
    """
    modules = [layer.self_attn for layer in model.get_decoder().layers]
    before = model.config._attn_implementation  # noqa: SLF001 - there is no public getter
    outer = {module: _LAYERS[module] for module in modules if module in _LAYERS}
    try:
        model.set_attn_implementation(IMPLEMENTATION)
        with rotary.latest() as keys:
            for number, module in enumerate(modules):
                _LAYERS[module] = _Layer(number, attention, keys)
            yield
    finally:
        for module in modules:
            _LAYERS.pop(module, None)
        _LAYERS.update(outer)
        model.set_attn_implementation(before)


def plan_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend by the layout of the pass that runs: the registered function.

    Args:
        module: the attention module that calls.
        query: (1, heads, tokens, head_dim), rotated.
        key: (1, kv_heads, tokens, head_dim), rotated.
        value: the same shape.
        attention_mask: must be None; what is visible is decided by the layout.
        scaling: logit scale; None means 1/sqrt(head_dim).
        dropout: must be 0.
        **kwargs: passed by the model: `softcap`, `sliding_window` (a key is seen from fewer
            positions away than that) and `s_aux` (sinks: one logit a head, of nothing) are obeyed.

    Returns:
        Output (1, tokens, heads, head_dim) and None for the weights.

    Raises:
        UnsupportedModelError: outside of a pass, or for features that are not proven here.
    """
    layer = _LAYERS.get(module)
    if layer is None:
        raise UnsupportedModelError(
            "this model is prepared for passes over encoding plans: call it through PlanPass, "
            "or model.set_attn_implementation('sdpa') first"
        )
    refused = {name for name in ("position_bias",) if kwargs.get(name) is not None}
    if attention_mask is not None or dropout or refused or len(query) != 1:
        raise UnsupportedModelError(
            f"{type(module).__name__} asks for attention that training over plans does not "
            f"support: mask {attention_mask is not None}, dropout {dropout}, batch {len(query)}, "
            f"{sorted(refused)}"
        )
    way = _Way(
        query.shape[-1] ** -0.5 if scaling is None else scaling,
        kwargs.get("softcap"),
        kwargs.get("sliding_window"),
        kwargs.get("s_aux"),
    )
    before_rope = layer.before_rope[layer.number]
    out = layer.attention.attend(layer.number, before_rope, query[0], key[0], value[0], way)
    return out[None], None


def register() -> None:
    """Make the function known to transformers; again is harmless."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(IMPLEMENTATION, plan_attention)
    AttentionMaskInterface.register(IMPLEMENTATION, lambda *_args, **_kwargs: None)

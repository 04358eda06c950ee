"""Attention over groups of keys that are softmaxed apart and merged by their log-sum-exp.

One registered function serves encoding, prefill and decoding of every mode: APE (arXiv 2502.05431)
weighs one group, sequential attention is the case of one group or of neutral weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from rag.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

IMPLEMENTATION: Final = "dovetail_segments"
QUERY_BLOCK: Final = 128
CACHED_LOGITS: Final = 1 << 17


@dataclass(frozen=True, slots=True)
class Group:
    """Keys and values that every query attends to without a mask.

    Attributes:
        keys: (kv_heads, tokens, head_dim), rotated to their positions; at least one token.
        values: the same shape.
        temperature: T; logits are divided by it.
        lse_scale: S·T; multiplies the group's log-sum-exp before the merge.
        lse_bias: b; added to it.
    """

    keys: Tensor
    values: Tensor
    temperature: float = 1.0
    lse_scale: float = 1.0
    lse_bias: float = 0.0


@dataclass(frozen=True, slots=True)
class LayerKeys:
    """What a segment cache hands to the attention function in place of one layer's keys.

    Attributes:
        groups: cached context, fully visible to every query.
        tail_keys: (kv_heads, tokens, head_dim): the prefix and this request's own tokens, new ones
            last; causal.
        tail_values: the same shape.
        scratch: buffers that the layers of one forward pass share.
    """

    groups: Sequence[Group]
    tail_keys: Tensor
    tail_values: Tensor
    scratch: Scratch


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
) -> tuple[Tensor, Tensor | None]:
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

    Returns:
        Output (kv_heads, groups * queries, head_dim) in the inputs' dtype and natural-log
        log-sum-exp (kv_heads, groups * queries) in float32 or better; None if `alone`.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    heads, rows, tokens = query.shape[0], query.shape[1], keys.shape[1]
    # One head at a time while intermediate results would not stay in a core's cache together.
    step = 1 if query.device.type == "cpu" and rows * tokens > CACHED_LOGITS else heads
    out = torch.empty_like(query)
    lse = None if alone else query.new_empty(heads, rows, dtype=wide)
    logits = scratch.take("logits", (step, rows, tokens), query, query.dtype)
    dtype = query.dtype if alone else wide
    weights = scratch.take("weights", (step, rows, tokens), query, dtype)
    for head in range(0, heads, step):
        these = slice(head, head + step)
        torch.baddbmm(
            logits, query[these], keys[these].transpose(1, 2), beta=0, alpha=scale, out=logits
        )
        if causal:
            own = logits.view(step, -1, causal, tokens)[..., tokens - causal :]
            own.masked_fill_(scratch.future(causal, query.device), -torch.inf)
        torch.softmax(logits, -1, dtype=dtype, out=weights)
        if lse is not None:
            # The largest weight is exp(0) over the partition sum: no other pass is needed.
            highest, largest = logits.amax(-1).to(wide), weights.amax(-1)
            torch.sub(highest, largest.log(), out=lse[these])
        narrow = weights if dtype == query.dtype else logits.copy_(weights)
        torch.bmm(narrow, values[these], out=out[these])
    return out, lse


def merge(parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Join attention outputs over disjoint key groups by their log-sum-exp.

    Args:
        parts: outputs (..., head_dim) and log-sum-exps (...); at least one.

    Returns:
        The output over the union of the groups, in the wider of the dtypes.
    """
    lse = torch.stack([part for _, part in parts])  # (groups, ...)
    weights = torch.softmax(lse, 0).unsqueeze(-1)
    total = parts[0][0] * weights[0]
    for (out, _), weight in zip(parts[1:], weights[1:], strict=True):
        total = torch.addcmul(total, out.to(total.dtype), weight)
    return total


def segment_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: LayerKeys | Tensor,
    value: Tensor | None,  # noqa: ARG001 - the values travel inside LayerKeys
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend to the groups and the causal tail of a `LayerKeys`: the registered function.

    Args:
        module: the attention module that calls.
        query: (1, heads, queries, head_dim), rotated.
        key: what `SegmentCache` returned from its update.
        value: unused.
        attention_mask: must be None; what is visible is decided by the groups.
        scaling: logit scale; None means 1/sqrt(head_dim).
        dropout: must be 0.
        **kwargs: passed by the model; those that would change the result are refused.

    Returns:
        Output (1, queries, heads, head_dim) and None for the weights.

    Raises:
        UnsupportedModelError: without a segment cache, or for features that are not proven here.
    """
    if not isinstance(key, LayerKeys):
        raise UnsupportedModelError(
            "this model is prepared for segment caches: call it through the engine, "
            "or model.set_attn_implementation('sdpa') first"
        )
    refused = {
        name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None
    }
    if attention_mask is not None or dropout or refused or query.shape[0] != 1:
        raise UnsupportedModelError(
            f"{type(module).__name__} asks for attention that KV reuse does not support: "
            f"mask {attention_mask is not None}, dropout {dropout}, batch {query.shape[0]}, "
            f"{sorted(refused)}"
        )
    queries = query.shape[2]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if queries <= QUERY_BLOCK:
        return _attend_block(query, key, key.tail_keys.shape[1], scale), None
    past = key.tail_keys.shape[1] - queries
    blocks = []
    for start in range(0, queries, QUERY_BLOCK):
        block = query[:, :, start : start + QUERY_BLOCK]
        blocks.append(_attend_block(block, key, past + start + block.shape[2], scale))
    return torch.cat(blocks, 1), None


def _attend_block(query: Tensor, key: LayerKeys, tail: int, scale: float) -> Tensor:
    """Attend to the groups and the first `tail` tail keys, the last of which are the queries' own.

    Args:
        query: (1, heads, queries, head_dim).
        key: the layer's keys.
        tail: tail tokens visible to the last query.
        scale: logit scale.

    Returns:
        (1, queries, heads, head_dim).
    """
    _, heads, queries, head_dim = query.shape
    kv_heads = key.tail_keys.shape[0]
    packed = query.reshape(kv_heads, heads // kv_heads * queries, head_dim)
    parts = []
    for group in key.groups:
        out, lse = attend(packed, group.keys, group.values, scale / group.temperature, key.scratch)
        assert lse is not None
        parts.append((out, lse * group.lse_scale + group.lse_bias))
    own, lse = attend(
        packed,
        key.tail_keys[:, :tail],
        key.tail_values[:, :tail],
        scale,
        key.scratch,
        causal=queries if queries > 1 else 0,
        alone=not parts,
    )
    if lse is not None:
        own = merge([*parts, (own, lse)]).to(query.dtype)
    return own.view(1, heads, queries, head_dim).transpose(1, 2)


def register() -> None:
    """Make the function known to transformers; again is harmless."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(IMPLEMENTATION, segment_attention)
    AttentionMaskInterface.register(IMPLEMENTATION, lambda *_args, **_kwargs: None)

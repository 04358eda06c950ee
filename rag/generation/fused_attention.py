"""Attention by fused kernels on CUDA: no logits in memory, and the log-sum-exp for merging.

Each kernel proves itself once for a device, dtype and head dimension, against two matrix products
on a few tokens; one that raises or is wrong is never used. PyTorch's versions differ in what they
offer and return, so that nothing is read from a version number.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import accumulate
from typing import Any, Final

import torch
from torch import Tensor

HALF: Final = (torch.bfloat16, torch.float16)

Kernel = Callable[[Tensor, Tensor, Tensor, float, int], tuple[Tensor, Tensor]]
"""(query, keys, values, scale, causal) -> output and log-sum-exp, as of `fused`."""


def fused(
    query: Tensor, keys: Tensor, values: Tensor, scale: float, causal: int
) -> tuple[Tensor, Tensor] | None:
    """Attend by the first kernel that works here; None if there is none.

    Args:
        query: (kv_heads, groups * queries, head_dim): grouped heads are rows.
        keys: (kv_heads, tokens, head_dim), at least one token.
        values: the same shape.
        scale: multiplies the logits.
        causal: as of `rag.generation.attention.attend`.

    Returns:
        Output, like `query`, and the natural-log log-sum-exp, float32 (kv_heads, groups * queries).
    """
    if not usable(query):
        return None
    for kernel in KERNELS:
        if proven(kernel, query.device, query.dtype, query.shape[-1]):
            return kernel(query, keys, values, scale, causal)
    return None


def usable(query: Tensor) -> bool:
    """Return whether tensors like this are what fused kernels are made for."""
    dim = query.shape[-1]
    return query.is_cuda and query.dtype in HALF and dim % 8 == 0 and dim <= 256


def by_flash(
    query: Tensor, keys: Tensor, values: Tensor, scale: float, causal: int
) -> tuple[Tensor, Tensor]:
    """Attend by PyTorch's FlashAttention-2, which splits long keys among processors by itself.

    Arguments are as of `fused`.
    """
    heads = _by_token(query, causal)[None]
    out, lse, *_ = torch.ops.aten._flash_attention_forward(  # noqa: SLF001 - the public call keeps no log-sum-exp
        heads,
        keys.transpose(0, 1)[None],
        values.transpose(0, 1)[None],
        None,
        None,
        heads.shape[1],
        keys.shape[1],
        0.0,
        causal > 0,
        False,
        scale=scale,
    )
    return _as_rows(out[0], query), lse[0].reshape(query.shape[:2])


def by_varlen(
    query: Tensor, keys: Tensor, values: Tensor, scale: float, causal: int
) -> tuple[Tensor, Tensor]:
    """Attend by `torch.nn.attention.varlen`, the public name of the same kernel (torch 2.13).

    Arguments are as of `fused`.

    Raises:
        RuntimeError: if this PyTorch's function does not return a log-sum-exp or take a scale.
    """
    call, options = _varlen()
    heads = _by_token(query, causal)
    if "enable_gqa" in options:
        options = {**options, "enable_gqa": heads.shape[1] != keys.shape[0]}
    ends = [torch.tensor([0, n], dtype=torch.int32) for n in (len(heads), keys.shape[1])]
    out, lse = call(
        heads,
        keys.transpose(0, 1),
        values.transpose(0, 1),
        *(end.to(query.device) for end in ends),
        len(heads),
        keys.shape[1],
        scale=scale,
        window_size=(-1, 0) if causal else (-1, -1),
        **options,
    )
    if lse.shape != heads.shape[1::-1]:
        lse = lse.transpose(0, 1)
    return _as_rows(out, query), lse.reshape(query.shape[:2])


def ragged(
    query: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    queries: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor] | None:
    """Attend for several requests in one call, causally: their own keys are the last ones.

    Args:
        query: (all queries, heads, head_dim), those of each request side by side.
        keys: one a request, (kv_heads, tokens, head_dim).
        values: the same shapes.
        queries: how many each request has, at least 1 and at most its tokens.
        scale: multiplies the logits.

    Returns:
        Output like `query`, and natural-log log-sum-exp, float32 (heads, all queries); None if
        there is no kernel for it.
    """
    if not usable(query) or not _ragged_proven(query.device, query.dtype, query.shape[-1]):
        return None
    return _ragged(query, keys, values, queries, scale)


def _ragged(
    query: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    queries: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor]:
    tokens = [one.shape[1] for one in keys]
    out, lse, *_ = torch.ops.aten._flash_attention_forward(  # noqa: SLF001 - as in `by_flash`
        query,
        torch.cat([*keys], 1).transpose(0, 1),
        torch.cat([*values], 1).transpose(0, 1),
        on_device((0, *accumulate(queries)), query.device),
        on_device((0, *accumulate(tokens)), query.device),
        max(queries),
        max(tokens),
        0.0,
        True,
        False,
        scale=scale,
    )
    return out, lse


@cache
def _ragged_proven(device: torch.device, dtype: torch.dtype, dim: int) -> bool:
    """Return whether several requests in one call get what each gets alone."""
    generator = torch.Generator().manual_seed(0)
    queries, tokens = (1, 4, 3), (5, 4, 70)
    query, *rest = (
        torch.randn(2, n, dim, generator=generator).to(device, dtype)
        for n in (24, *tokens, *tokens)
    )
    by_head = query.reshape(6, 8, dim)
    keys, values = rest[:3], rest[3:]
    try:
        out, lse = _ragged(by_head.transpose(0, 1), keys, values, queries, dim**-0.5)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return False
    at = 0
    for count, k, v in zip(queries, keys, values, strict=True):
        these = slice(at, at + count)
        rows = by_head[:, these].reshape(2, 3 * count, dim)
        want = by_products(rows, k, v, dim**-0.5, count)
        of_these = out[these].transpose(0, 1).reshape(want[0].shape), lse[:, these]
        if not _close((of_these[0], of_these[1].reshape(want[1].shape)), want):
            return False
        at += count
    return True


@lru_cache(maxsize=64)
def on_device(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """Return int32 numbers on a device; the layers of a pass ask for the same ones."""
    return torch.tensor(numbers, dtype=torch.int32).to(device)


KERNELS: Final[tuple[Kernel, ...]] = (by_flash, by_varlen)
"""In the order of preference: the first splits keys, so that one question keeps a GPU busy."""


@cache
def _varlen() -> tuple[Any, dict[str, Any]]:
    """Return PyTorch's function and how to ask it for the log-sum-exp."""
    try:
        from torch.nn.attention import varlen
    except ImportError as error:
        raise RuntimeError("this PyTorch has no torch.nn.attention.varlen") from error
    known = inspect.signature(varlen.varlen_attn).parameters
    if not {"return_aux", "scale", "window_size"} <= known.keys():
        raise RuntimeError(f"varlen_attn takes only {', '.join(known)}")
    options: dict[str, Any] = {"return_aux": varlen.AuxRequest(lse=True)}
    if "enable_gqa" in known:
        options["enable_gqa"] = False
    return varlen.varlen_attn, options


@cache
def proven(kernel: Kernel, device: torch.device, dtype: torch.dtype, dim: int) -> bool:
    """Return whether a kernel gives what two matrix products give, causal and not, on `device`.

    Args:
        kernel: to be tried on 2 key heads, 3 query heads each, 5 queries and 70 keys.
        device: where.
        dtype: of the inputs.
        dim: head dimension.
    """
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (
        torch.randn(2, n, dim, generator=generator).to(device, dtype) for n in (15, 70, 70)
    )
    for causal in (0, 5):
        try:
            got = kernel(query, keys, values, dim**-0.5, causal)
        except (RuntimeError, NotImplementedError, TypeError, ValueError):
            return False
        if got[0].dtype != dtype or got[1].dtype != torch.float32:
            return False
        if not _close(got, by_products(query, keys, values, dim**-0.5, causal)):
            return False
    return True


def by_products(
    query: Tensor, keys: Tensor, values: Tensor, scale: float, causal: int
) -> tuple[Tensor, Tensor]:
    """Attend in float32 by two matrix products: what kernels have to give.

    Arguments are as of `fused`.
    """
    logits = query.float() @ keys.float().transpose(1, 2) * scale
    if causal:
        tokens = keys.shape[1]
        later = torch.ones(causal, tokens, dtype=torch.bool, device=keys.device)
        later.triu_(tokens - causal + 1)
        logits.view(len(query), -1, causal, tokens).masked_fill_(later, -torch.inf)
    return logits.softmax(-1) @ values.float(), logits.logsumexp(-1)


def _close(got: tuple[Tensor, Tensor], want: tuple[Tensor, Tensor]) -> bool:
    """Return whether shapes are the same and numbers differ by no more than half precision does."""
    return all(
        a.shape == b.shape and bool((a.float() - b).abs().max() < 0.03)
        for a, b in zip(got, want, strict=True)
    )


def _by_token(query: Tensor, causal: int) -> Tensor:
    """Return queries as kernels want them, (queries, heads, head_dim).

    Without a mask the grouped heads stay rows of their key head, so that keys are read once for all
    of them; with one they must be heads.
    """
    rows = query.reshape(-1, causal, query.shape[-1]) if causal else query
    return rows.transpose(0, 1)


def _as_rows(out: Tensor, query: Tensor) -> Tensor:
    """Return a kernel's output, (queries, heads, head_dim), in the query's shape, contiguous."""
    return out.transpose(0, 1).reshape(query.shape)

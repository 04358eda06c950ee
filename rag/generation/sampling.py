"""Filters of a next-token distribution: top-k, top-p and min-p, as transformers defines them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k largest logits and all that tie with the least of them; the rest become -inf.

    Source: Fan et al. 2018, arXiv:1805.04833.

    Args:
        logits: (vocabulary,).
        k: at least 1; a smaller vocabulary is kept whole.
    """
    import torch

    least = logits.topk(min(k, len(logits))).values[-1]
    return logits.masked_fill(logits < least, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most probable tokens that holds probability p or more.

    The most probable token always stays; of equal ones the lower id stays first (the source keeps
    as many, but does not say which). Source: Holtzman et al. 2019, arXiv:1904.09751.

    Args:
        logits: (vocabulary,); their softmax is the distribution.
        p: in (0, 1].
    """
    import torch

    # From the least probable up: sums of small numbers first are the more exact ones.
    order = logits.sort(descending=True, stable=True).indices.flip(0)
    below = logits[order].softmax(-1).cumsum(-1)  # (vocabulary,), a token and all less probable
    dropped = below <= 1 - p
    dropped[-1] = False
    return logits.masked_fill(dropped.scatter(0, order, dropped), -torch.inf)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens that are at least p times as probable as the most probable one.

    Source: Nguyen et al. 2024, arXiv:2407.01082.

    Args:
        logits: (vocabulary,); their softmax is the distribution.
        p: in [0, 1).
    """
    import torch

    weights = logits.softmax(-1)
    return logits.masked_fill(weights < p * weights.max(), -torch.inf)


def largest(values: Tensor, count: int) -> Tensor:
    """Return the rows of the largest values, largest first, ties by the lower row.

    Args:
        values: (n,), n at least 1.
        count: at least 1; fewer values are all returned.

    Returns:
        int64 (min(count, n),).
    """
    # `topk` alone leaves open which of equal values it takes; a full sort is slow.
    least = values.topk(min(count, len(values))).values[-1]
    rows = (values >= least).nonzero()[:, 0]
    return rows[values[rows].sort(descending=True, stable=True).indices[:count]]


def require_distribution(logits: Tensor) -> None:
    """Refuse logits whose softmax is not a distribution.

    Raises:
        ValueError: if one is NaN or +inf, or all are -inf.
    """
    highest = logits.max()  # NaN if any of them is
    if not highest.isfinite():
        raise ValueError(
            f"logits must have a finite maximum, got {float(highest)} among {len(logits)}: "
            "the forward pass overflowed; load the model with dtype float32 or bfloat16"
        )

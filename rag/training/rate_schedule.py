"""Learning rate: a linear warm-up, then a decay to zero."""

from __future__ import annotations

import math
from typing import Literal, get_args

Decay = Literal["linear", "cosine"]


def rate_share(step: int, steps: int, *, warmup: float = 0.06, decay: Decay = "cosine") -> float:
    """Return the share of the peak learning rate that a step uses, in (0, 1].

    It rises in equal steps over the first `warmup` of all steps, is 1 at the last of these, and
    falls after it; the step after the last would be 0. Source of the cosine: Loshchilov and Hutter
    2016, arXiv:1608.03983.

    Args:
        step: from 0.
        steps: of the whole training, more than `step`.
        warmup: share of the steps, in [0, 1).
        decay: shape of the fall.

    Raises:
        ValueError: for an argument out of its range.
    """
    if not 0 <= step < steps:
        raise ValueError(f"step must be in [0, steps), got {step} of {steps}")
    if not 0.0 <= warmup < 1.0:
        raise ValueError(f"warmup must be in [0, 1), got {warmup}")
    if decay not in get_args(Decay):
        raise ValueError(f"decay must be one of {get_args(Decay)}, got {decay!r}")
    rising = int(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    gone = (step - rising) / (steps - rising)
    return 1.0 - gone if decay == "linear" else (1.0 + math.cos(math.pi * gone)) / 2

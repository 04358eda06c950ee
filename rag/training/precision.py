"""Precision of training, chosen by trying: bfloat16 where it is clearly faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]
_GAIN = 1.1
_TRIES = 3


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a forward pass runs; losses belong outside of it."""
    import torch

    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def probed_precision(step: Callable[[Precision], object], device: torch.device) -> Precision:
    """Return `bfloat16` if a step takes less than 1/1.1 of its float32 time, else `float32`.

    Args:
        step: one forward and backward pass in a precision, that leaves no trace.
        device: where it runs.
    """
    import torch

    def best(precision: Precision) -> float:
        times = []
        for _ in range(_TRIES):
            start = time.perf_counter()
            step(precision)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
        return min(times[1:])  # the first one warms up

    return "bfloat16" if best("bfloat16") * _GAIN < best("float32") else "float32"

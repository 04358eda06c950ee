"""Products with one row of bfloat16 on CPUs, by the faster of PyTorch's two kernels.

oneDNN, to which PyTorch gives such products, packs the whole weight anew in each of them. Many rows
pay for that; one row reads the weight once, and PyTorch's own kernel does that in about half the
time. Both add up in float32. PyTorch has no choice by call, only one switch for the whole process,
so that this file keeps account of who needs what at the moment.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


class OneDNN:
    """Turns oneDNN off while there are only products of one row.

    Many rows come first, whose products take many times as long without oneDNN: it is on as long as
    it is `needed`, whichever thread leaves it out. Neither waits for the other. A switch that was
    off before stays off. What does not ask here and runs bfloat16 products in another thread
    meanwhile is right, to rounding, but slow.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leaving_out = 0
        self._needing = 0
        self._off = False

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Compute products of one row: without oneDNN, unless it is needed elsewhere."""
        self._count(leaving_out=1)
        try:
            yield
        finally:
            self._count(leaving_out=-1)

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Compute products of many rows, or parts of products of one row that have many."""
        self._count(needing=1)
        try:
            yield
        finally:
            self._count(needing=-1)

    def _count(self, *, leaving_out: int = 0, needing: int = 0) -> None:
        with self._lock:
            self._leaving_out += leaving_out
            self._needing += needing
            off = self._leaving_out > 0 and not self._needing
            if off and not self._off:
                self._off = bool(torch.backends.mkldnn.enabled)
                if self._off:
                    _switch(on=False)
            elif self._off and not off:
                self._off = False
                _switch(on=True)


ONEDNN: Final = OneDNN()
"""The only one, as the switch is: PyTorch's, of the process."""


def one_row(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Return what products of one row are computed in.

    Args:
        device: where.
        dtype: of the weights; only bfloat16 on CPUs with AVX-512 makes a difference.
    """
    return ONEDNN.left_out() if _affected(device, dtype) else nullcontext()


def many_rows(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Return what products of more than one row are computed in; arguments as of `one_row`."""
    return ONEDNN.needed() if _affected(device, dtype) else nullcontext()


def products_of(
    rows: int, device: torch.device, dtype: torch.dtype
) -> AbstractContextManager[None]:
    """Return what products of so many rows are computed in; arguments as of `one_row`."""
    return one_row(device, dtype) if rows == 1 else many_rows(device, dtype)


def _affected(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether PyTorch gives such products to oneDNN, and is known to be faster itself."""
    cpu = dtype == torch.bfloat16 and device.type == "cpu"
    return cpu and torch.backends.cpu.get_cpu_capability() == "AVX512"


def _switch(*, on: bool) -> None:
    setattr(torch.backends.mkldnn, "enabled", on)  # noqa: B010 - its type says descriptor, not bool

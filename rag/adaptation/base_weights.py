"""The weights of a model as it came, put back for a while in place of those with an adapter."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rag.generation.model_lock import model_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor


class BaseWeights:
    """What an adapter was merged into, read anew when it is first asked for and kept from then on.

    An adapter is for reading passages. What else a model is asked, such as to rewrite a question or
    to judge an answer, it can do as it came, and often not as it was adapted.
    """

    def __init__(self, model: Any, layers: Sequence[str], reread: Callable[[], Any]) -> None:
        """Remember where the weights are.

        Args:
            model: with the adapter merged in.
            layers: names of the linear layers that it changed.
            reread: returns the model as it came, of the same dtype.
        """
        self._model, self._layers, self._reread = model, tuple(layers), reread
        self._base: dict[str, Tensor] = {}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model be as it came; nobody else can use it meanwhile."""
        with model_lock(self._model):
            if not self._base:
                came = self._reread()
                device = self._model.device
                self._base = {
                    name: came.get_submodule(name).weight.detach().to(device)
                    for name in self._layers
                }
            self._swap()
            try:
                yield
            finally:
                self._swap()

    def _swap(self) -> None:
        for name in self._layers:
            weight = self._model.get_submodule(name).weight
            weight.data, self._base[name] = self._base[name], weight.data

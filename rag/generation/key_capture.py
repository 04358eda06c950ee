"""Keys before RoPE: which module puts them out in each layer, and how to read them there."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

KEY_MODULES = ("k_norm", "k_layernorm", "k_proj")
"""What may put out keys, the last before RoPE first: norms come after the projection."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where one layer's keys are seen.

    Attributes:
        attention: the layer's attention module.
        name: of the module in it that puts them out; looked up when it is needed, because updates
            of low rank replace it.
        columns: which of its outputs they are; None means all.
    """

    attention: nn.Module
    name: str
    columns: slice | None = None

    @property
    def module(self) -> nn.Module:
        """What puts them out now."""
        found: nn.Module = getattr(self.attention, self.name)
        return found

    def keys(self, projected: Tensor, output: Tensor, head_dim: int) -> Tensor:
        """Return the keys of what the module put out, (tokens, kv_heads, head_dim).

        Args:
            projected: what the module read.
            output: what it put out, of a batch of one.
            head_dim: size of a key.
        """
        keys = output[0] if self.columns is None else output[0][..., self.columns]
        if keys.ndim == 3 and _heads_first(projected):
            keys = keys.transpose(0, 1)
        return keys.reshape(len(keys), -1, head_dim)


class KeyCapture:
    """Collects the keys of a forward pass as they are just before RoPE, by forward hooks.

    Args:
        attention: the attention module of each layer.
        head_dim: size of a key.
        family: named in errors.

    Raises:
        UnsupportedModelError: if a layer's keys come from no module that is known here.
    """

    def __init__(self, attention: Sequence[Any], head_dim: int, family: str) -> None:
        self._head_dim = head_dim
        self._sources = [_source(module, head_dim, family) for module in attention]

    @contextmanager
    def __call__(self) -> Iterator[list[Tensor]]:
        """Collect keys layer by layer, each (tokens, kv_heads, head_dim), of a batch of one.

        Not re-entrant: one forward pass inside one `with`, or `clear` the list between two.
        """
        captured: list[Tensor] = []
        with self._hooks(lambda _layer, keys: captured.append(keys)):
            yield captured

    @contextmanager
    def latest(self) -> Iterator[dict[int, Tensor]]:
        """Keep each layer's keys of the last time that it ran, by its number.

        Layers may run in any order and again, as they do where they are computed anew for a
        backward pass.
        """
        captured: dict[int, Tensor] = {}
        with self._hooks(captured.__setitem__):
            yield captured

    @contextmanager
    def _hooks(self, keep: Callable[[int, Tensor], None]) -> Iterator[None]:
        """Hand the keys of each layer that runs to a function, with the layer's number."""

        def hook(layer: int, source: _Source) -> Any:
            def see(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                keep(layer, source.keys(inputs[0], output, self._head_dim))

            return see

        hooks = [
            source.module.register_forward_hook(hook(layer, source))
            for layer, source in enumerate(self._sources)
        ]
        try:
            yield
        finally:
            for one in hooks:
                one.remove()


def _source(module: Any, head_dim: int, family: str) -> _Source:
    """Return where the keys of an attention module are seen."""
    for name in KEY_MODULES:
        if getattr(module, name, None) is not None:
            return _Source(module, name)
    if hasattr(module, "qkv_proj"):
        config = module.config
        start = config.num_attention_heads * head_dim
        width = config.num_key_value_heads * head_dim
        return _Source(module, "qkv_proj", slice(start, start + width))
    raise UnsupportedModelError(
        f"{family}: KV reuse is not possible, because {type(module).__name__} has no key "
        f"projection that is known here: {', '.join(KEY_MODULES)} or qkv_proj"
    )


def _heads_first(projected: Tensor) -> bool:
    """Say whether a norm reads (1, heads, tokens, head_dim) or (1, tokens, heads, head_dim).

    Sizes do not tell: there may be as many tokens as heads. Either is a view of a projection's
    output, in which the heads of one token lie beside each other.
    """
    return projected.stride(1) < projected.stride(2)

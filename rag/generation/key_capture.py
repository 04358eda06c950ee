"""Keys before RoPE: which module puts them out in each layer, and how to read them there."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

KEY_MODULES = ("k_norm", "k_layernorm", "k_proj")
"""What may put out keys, the last before RoPE first: norms come after the projection."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where one layer's keys are seen.

    Attributes:
        module: puts them out.
        columns: which of its outputs they are; None means all.
    """

    module: nn.Module
    columns: slice | None = None


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

        def keeper(source: _Source) -> Any:
            def keep(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                keys = output[0] if source.columns is None else output[0][..., source.columns]
                if keys.ndim == 3 and _heads_first(inputs[0]):
                    keys = keys.transpose(0, 1)
                captured.append(keys.reshape(len(keys), -1, self._head_dim))

            return keep

        hooks = [source.module.register_forward_hook(keeper(source)) for source in self._sources]
        try:
            yield captured
        finally:
            for hook in hooks:
                hook.remove()


def _source(module: Any, head_dim: int, family: str) -> _Source:
    """Return where the keys of an attention module are seen."""
    for name in KEY_MODULES:
        found = getattr(module, name, None)
        if found is not None:
            return _Source(found)
    if hasattr(module, "qkv_proj"):
        config = module.config
        start = config.num_attention_heads * head_dim
        return _Source(module.qkv_proj, slice(start, start + config.num_key_value_heads * head_dim))
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

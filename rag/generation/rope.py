"""Rotary positions, by the model's own function: keys are stored before RoPE and rotated on use."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any, Final

from rag.errors import UnsupportedModelError
from rag.generation.capability import require_reusable, reusable_positions
from rag.generation.key_capture import KeyCapture

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import torch
    from torch import Tensor

    RotaryTables = dict[int, tuple[Tensor, Tensor]]
    """Cosines and sines by the number of a layer; layers without positions have none."""

# Families whose attention modules leave some layers unrotated without saying so in `use_rope`.
UNROTATED: Final[dict[str, Callable[[Any], bool]]] = {
    "cohere2": lambda module: module.sliding_window is None,
    "exaone4": lambda module: module.sliding_window is not None and not module.is_sliding,
}


class Rotary:
    """Rotates stored keys exactly as the model would, and captures keys before it does.

    Proven bit-equal to the model's own cached keys for the families in the tests; for another
    family the engine's self-test decides.

    Attributes:
        head_dim: size of a key.
        window: positions that a request may take, so that frequencies stay the same.

    Raises:
        UnsupportedModelError: if a property of the model is in the way; the message names it.
    """

    def __init__(self, model: Any) -> None:
        require_reusable(model)
        config: Any = model.config
        decoder = model.get_decoder()
        attention = [layer.self_attn for layer in decoder.layers]
        first = attention[0]
        self.head_dim = int(
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        self.window = reusable_positions(config)
        self._embedding: Any = decoder.rotary_emb
        self._apply = _rotary_function(first, config.model_type)
        # Phi rotates the first part of each key outside of the rotary function, GLM inside.
        self._width = int(getattr(first, "rotary_ndims", self.head_dim))
        self._tables = _tables(attention, config, self._embedding)
        self._layers = len(attention)
        self._capture = KeyCapture(attention, self.head_dim, config.model_type)

    def rotate(self, keys: Tensor, positions: Tensor) -> Tensor:
        """Rotate keys to positions; layers without positions stay as they are.

        Args:
            keys: (layers, tokens, kv_heads, head_dim) before RoPE.
            positions: int64 (tokens,).

        Returns:
            (layers, kv_heads, tokens, head_dim), same dtype.
        """
        by_head = keys.transpose(1, 2)
        if [len(layers) for layers in self._tables.values()] == [self._layers]:
            return self._rotated(by_head, positions, *self._tables)
        rotated = by_head.clone()
        for kind, layers in self._tables.items():
            rotated[layers] = self._rotated(by_head[layers], positions, kind)
        return rotated

    def capture(self) -> AbstractContextManager[list[Tensor]]:
        """Collect, layer by layer, the keys before RoPE of one forward pass: (tokens, heads, dim).

        Not re-entrant: one forward pass inside one `with`.
        """
        return self._capture()

    def latest(self) -> AbstractContextManager[dict[int, Tensor]]:
        """Keep, by the number of a layer, the keys before RoPE of the last time that it ran."""
        return self._capture.latest()

    def tables(self, positions: Tensor, dtype: torch.dtype) -> RotaryTables:
        """Return cosines and sines of positions, to rotate the keys of one layer after another.

        Args:
            positions: int64 (tokens,).
            dtype: of the model's hidden states.
        """
        like = positions.new_empty(0, dtype=dtype)
        return {
            layer: (cos, sin)
            for kind, layers in self._tables.items()
            for cos, sin in [self._embedding(like, positions[None], *_named(kind))]
            for layer in layers
        }

    def rotate_layer(self, keys: Tensor, layer: int, tables: RotaryTables) -> Tensor:
        """Rotate the keys of one layer: (kv_heads, tokens, head_dim).

        Args:
            keys: (tokens, kv_heads, head_dim) before RoPE.
            layer: its number.
            tables: of the tokens' positions.
        """
        by_head = keys.transpose(0, 1)
        if layer not in tables:
            return by_head
        return self._turned(by_head[None], *tables[layer])[0]

    def _rotated(self, by_head: Tensor, positions: Tensor, kind: str | None) -> Tensor:
        """Rotate layers that share a rotary table: (layers, kv_heads, tokens, head_dim)."""
        return self._turned(by_head, *self._embedding(by_head, positions[None], *_named(kind)))

    def _turned(self, by_head: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotate keys, (layers, kv_heads, tokens, head_dim), by the model's own function."""
        whole = self._width == self.head_dim
        turned = by_head if whole else by_head[..., : self._width]
        unused_query = turned[:1, :1]
        rotated: Tensor = self._apply(unused_query, turned, cos, sin)[1]
        return rotated if whole else _joined(rotated, by_head[..., self._width :])


def _named(kind: str | None) -> tuple[str, ...]:
    return () if kind is None else (kind,)


def _joined(rotated: Tensor, rest: Tensor) -> Tensor:
    import torch

    return torch.cat((rotated, rest), -1)


def _rotary_function(attention: Any, family: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the function by which a family's attention rotates queries and keys."""
    of_module = vars(sys.modules[type(attention).__module__])
    apply: Callable[..., tuple[Tensor, Tensor]] | None = of_module.get("apply_rotary_pos_emb")
    if apply is None or list(inspect.signature(apply).parameters)[:4] != ["q", "k", "cos", "sin"]:
        raise UnsupportedModelError(
            f"{family}: KV reuse is not possible, because its attention has no rotary function of "
            "the usual form, of queries, keys, cosines and sines"
        )
    return apply


def _tables(attention: list[Any], config: Any, embedding: Any) -> dict[str | None, list[int]]:
    """Return which layers are rotated by which rotary table; None is a model's only one."""
    by_type = "layer_type" in inspect.signature(type(embedding).forward).parameters
    without = UNROTATED.get(config.model_type, lambda module: not getattr(module, "use_rope", True))
    tables: dict[str | None, list[int]] = {}
    for number, module in enumerate(attention):
        if not without(module):
            kind = config.layer_types[number] if by_type else None
            tables.setdefault(kind, []).append(number)
    return tables

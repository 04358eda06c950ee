"""Rotary positions, by the model's own function: keys are stored before RoPE and rotated on use."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from rag.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

REGIME_CHANGING = {"dynamic", "longrope"}


class Rotary:
    """Rotates stored keys exactly as the model would, and captures keys before it does.

    Proven bit-equal to the model's own cached keys for the families in the tests; for another
    family the engine's self-test decides.

    Raises:
        UnsupportedModelError: if the model has no rotary module, attention without a separate key
            projection, or frequencies that change with the length of the input.
    """

    def __init__(self, model: Any) -> None:
        config: Any = model.config
        decoder = model.get_decoder()
        self._embedding: Any = getattr(decoder, "rotary_emb", None)
        attention = [getattr(layer, "self_attn", None) for layer in getattr(decoder, "layers", ())]
        if self._embedding is None or not attention:
            raise UnsupportedModelError(f"{config.model_type}: no rotary decoder layers found")
        kind = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
        if kind in REGIME_CHANGING:
            raise UnsupportedModelError(
                f"{config.model_type}: rope type {kind!r} changes its frequencies with the input's "
                "length, so stored keys would be wrong"
            )
        self._key_modules = []
        for module in attention:
            key_module = getattr(module, "k_norm", None) or getattr(module, "k_proj", None)
            if key_module is None or getattr(module, "use_rope", True) in (False, 0):
                raise UnsupportedModelError(
                    f"{config.model_type}: attention without a rotated key projection of its own"
                )
            self._key_modules.append(key_module)
        apply: Any = getattr(
            sys.modules[type(attention[0]).__module__], "apply_rotary_pos_emb", None
        )
        if apply is None:
            raise UnsupportedModelError(f"{config.model_type}: no rotary function found")
        self._apply = apply
        self.head_dim = int(
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )

    def rotate(self, keys: Tensor, positions: Tensor) -> Tensor:
        """Rotate keys to positions.

        Args:
            keys: (layers, tokens, kv_heads, head_dim) before RoPE.
            positions: int64 (tokens,).

        Returns:
            (layers, kv_heads, tokens, head_dim), same dtype.
        """
        cos, sin = self._embedding(keys, positions[None])
        by_head = keys.transpose(1, 2)
        unused_query = by_head[:1, :1]
        rotated: Tensor = self._apply(unused_query, by_head, cos, sin)[1]
        return rotated

    @contextmanager
    def capture(self) -> Iterator[list[Tensor]]:
        """Collect, layer by layer, the keys before RoPE of one forward pass: (tokens, heads, dim).

        Not re-entrant: one forward pass inside one `with`.
        """
        captured: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            captured.append(output[0].reshape(output.shape[1], -1, self.head_dim))

        hooks = [module.register_forward_hook(keep) for module in self._key_modules]
        try:
            yield captured
        finally:
            for hook in hooks:
                hook.remove()

"""LoRA: low-rank updates of linear layers, small enough to ship, merged for inference."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_PROJECTIONS = r"query|key|value|query_proj|key_proj|value_proj"
ATTENTION = rf"(^|\.)({_PROJECTIONS}|attention\.output\.dense|attn\.Wqkv|attn\.Wo)$"
"""Query, key, value and output projections of BERT, RoBERTa, DeBERTa and ModernBERT."""
ALL_LINEARS = rf"(^|\.)({_PROJECTIONS}|(intermediate|output)\.dense|(attn|mlp)\.W\w+)$"
"""The same, and both layers of the feed-forward part."""
_DECODER = r"[qkvo]_proj|qkv_proj|gate_proj|up_proj|gate_up_proj|down_proj|dense|fc1|fc2"
DECODER_LINEARS = rf"(^|\.)layers\.\d+\.(self_attn|mlp)\.({_DECODER})$"
"""All linear layers of attention and feed-forward part of the decoders whose KV can be reused.

Embeddings and output layer are none of them, nor are a mixture's experts and its router, which keep
their weights outside of linear layers."""


class LoRALinear(nn.Module):
    """A frozen linear layer plus a trained product: `base(x) + scale * (x A^T) B^T`.

    B starts at zero, so at first the layer is its base. The product is computed in the dtype of A
    and B and rounded once, to that of the base's output.

    Attributes:
        base: the frozen layer.
        lora_a: (rank, in features), float32 or better.
        lora_b: (out features, rank), float32 or better.
        scale: alpha / rank.
        enabled: whether the product is added; see `without_lora`.
    """

    def __init__(
        self,
        base: nn.Linear,
        rank: int,
        alpha: float,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Wrap a layer, which is frozen.

        Args:
            base: any linear layer.
            rank: of the product, at least 1.
            alpha: the product is scaled by alpha / rank.
            generator: of the first values of A; on the CPU.
            dtype: of A and B; None is that of the base, but at least float32, as the steps of
                training are smaller than a bfloat16 can tell.
        """
        super().__init__()
        self.base = base.requires_grad_(requires_grad=False)
        device, dtype = base.weight.device, dtype or _at_least_float32(base.weight)
        drawn = torch.empty(rank, base.in_features)
        nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
        self.lora_a = nn.Parameter(drawn.to(device, dtype))
        zeros = torch.zeros(base.out_features, rank, device=device, dtype=dtype)
        self.lora_b = nn.Parameter(zeros)
        self.scale = alpha / rank
        self.enabled = True

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out features) of (..., in features)."""
        said: Tensor = self.base(x)
        if not self.enabled:
            return said
        inner = nn.functional.linear(x.to(self.lora_a.dtype), self.lora_a)
        update = self.scale * nn.functional.linear(inner, self.lora_b)
        return said + update.to(said.dtype)

    def merged(self) -> nn.Linear:
        """Return a plain layer that computes the same; the base keeps its own weights."""
        plain = nn.Linear(
            self.base.in_features,
            self.base.out_features,
            bias=self.base.bias is not None,
            device=self.base.weight.device,
            dtype=self.base.weight.dtype,
        )
        with torch.no_grad():
            plain.weight.copy_(
                merged_weight(self.base.weight, self.lora_a, self.lora_b, self.scale)
            )
            if self.base.bias is not None:
                plain.bias.copy_(self.base.bias)
        return plain.requires_grad_(requires_grad=False)


def merged_weight(weight: Tensor, lora_a: Tensor, lora_b: Tensor, scale: float) -> Tensor:
    """Return `weight + scale * B A`, computed in float32 or better and rounded once.

    Args:
        weight: (out features, in features).
        lora_a: (rank, in features), of any dtype, on any device.
        lora_b: (out features, rank).
        scale: alpha / rank.
    """
    device, dtype = weight.device, _at_least_float32(weight)
    update = scale * (lora_b.to(device, dtype) @ lora_a.to(device, dtype))
    return (weight + update).to(weight.dtype)


def _at_least_float32(weight: Tensor) -> torch.dtype:
    return torch.promote_types(weight.dtype, torch.float32)


@dataclass(frozen=True, slots=True)
class LoRA:
    """Way to tune a trunk: only low-rank updates of the layers whose name fits a pattern.

    Source: Hu et al. 2021, arXiv:2106.09685.

    Attributes:
        rank: of the updates, at least 1.
        alpha: the update is scaled by alpha / rank; above 0.
        pattern: regular expression that is searched for in the names of the linear layers.
    """

    rank: int = 16
    alpha: float = 32.0
    pattern: str = ATTENTION

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")
        if not self.alpha > 0.0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")

    def apply(self, trunk: Any, generator: torch.Generator | None = None) -> list[str]:
        """Freeze a trunk, put updates into it in place, and return the names of the layers.

        Args:
            trunk: any module.
            generator: of the first values of A; on the CPU.

        Raises:
            ValueError: if no linear layer fits the pattern.
        """
        trunk.requires_grad_(requires_grad=False)
        found = [
            name
            for name, module in trunk.named_modules()
            if type(module) is nn.Linear and re.search(self.pattern, name)
        ]
        if not found:
            raise ValueError(f"pattern must fit a linear layer of the trunk, got {self.pattern!r}")
        for name in found:
            layer = LoRALinear(trunk.get_submodule(name), self.rank, self.alpha, generator)
            trunk.set_submodule(name, layer)
        return found


def merge_lora(module: nn.Module) -> nn.Module:
    """Replace every `LoRALinear` inside a module by a plain layer, in place, and return it."""
    for name, layer in lora_layers(module).items():
        module.set_submodule(name, layer.merged())
    return module


def lora_layers(module: nn.Module) -> dict[str, LoRALinear]:
    """Return the layers of a module that have an update, by name."""
    return {name: one for name, one in module.named_modules() if isinstance(one, LoRALinear)}


@contextmanager
def without_lora(module: nn.Module) -> Iterator[None]:
    """Switch the updates inside a module off: what it computes meanwhile is its base's.

    Whatever happens inside, each layer is afterwards as it was. Not for a module that other threads
    use meanwhile.
    """
    layers = lora_layers(module).values()
    before = [layer.enabled for layer in layers]
    for layer in layers:
        layer.enabled = False
    try:
        yield
    finally:
        for layer, enabled in zip(layers, before, strict=True):
            layer.enabled = enabled

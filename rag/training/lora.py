"""LoRA: low-rank updates of linear layers, small enough to ship, merged for inference."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_PROJECTIONS = r"query|key|value|query_proj|key_proj|value_proj"
ATTENTION = rf"(^|\.)({_PROJECTIONS}|attention\.output\.dense|attn\.Wqkv|attn\.Wo)$"
"""Query, key, value and output projections of BERT, RoBERTa, DeBERTa and ModernBERT."""
ALL_LINEARS = rf"(^|\.)({_PROJECTIONS}|(intermediate|output)\.dense|(attn|mlp)\.W\w+)$"
"""The same, and both layers of the feed-forward part."""


class LoRALinear(nn.Module):
    """A frozen linear layer plus a trained product: `base(x) + scale * (x A^T) B^T`.

    B starts at zero, so at first the layer is its base.

    Attributes:
        base: the frozen layer.
        lora_a: (rank, in features).
        lora_b: (out features, rank).
        scale: alpha / rank.
    """

    def __init__(
        self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.base = base.requires_grad_(requires_grad=False)
        drawn = torch.empty(rank, base.in_features)
        nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
        self.lora_a = nn.Parameter(drawn.to(base.weight))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out features) of (..., in features)."""
        update = nn.functional.linear(nn.functional.linear(x, self.lora_a), self.lora_b)
        said: Tensor = self.base(x) + self.scale * update
        return said

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
            plain.weight.copy_(self.base.weight + self.scale * (self.lora_b @ self.lora_a))
            if self.base.bias is not None:
                plain.bias.copy_(self.base.bias)
        return plain.requires_grad_(requires_grad=False)


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
    found = [name for name, inside in module.named_modules() if isinstance(inside, LoRALinear)]
    for name in found:
        layer = module.get_submodule(name)
        assert isinstance(layer, LoRALinear)
        module.set_submodule(name, layer.merged())
    return module

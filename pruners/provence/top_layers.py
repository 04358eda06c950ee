"""Tuning the top layers of a trunk as they are, the rest frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class TopLayers:
    """Way to tune a trunk: its last layers as they are. Embeddings stay frozen.

    Attributes:
        layers: how many, at least 0; a trunk with fewer is tuned in all of its layers.
    """

    layers: int = 2

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise ValueError(f"layers must be at least 0, got {self.layers}")

    def apply(self, trunk: Any, generator: torch.Generator | None = None) -> list[str]:  # noqa: ARG002
        """Freeze a trunk but for its last layers, and return the names of these.

        Args:
            trunk: a transformer whose layers stand in one list.
            generator: not used; nothing is drawn.

        Raises:
            ValueError: if the trunk has no list of its `num_hidden_layers` layers.
        """
        trunk.requires_grad_(requires_grad=False)
        count = int(trunk.config.num_hidden_layers)
        stacks = [
            (name, module)
            for name, module in trunk.named_modules()
            if isinstance(module, nn.ModuleList) and len(module) == count
        ]
        if not stacks:
            raise ValueError(f"trunk must hold a list of its {count} layers, got none")
        name, stack = stacks[0]
        chosen = range(max(0, count - self.layers), count)
        for row in chosen:
            stack[row].requires_grad_(requires_grad=True)
        return [f"{name}.{row}" for row in chosen]

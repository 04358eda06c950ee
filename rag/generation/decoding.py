"""Choosing the next token: greedy, or seeded sampling at a temperature."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen and when to stop.

    Attributes:
        max_tokens: the most to generate, at least 1.
        temperature: 0 is greedy (ties go to the lower id); above 0 samples from the softmax of
            logits over it.
        seed: of the sampler; the same seed gives the same tokens.

    Raises:
        ValueError: if a number is out of range.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be at least 0, got {self.temperature}")

    def generator(self) -> torch.Generator:
        """Return a fresh random generator for one request."""
        return torch.Generator().manual_seed(self.seed)

    def choose(self, logits: Tensor, generator: torch.Generator) -> int:
        """Return the id of the next token from logits of shape (vocabulary,)."""
        if self.temperature == 0:
            return int(logits.argmax())
        weights = torch.softmax(logits.float().cpu() / self.temperature, -1)
        return int(torch.multinomial(weights, 1, generator=generator))

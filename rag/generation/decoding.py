"""Choosing the next token, and turning tokens into text that is shown once and never taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
        import torch

        return torch.Generator().manual_seed(self.seed)

    def choose(self, logits: Tensor, generator: torch.Generator) -> int:
        """Return the id of the next token from logits of shape (vocabulary,)."""
        if self.temperature == 0:
            return int(logits.argmax())
        import torch

        weights = torch.softmax(logits.float().cpu() / self.temperature, -1)
        return int(torch.multinomial(weights, 1, generator=generator))


class TextStream:
    """The text of an answer that grows token by token.

    What may still change is held back: an unfinished character, white space at the end, and what
    could be the beginning of the stop text. White space at the beginning is dropped.

    Attributes:
        ids: tokens so far.
        text: what has been shown.
        stopped: whether the stop text came; it is not part of the text.
    """

    def __init__(self, decode: Callable[[tuple[int, ...]], str], stop: str) -> None:
        self.ids: list[int] = []
        self.text = ""
        self.stopped = False
        self._decode = decode
        self._stop = stop

    def push(self, token: int) -> str:
        """Add a token; return the text that can be shown now, often empty."""
        self.ids.append(token)
        whole = self._decode(tuple(self.ids)).lstrip()
        end = whole.find(self._stop)
        self.stopped = end >= 0
        return self._show(whole[:end] if self.stopped else self._settled(whole))

    def rest(self) -> str:
        """Return what was held back, once nothing more comes."""
        if self.stopped:
            return ""
        return self._show(self._decode(tuple(self.ids)).lstrip().rstrip("\ufffd"))

    def _show(self, settled: str) -> str:
        settled = settled.rstrip()
        piece = settled[len(self.text) :]
        self.text += piece
        return piece

    def _settled(self, whole: str) -> str:
        # An unfinished character decodes to U+FFFD until its last byte is there.
        whole = whole.rstrip("\ufffd")
        for length in range(min(len(self._stop) - 1, len(whole)), 0, -1):
            if whole.endswith(self._stop[:length]):
                return whole[:-length]
        return whole

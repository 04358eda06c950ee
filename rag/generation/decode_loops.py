"""Decoding loops that hold for every engine: they need a step, a window and a way to score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rag.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rag.generation.decoding import Sampling
    from rag.generation.prefilled import Prefilled


class DecodeLoops(ABC):
    """What engines do alike with a prompt that has been read."""

    @property
    @abstractmethod
    def window(self) -> int:
        """Positions that a prompt and its answer may take."""

    @abstractmethod
    def advance(self, state: Prefilled, token: int) -> Prefilled:
        """Append one token; return the state with the logits after it. The old state is spent."""

    @abstractmethod
    def following(self, state: Prefilled, token_ids: Sequence[int]) -> Tensor:
        """Return the logits that tokens after a prompt are chosen from: (n, vocabulary)."""

    def score(self, state: Prefilled, token_ids: Sequence[int]) -> Tensor:
        """Return the natural log-probability of each of some tokens after a prompt: (n,).

        The state stays as it is and can be asked again; float32, or float64 for a float64 model.

        Raises:
            UnsupportedModelError: if a position passes the model's window.
        """
        logits = self.following(state, token_ids)
        chosen = torch.tensor(token_ids, dtype=torch.int64, device=logits.device)[:, None]
        return logits.log_softmax(-1).gather(1, chosen)[:, 0]

    def decode(self, state: Prefilled, sampling: Sampling, stop: frozenset[int]) -> Iterator[int]:
        """Yield token ids until a stop token (not yielded), `max_tokens`, or the window's end."""
        for token, _ in self.decode_states(state, sampling, stop):
            yield token

    def decode_scored(
        self, state: Prefilled, sampling: Sampling, stop: frozenset[int]
    ) -> Iterator[tuple[int, float]]:
        """Yield what `decode` does, each token with its natural log-probability (temperature 1)."""
        for token, before in self.decode_states(state, sampling, stop):
            yield token, float(before.logits.log_softmax(-1)[token])

    def decode_states(
        self, state: Prefilled, sampling: Sampling, stop: frozenset[int]
    ) -> Iterator[tuple[int, Prefilled]]:
        """Yield what `decode` does, each token with the state that it was chosen from.

        A state's attention mass is that of the query that chose the token; it is valid until the
        next token is asked for.
        """
        generator = sampling.generator()
        room = self.room(state.position, sampling.max_tokens)
        for count in range(1, room + 1):
            token = sampling.choose(state.logits, generator)
            if token in stop:
                return
            yield token, state
            if count < room:
                state = self.advance(state, token)

    def room(self, position: int, max_tokens: int) -> int:
        """Return how many tokens can be generated at most: the window ends an answer too.

        Args:
            position: of the first of them.
            max_tokens: the most that is wanted.
        """
        return min(max_tokens, self.window - position + 1)

    def _check_window(self, end: int) -> None:
        if end > self.window:
            raise UnsupportedModelError(
                f"the prompt reaches position {end}, the model's window ends at {self.window}: "
                "lower top_k, or use a model with a longer window"
            )

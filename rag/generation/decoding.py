"""Choosing the next token, and turning tokens into text that is shown once and never taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rag.generation.sampling import keep_min_p, keep_top_k, keep_top_p, require_distribution

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from rag.generation.engines import AnyEngine
    from rag.generation.prefilled import Prefilled


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen and when to stop.

    Logits are divided by the temperature and then filtered by top-k, top-p and min-p, in the order
    of transformers; each filter sees the distribution that the one before it left. A filter at
    temperature 0 would change nothing, so it is refused: who sets one expects to sample.

    Attributes:
        max_tokens: the most to generate, at least 1.
        temperature: 0 is greedy (ties go to the lower id); above 0 samples from the softmax of
            logits over it.
        seed: of the sampler; the same seed gives the same tokens.
        top_k: sample from the k most probable tokens (arXiv:1805.04833); 0 is off. No passages are
            meant.
        top_p: sample from the smallest set of most probable tokens that holds this probability, in
            (0, 1] (nucleus sampling, arXiv:1904.09751); 1 is off.
        min_p: sample from tokens at least this times as probable as the most probable one, in
            [0, 1) (arXiv:2407.01082); 0 is off.
        stop: the text ends before the first of these, beside the stop text of a prompt's template.

    Raises:
        ValueError: if a number is out of range, a filter is set at temperature 0, or `stop` is one
            text or holds an empty one.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be at least 0, got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be at least 0, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if not 0 <= self.min_p < 1:
            raise ValueError(f"min_p must be in [0, 1), got {self.min_p}")
        if self.temperature == 0 and (self.top_k or self.top_p < 1 or self.min_p):
            raise ValueError(
                f"temperature must be above 0 for filters to act, got 0 with top_k={self.top_k}, "
                f"top_p={self.top_p}, min_p={self.min_p}"
            )
        StopTexts(self.stop)

    def generator(self) -> torch.Generator:
        """Return a fresh random generator for one request."""
        import torch

        return torch.Generator().manual_seed(self.seed)

    def choose(self, logits: Tensor, generator: torch.Generator) -> int:
        """Return the id of the next token.

        Args:
            logits: (vocabulary,), of any float type; -inf forbids a token.
            generator: of the request.

        Raises:
            ValueError: if a logit is NaN or +inf, or all are -inf.
        """
        require_distribution(logits)
        if self.temperature == 0:
            return int(logits.argmax())
        import torch

        weights = self.filtered(logits).cpu().softmax(-1)
        return int(torch.multinomial(weights, 1, generator=generator))

    def filtered(self, logits: Tensor) -> Tensor:
        """Return the logits that tokens are drawn from at a temperature above 0.

        Args:
            logits: (vocabulary,).

        Returns:
            The same shape, -inf where a token cannot be drawn; in float32 or better.
        """
        import torch

        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        # The softmax stays the same; at a temperature near 0 no quotient overflows.
        scaled = (wide - wide.max()) / max(self.temperature, 1e-30)
        if self.top_k:
            scaled = keep_top_k(scaled, self.top_k)
        if self.top_p < 1:
            scaled = keep_top_p(scaled, self.top_p)
        return keep_min_p(scaled, self.min_p) if self.min_p else scaled


def decode_samples(
    engine: AnyEngine, state: Prefilled, sampling: Sampling, stop: frozenset[int], count: int
) -> Iterator[Iterator[tuple[int, float]]]:
    """Return independent continuations of one prompt, lazily; the state stays as it is.

    Number n, from 0, is what `Engine.decode_scored` yields with seed `sampling.seed` + n. Each is a
    fork of the state that shares all stored keys; they may be read in any order, or at once.

    Args:
        engine: read the prompt.
        state: of the prompt.
        sampling: how tokens are chosen; its temperature is above 0 if there is more than one.
        stop: token ids that end a continuation.
        count: how many, at least 1.

    Raises:
        ValueError: if `count` is below 1, or above 1 at temperature 0.
    """
    require_samples(sampling, count)
    seeded = (replace(sampling, seed=sampling.seed + number) for number in range(count))
    return (_sample(engine, state, one, stop) for one in seeded)


def require_samples(sampling: Sampling, count: int) -> None:
    """Refuse a number of samples that makes no sense.

    Raises:
        ValueError: if `count` is below 1, or above 1 at temperature 0.
    """
    if count < 1:
        raise ValueError(f"num_return_sequences must be at least 1, got {count}")
    if count > 1 and sampling.temperature == 0:
        raise ValueError(
            f"temperature must be above 0 for {count} sequences, got 0: greedy decoding gives the "
            "same one every time"
        )


def _sample(
    engine: AnyEngine, state: Prefilled, sampling: Sampling, stop: frozenset[int]
) -> Iterator[tuple[int, float]]:
    # The fork is made with the first token: what is never read costs nothing.
    yield from engine.decode_scored(engine.fork(state), sampling, stop)


@dataclass(frozen=True, slots=True)
class StopTexts:
    """Texts that end an answer: the one that begins first counts, wherever tokens break.

    Attributes:
        texts: none empty; there may be none.

    Raises:
        ValueError: if `texts` is one text or holds an empty one.
    """

    texts: Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.texts, str):
            raise ValueError(  # noqa: TRY004 - errors of arguments are ValueError here
                f"stop must be a tuple of texts, got one text {self.texts!r}"
            )
        if "" in self.texts:
            raise ValueError(f"stop must hold no empty text, got {list(self.texts)}")

    def found(self, text: str) -> int:
        """Return where the first stop text begins, or the length of the text."""
        starts = [text.find(stop) for stop in self.texts]
        return min((start for start in starts if start >= 0), default=len(text))

    def pending(self, text: str) -> int:
        """Return where the end of a text may be the beginning of a stop text, or its length."""
        longest = 0
        for stop in self.texts:
            lengths = range(len(stop) - 1, longest, -1)
            longest = next((n for n in lengths if text.endswith(stop[:n])), longest)
        return len(text) - longest


class TextStream:
    """The text of an answer that grows token by token.

    What may still change is held back: an unfinished character, white space at the end, and what
    could be the beginning of a stop text. White space at the beginning is dropped, and no stop text
    is looked for in it. Of several stop texts the one that begins first counts: one that is
    complete waits for an earlier one that may still become complete.

    Attributes:
        ids: tokens so far.
        text: what has been shown.
        stopped: whether a stop text came; it is not part of the text.

    Raises:
        ValueError: if a stop text is empty.
    """

    def __init__(self, decode: Callable[[tuple[int, ...]], str], *stop: str) -> None:
        self.ids: list[int] = []
        self.text = ""
        self.stopped = False
        self._decode = decode
        self._stop = StopTexts(stop)

    def push(self, token: int) -> str:
        """Add a token; return the text that can be shown now, often empty."""
        self.ids.append(token)
        whole = self.whole
        found, pending = self._stop.found(whole), self._stop.pending(whole)
        self.stopped = found < len(whole) and found <= pending
        return self._show(whole[: min(found, pending)])

    def rest(self) -> str:
        """Return what was held back, once nothing more comes."""
        whole = self.whole
        found = self._stop.found(whole)
        self.stopped = found < len(whole)
        return self._show(whole[:found])

    @property
    def whole(self) -> str:
        """All of the text so far, what is held back and what follows a stop text included."""
        # An unfinished character decodes to U+FFFD until its last byte is there.
        return self._decode(tuple(self.ids)).lstrip().rstrip("\ufffd")

    def _show(self, settled: str) -> str:
        settled = settled.rstrip()
        piece = settled[len(self.text) :]
        self.text += piece
        return piece

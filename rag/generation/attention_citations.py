"""Citations from attention: which passage the model looked at while it wrote each sentence.

Attention is evidence of where an answer came from, not that the passage says so: support matching
(`citations.py`) is. Together, support decides what is cited at all, and attention which of several
supporting passages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rag.generation.citations import AttentionOf, Attribution, citation_of, evidence_of
from rag.records import Attention, Citation, Passage, Span
from rag.text.sentences import split_sentences

if TYPE_CHECKING:
    from torch import Tensor

    from rag.generation.attention_mass import Unit

Heads = tuple[tuple[int, int], ...]
"""Pairs (layer, head), each from 0."""
HEADS: Final = 5
"""How many heads to look at: from 3 to 10 find the same passages."""
Shape = tuple[str, int, int, int, int, int]
"""Of a model: `model_type`, layers, heads, hidden size, vocabulary and window of its config."""
SMOLLM2_135M: Final[Shape] = ("llama", 30, 9, 576, 49152, 8192)
DEFAULT_HEADS: Final[Mapping[Shape, Heads]] = {
    SMOLLM2_135M: ((8, 0), (14, 3), (17, 3), (17, 4), (18, 6)),
}
"""Copying heads of models that they were measured on."""


def default_heads(config: Any) -> Heads | None:
    """Return the copying heads of a model that is known; None, which means all heads, of others.

    Over all heads the shares tell little of where an answer comes from: they follow a passage's
    place and length. `CopyingHeads` finds the heads of any model.

    Args:
        config: of a model, as `transformers` gives it.
    """
    names = ("num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size")
    sizes = [getattr(config, name, 0) for name in (*names, "max_position_embeddings")]
    shape: Any = (getattr(config, "model_type", ""), *sizes)
    return DEFAULT_HEADS.get(shape)


class AnswerAttention:
    """The attention of an answer's tokens to the sentences that were read.

    A head's mass counts as it is: dividing it by the length of a passage or sentence, or by what
    the head gives to all passages, was measured to find no more of what was copied.

    Args:
        units: what the columns of a mass stand for, without the last, which is the rest.
        heads: which to look at; None means all, alike.

    Raises:
        ValueError: if `heads` is empty.
    """

    def __init__(self, units: Sequence[Unit], heads: Heads | None = None) -> None:
        if heads is not None and not heads:
            raise ValueError("heads must be at least one pair (layer, head), or None, got none")
        self._units = tuple(units)
        self._heads = heads
        self._tokens: list[list[float]] = []
        self._texts: list[int] = []
        self._silent = 0

    def add(self, mass: Tensor, end: int) -> None:
        """Add the mass of the query that chose a token.

        A token that adds no text, as the first ones of a character of several bytes, belongs to the
        next one that does.

        Args:
            mass: (layers, heads, units + 1).
            end: how long the answer's text is with this token.

        Raises:
            ValueError: if the mass has another number of units, or lacks a head that is looked at.
        """
        layers, heads, columns = mass.shape
        if columns != len(self._units) + 1:
            raise ValueError(
                f"mass must be (layers, heads, {len(self._units) + 1}), got {tuple(mass.shape)}"
            )
        if self._heads is None:
            picked = mass.mean((0, 1))
        else:
            for layer, head in self._heads:
                if not (0 <= layer < layers and 0 <= head < heads):
                    raise ValueError(
                        f"heads must be pairs below ({layers}, {heads}), got {(layer, head)}"
                    )
            rows, places = zip(*self._heads, strict=True)
            picked = mass[list(rows), list(places)].mean(0)
        self._tokens.append(picked[:-1].tolist())
        if end > (self._texts[-1] if self._texts else 0):
            self._texts[len(self._texts) - self._silent :] = [end] * self._silent
            self._silent = 0
        else:
            self._silent += 1
        self._texts.append(end)

    def of(self, passages: Sequence[Passage], span: Span | None = None) -> tuple[Attention, ...]:
        """Return the share of each passage, in order: of the tokens that end within a span.

        Args:
            passages: what was given to the model; one that it did not read has share 0.
            span: characters of the answer; None means all of it.
        """
        rows = [
            row
            for row, end in zip(self._tokens, self._texts, strict=True)
            if span is None or span.start < end <= span.end
        ]
        sums = [sum(column) for column in zip(*rows, strict=True)] or [0.0] * len(self._units)
        total = sum(sums) or 1.0
        by_unit = {
            (unit.passage, unit.sentence): value / total
            for unit, value in zip(self._units, sums, strict=True)
        }
        found = []
        for passage in passages:
            share = sum(value for (name, _), value in by_unit.items() if name == passage.id)
            sentences = tuple(
                by_unit.get((passage.id, row), 0.0) for row in range(len(passage.sentences))
            )
            found.append(Attention(passage.id, share, sentences))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class AttentionMatcher:
    """Cites, for each sentence of an answer, what the model attended to most while it wrote it.

    Attributes:
        threshold: least share of the attention to all passages that counts, in [0, 1]. 0.35 was
            chosen for five passages; of more, the best one's share is less.

    Raises:
        ValueError: if the threshold is out of range.
    """

    threshold: float = 0.35

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}")

    def __call__(
        self,
        answer: str,
        passages: Sequence[Passage],
        attention: AttentionOf,
    ) -> Attribution:
        """Attribute every sentence of the answer; a citation's score is the passage's share.

        Args:
            answer: the answer, without marks.
            passages: what the generator read, best first.
            attention: the shares of a span of the answer.
        """
        evidence = evidence_of(passages)
        citations: list[Citation] = []
        unsupported = []
        numbers: dict[str, int] = {}
        for sentence in split_sentences(answer):
            inside = sentence.stripped(answer)
            shares = {one.passage_id: one for one in attention(sentence)}
            ranked = [
                (shares[passage.id].share, shares[passage.id].sentences[row], -place)
                for place, (passage, row) in enumerate(evidence)
                if passage.id in shares
            ]
            share, _, place = max(ranked, default=(0.0, 0.0, 0))
            if not ranked or share < self.threshold or not share:
                unsupported.append(inside)
                continue
            passage, row = evidence[-place]
            number = numbers.setdefault(passage.id, len(numbers) + 1)
            citations.append(citation_of(passage, row, inside, number, share))
        return Attribution(tuple(citations), tuple(unsupported))

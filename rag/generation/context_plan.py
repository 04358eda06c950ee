"""Context plans: what is read of every passage, as text or as cached rows, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from rag.records import ContextStep, Passage, Segment, SentenceScore, Span, text_sha

Rows = tuple[Segment, tuple[int, ...] | None]
"""A segment and the rows of it to read, ascending; None means all of them."""


@dataclass(frozen=True, slots=True)
class Readable:
    """A passage in the ways in which it can be read.

    Attributes:
        passage: the passage.
        cached: the segment that a store has, or would have, and the rows that are kept of it.
        text: tokens of what is kept, to be computed; in most cases the same.
        refused: why cached rows cannot stand for what is kept; empty if they can.
        absent: what the store says if it does not have the segment; empty if it has.
        anew: why the mode computes it anew in any case; empty if it does not.
    """

    passage: Passage
    cached: Rows
    text: Rows
    refused: str = ""
    absent: str = ""
    anew: str = ""

    @property
    def tokens(self) -> int:
        """Tokens of the whole passage."""
        return len(self.cached[0])

    @property
    def spans(self) -> int:
        """Runs of kept rows in the cached segment."""
        rows = self.cached[1]
        return 1 if rows is None else 1 + sum(b > a + 1 for a, b in pairwise(rows))


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """What is read of every passage.

    Attributes:
        readable: the passages, best first.
        steps: one a passage, in the same order.
        recomputed: share of all cached rows that are computed anew, in [0, 1].

    Raises:
        ValueError: if there is not one step a passage.
    """

    readable: tuple[Readable, ...]
    steps: tuple[ContextStep, ...]
    recomputed: float = 0.0

    def __post_init__(self) -> None:
        passages = [one.passage.id for one in self.readable]
        steps = [step.passage_id for step in self.steps]
        if passages != steps:
            raise ValueError(f"steps must be one a passage, {passages}, got {steps}")

    @property
    def seconds(self) -> float:
        """Predicted cost of what was chosen, in all."""
        return sum(step.seconds.get(step.step, 0.0) for step in self.steps)

    def rows_of(self, place: int) -> Rows | None:
        """Return what is read of one passage: cached rows or text tokens; None if it is dropped.

        Args:
            place: of the passage.
        """
        step, one = self.steps[place].step, self.readable[place]
        if step == "drop":
            return None
        return one.text if step == "text" else one.cached

    def as_text(self) -> list[Passage]:
        """Return the passages for a generator that reads texts only: the same kept sentences."""
        return [
            narrowed(one.passage)
            for one, step in zip(self.readable, self.steps, strict=True)
            if step.step != "drop"
        ]

    def explain(self) -> str:
        """Return the choice in words; see `explained`."""
        return explained(self.steps)


def explained(steps: tuple[ContextStep, ...]) -> str:
    """Return how passages were read, a line each, and a line with the sum of what was predicted.

    Args:
        steps: as in `Answer.context`.
    """
    lines = []
    for step in steps:
        share = step.kept_tokens / step.tokens if step.tokens else 0.0
        facts = [f"{step.passage_id}: {step.step}"]
        facts.append(f"{step.kept_tokens} of {step.tokens} tokens (s = {share:.2f})")
        if step.load_ratio is not None:
            facts.append(f"β = {step.load_ratio:.3g}")
        facts += [f"{name} {seconds:.6f} s" for name, seconds in step.seconds.items()]
        lines.append(f"{', '.join(facts)}: {step.reason}")
    if any(step.seconds for step in steps):
        total = sum(step.seconds.get(step.step, 0.0) for step in steps)
        lines.append(f"predicted in all: {total:.6f} s")
    return "\n".join(lines)


def dropped(passage: Passage) -> ContextStep:
    """Return the step of a passage of which nothing is read."""
    return ContextStep(passage.id, "drop", "no sentence of it is kept")


def keeps(passage: Passage) -> bool:
    """Return whether anything of a passage is to be read."""
    return bool(passage.sentences) and (foreign(passage) or bool(passage.kept_rows))


def foreign(passage: Passage) -> bool:
    """Return whether the passage's selection was made on another text than it has."""
    return passage.kept is not None and passage.kept.text_sha != text_sha(passage.text)


def by_sentence(passage: Passage) -> bool:
    """Return whether what is kept are whole sentences of the passage, as it has them."""
    kept = passage.kept
    if kept is None:
        return True
    return kept.unit == "sentence" and tuple(one.span for one in kept.sentences) == (
        passage.sentences
    )


def kept_pieces(passage: Passage) -> list[str]:
    """Return what is kept of each sentence, empty for those of which nothing is."""
    if passage.kept is None or foreign(passage):
        return [span.of(passage.text) for span in passage.sentences]
    pieces = []
    for sentence in passage.sentences:
        parts = [part for span in passage.kept.spans if (part := _common(sentence, span))]
        piece = "".join(part.of(passage.text) for part in parts)
        # Words hold the space before them: in front of a piece it would look like indented code.
        piece = piece if parts and parts[0].start == sentence.start else piece.lstrip()
        pieces.append(piece if piece.strip() else "")
    return pieces


def narrowed(passage: Passage) -> Passage:
    """Return a passage as generators read it that know kept sentences only.

    A selection of words, or of other sentences than the passage's own, becomes the text of a new
    passage. One that was made on another text is dropped. Any other passage comes back as it is.
    """
    if foreign(passage):
        return replace(passage, kept=None)
    if by_sentence(passage):
        return passage
    spans, text = [], ""
    for piece in filter(None, kept_pieces(passage)):
        spans.append(Span(len(text), len(text) + len(piece)))
        text += piece
    return replace(passage, text=text, sentences=tuple(spans), kept=None)


def whole_sentences(passage: Passage) -> Passage:
    """Return a passage whose selection is one of its own sentences, for those that count by these.

    A sentence is kept if a part of it is. A selection that was made on another text is dropped.
    """
    if foreign(passage):
        return replace(passage, kept=None)
    if passage.kept is None or by_sentence(passage):
        return passage
    pairs = zip(passage.sentences, kept_pieces(passage), strict=True)
    sentences = tuple(SentenceScore(span, 0.0, kept=bool(piece)) for span, piece in pairs)
    return replace(passage, kept=replace(passage.kept, sentences=sentences, unit="sentence"))


def _common(one: Span, other: Span) -> Span:
    start = max(one.start, other.start)
    return Span(start, max(start, min(one.end, other.end)))

"""Long passages: whole documents, or groups of whole sections."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from rag.corpus.chunking import chained, count_words, pack, passage_of, sentences_of
from rag.corpus.passage_maker import TEXT, modality_of
from rag.records import Document, Passage, Span
from rag.text.splitters import SentenceSplitter

_ALGORITHM = 1  # raise it when other passages come out than before


@dataclass(frozen=True, slots=True)
class _Unit:
    """Text that stays together where it fits: a section with all below it, or the text before.

    Attributes:
        section: row of its heading in the document's sections; -1 for text before the first.
        path: headings that it stands under, its own included.
        span: from its heading to the next heading of its level or above.
        words: in the span.
        inner: the same text in smaller units; empty where there are none.
    """

    section: int
    path: tuple[str, ...]
    span: Span
    words: int
    inner: tuple["_Unit", ...]


@dataclass(frozen=True, slots=True)
class _Group:
    """Units after each other that make a passage, or several if they are `long`."""

    section: int
    path: tuple[str, ...]
    span: Span
    words: int
    long: bool = False


@dataclass(frozen=True, slots=True)
class DocumentChunker:
    """Makes long passages of documents of modality text: whole ones where they fit.

    A document of more than `words` words is cut at its sections: as many after each other as fit
    make a passage, headings included. A section that is too long alone is cut at the sections below
    it in the same way; where there are none, between its sentences, by the rules of
    `rag.corpus.chunking.Chunker` for so many words. Passages cover all visible text exactly once,
    in order. Source: Jiang, Ma and Chen 2024, arXiv:2406.15319, who group whole articles to units
    of 4,000 tokens; here a group stays inside one document, and fits a small model.

    Attributes:
        words: words that a passage may have, at least 1; only text without headings may go beyond,
            by the rules of `Chunker` up to twice as many.
        splitter: finds the sentences.

    Raises:
        ValueError: if `words` is below 1.
    """

    words: int = 600
    splitter: SentenceSplitter = SentenceSplitter()

    def __post_init__(self) -> None:
        if self.words < 1:
            raise ValueError(f"words must be at least 1, got {self.words}")

    @property
    def fingerprint(self) -> str:
        """A name for what this chunker does: passages made under another one are out of date."""
        return f"documents-{_ALGORITHM}-words-{self.words}{self.splitter.suffix}"

    def __call__(self, document: Document) -> list[Passage]:
        """Return the passages of a document in order, ids `<document id>:d<n>` with n from 0."""
        if modality_of(document) != TEXT or not document.text.strip():
            return []
        found = [
            (group, sentences)
            for group in self._groups(document)
            for sentences in self._cut(document.text, group)
        ]
        return chained(
            [
                replace(
                    passage_of(
                        document,
                        f"{document.id}:d{number}",
                        sentences,
                        first=group.span.start,
                        path=group.path,
                    ),
                    parent=document.id if group.section < 0 else f"{document.id}#{group.section}",
                )
                for number, (group, sentences) in enumerate(found)
            ]
        )

    def _groups(self, document: Document) -> Iterator[_Group]:
        """Yield the groups of a document: one if it fits."""
        whole = Span(0, len(document.text))
        words = count_words(document.text)
        if words <= self.words:
            yield _Group(-1, (), whole, words)
        else:
            yield from self._grouped(_units(document, -1, len(document.sections), whole, ()))

    def _grouped(self, units: Sequence[_Unit], held: _Group | None = None) -> Iterator[_Group]:
        """Yield units of one level in groups that fit, those that do not in groups of their own.

        A group below a quarter of the words, often a heading alone, goes with a long unit that
        comes after it, or with the first part of that.

        Args:
            units: each right after the one before.
            held: a group right before them that may be joined with the first.
        """
        for unit in units:
            long = unit.words > self.words
            small = held is not None and held.words < self.words / 4
            if long and unit.inner:
                if held and not small:
                    yield held
                yield from self._grouped(unit.inner, held if small else None)
                held = None
                continue
            if held and (small if long else held.words + unit.words <= self.words):
                held = _Group(
                    held.section,
                    held.path,
                    Span(held.span.start, unit.span.end),
                    held.words + unit.words,
                    long,
                )
            else:
                if held:
                    yield held
                held = _Group(unit.section, unit.path, unit.span, unit.words, long)
            if long:
                yield held
                held = None
        if held:
            yield held

    def _cut(self, text: str, group: _Group) -> list[list[Span]]:
        """Return the sentences of a group, by passages."""
        sentences = list(sentences_of(text, group.span, self.words, self.splitter))
        packed = pack(sentences, self.words) if group.long else [sentences]
        return [[sentence.span for sentence in chunk] for chunk in packed if chunk]


def _units(
    document: Document, above: int, end: int, span: Span, path: tuple[str, ...]
) -> tuple[_Unit, ...]:
    """Return the text of a section, or of the document, as the units right below it.

    The text between its heading and the first section below goes to a unit of its own, with the
    heading.

    Args:
        document: that all are parts of.
        above: row of the section; -1 for the document.
        end: row behind the last section below it.
        span: its text.
        path: headings down to it.
    """
    rows = _topmost(document, above + 1, end)
    starts = [document.sections[row].start for row in rows]
    first = Span(span.start, starts[0] if starts else span.end)
    units = []
    if first.of(document.text).strip():
        units.append(_Unit(above, path, first, count_words(first.of(document.text)), ()))
    for (row, start), (after, stop) in pairwise([*zip(rows, starts, strict=True), (end, span.end)]):
        here = Span(start, stop)
        below = (*path, document.sections[row].title)
        inner = _units(document, row, after, here, below) if after > row + 1 else ()
        units.append(_Unit(row, below, here, count_words(here.of(document.text)), inner))
    return tuple(units)


def _topmost(document: Document, first: int, end: int) -> list[int]:
    """Return the rows of the sections, from `first` to `end`, that stand below no other of them."""
    rows: list[int] = []
    for row in range(first, end):
        if not rows or document.sections[row].level <= document.sections[rows[-1]].level:
            rows.append(row)
    return rows

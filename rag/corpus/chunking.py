"""Chunking: documents to passages of whole sentences that stay inside their section."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from rag.records import HEADINGS, Document, Passage, Section, Span
from rag.text.splitters import SentenceSplitter

_ALGORITHM = 1  # raise it when chunker or sentence splitter give other passages than before

_UNDERLINE = re.compile(r"[ \t]*([^\w\s])\1+[ \t]*(?:\n|\Z)")
# Scripts without spaces count a word for two characters, unbroken runs one for 24.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]{1,2}|[^\s\u3040-\u30ff\u3400-\u9fff]{1,24}")


@dataclass(frozen=True, slots=True)
class _Part:
    """A section of a document, or several small ones after each other.

    Attributes:
        number: row of the (first) section in the document's sections; -1 before the first heading.
        parent: row of the section above it; -1 for an outermost one.
        above: headings it stands under, outermost first.
        path: those and its own, where its text does not hold that.
        start: where its heading begins.
        span: the text that passages are made of.
        words: words from its heading on.
        page: page that it begins on, if there are pages.
    """

    number: int
    parent: int
    above: tuple[str, ...]
    path: tuple[str, ...]
    start: int
    span: Span
    words: int
    page: int | None


class _Sentence(NamedTuple):
    """A sentence, its words, and whether it opens the next one, as `Example:` does."""

    span: Span
    words: int
    opens: bool


@dataclass(frozen=True, slots=True)
class Chunker:
    """Makes passages of whole sentences, about `words` words each, inside the sections.

    Passages cover all text but headings and white space exactly once, in order. Headings stand in
    the titles. Sections below `words / 4` words are joined with the next one of the same parent and
    page if both fit; then their headings are in the text and only the parent's in the title. The
    heading of a section without text is its text.

    A sentence is cut only if it alone has more than `2 * words` words. The last two passages of a
    section share their sentences evenly if the last would have less than half of `words`. A
    sentence that opens the next one (it ends with a colon, or is a term above an indented text)
    goes with it.

    Attributes:
        words: words to aim at, at least 1. The default fills most of a 256-token encoder window.
        splitter: finds the sentences.
    """

    words: int = 120
    splitter: SentenceSplitter = SentenceSplitter()

    def __post_init__(self) -> None:
        if self.words < 1:
            raise ValueError(f"words must be at least 1, got {self.words}")

    @property
    def fingerprint(self) -> str:
        """A name for what this chunker does: passages made under another one are out of date."""
        by = "" if self.splitter.name == "rules" else f"-{self.splitter.fingerprint}"
        return f"sections-{_ALGORITHM}-words-{self.words}{by}"

    def __call__(self, document: Document) -> list[Passage]:
        """Return the passages of a document in order, ids `<document id>:<n>` with n from 0."""
        chunks = [
            (part, sentences)
            for part in self._joined(_parts(document))
            for sentences in self._packed(document.text, part.span)
        ]
        return [
            _passage(document, part, sentences, number, last=number == len(chunks) - 1)
            for number, (part, sentences) in enumerate(chunks)
        ]

    def _joined(self, parts: Iterator[_Part]) -> Iterator[_Part]:
        """Yield the parts, small ones joined with the next of the same parent and page."""
        held: _Part | None = None
        for part in parts:
            if held and self._join(held, part):
                held = _Part(
                    held.number,
                    held.parent,
                    held.above,
                    held.above,
                    held.start,
                    Span(held.start, part.span.end),
                    held.words + part.words,
                    held.page,
                )
                continue
            if held:
                yield held
            held = part
        if held:
            yield held

    def _join(self, held: _Part, part: _Part) -> bool:
        """Tell whether a small part goes together with the next one."""
        family = held.number >= 0 and held.parent == part.parent and held.page == part.page
        small = held.words < self.words / 4 and held.words + part.words <= self.words
        return family and small

    def _packed(self, text: str, span: Span) -> list[list[Span]]:
        """Return the sentences of a span, grouped to passages."""
        sentences = [
            piece
            for sentence in self.splitter(span.of(text))
            for piece in self._pieces(text, sentence.shifted(span.start))
        ]
        chunks: list[list[_Sentence]] = [[]]
        size, limit = 0, 2 * self.words
        for sentence in _sized(text, sentences):
            stub = size < self.words / 4 or all(opener.opens for opener in chunks[-1])
            room = limit if stub else self.words
            if chunks[-1] and size + sentence.words > room:
                chunks.append(_openers(chunks[-1], min(self.words / 4, limit - sentence.words)))
                size = sum(opener.words for opener in chunks[-1])
            chunks[-1].append(sentence)
            size += sentence.words
        if len(chunks) > 1 and size < self.words / 2:
            chunks[-2:] = _balanced(chunks[-2] + chunks[-1], self.words)
        return [[sentence.span for sentence in chunk] for chunk in chunks if chunk]

    def _pieces(self, text: str, sentence: Span) -> Iterator[Span]:
        """Yield a sentence, in pieces of at most `words` words if it has more than twice that."""
        starts = [word.start() for word in _WORD.finditer(text, sentence.start, sentence.end)]
        cuts = [sentence.start]
        if len(starts) > 2 * self.words:
            row = 0
            while len(starts) - row > self.words:
                limit = row + self.words
                spaced = (r for r in range(limit, row, -1) if text[starts[r] - 1].isspace())
                row = next(spaced, limit)
                cuts.append(starts[row])
        yield from (Span(start, end) for start, end in pairwise([*cuts, sentence.end]))


def _sized(text: str, sentences: list[Span]) -> Iterator[_Sentence]:
    """Yield sentences with their words and whether they open what comes next."""
    indent = 0
    for sentence in sentences:
        covered = sentence.of(text)
        visible = covered.rstrip()
        gap = covered[len(visible) :]
        coming = len(gap) - gap.rfind("\n") - 1 if "\n" in gap else indent
        opens = visible.endswith(":") or (coming > indent and visible[-1] not in ".!?")
        yield _Sentence(sentence, len(_WORD.findall(covered)), opens)
        indent = coming


def _openers(chunk: list[_Sentence], most: float) -> list[_Sentence]:
    """Take the sentences off the end of a chunk that open the next one; the first one stays.

    Args:
        chunk: sentences of a passage; changed.
        most: words that may be taken.
    """
    openers: list[_Sentence] = []
    while len(chunk) > 1 and chunk[-1].opens:
        if sum(opener.words for opener in openers) + chunk[-1].words > most:
            break
        openers.insert(0, chunk.pop())
    return openers


def _balanced(sentences: list[_Sentence], aim: int) -> list[list[_Sentence]]:
    """Cut sentences in two halves of words as equal as they get; the earlier cut on a tie.

    No cut is made after a sentence that opens the next, unless there is no other.

    Args:
        sentences: at least two; they can be cut in halves of at most `2 * aim` words.
        aim: words that a half should have; all stay together if one would be below a quarter of it
            and together they are not above one and a half.
    """
    total = sum(sentence.words for sentence in sentences)
    left = accumulate(sentence.words for sentence in sentences[:-1])
    cuts = [
        (max(words, total - words) > 2 * aim, sentence.opens, abs(total - 2 * words), cut)
        for cut, (sentence, words) in enumerate(zip(sentences, left, strict=False), 1)
    ]
    _, _, gap, cut = min(cuts)
    if (total - gap) / 2 < aim / 4 and total <= 1.5 * aim:
        return [sentences]
    return [sentences[:cut], sentences[cut:]]


def _parts(document: Document) -> Iterator[_Part]:
    """Yield the text before the first heading, and each section that has text of its own."""
    text, sections = document.text, document.sections
    ends = (*(section.start for section in sections[1:]), len(text))[: len(sections)]
    preface = Span(0, sections[0].start if sections else len(text))
    if not preface.of(text).isspace() and preface:
        yield _Part(-1, -1, (), (), 0, preface, 0, None)
    above: list[int] = []
    for number, (section, end) in enumerate(zip(sections, ends, strict=True)):
        while above and sections[above[-1]].level >= section.level:
            above.pop()
        leaf = number + 1 == len(sections) or sections[number + 1].level <= section.level
        body = Span(_heading_end(text, section, end), end)
        whole = Span(section.start, end)
        if body.of(text).strip() or (leaf and whole.of(text).strip()):
            headings = tuple(sections[row].title for row in above)
            yield _Part(
                number,
                above[-1] if above else -1,
                headings,
                (*headings, section.title) if body.of(text).strip() else headings,
                section.start,
                body if body.of(text).strip() else whole,
                len(_WORD.findall(whole.of(text))),
                _page(document, section.start),
            )
        above.append(number)


def _heading_end(text: str, section: Section, end: int) -> int:
    """Return where the body of a section begins: after its heading's line and underline.

    Without a line that holds the heading, that is where the section begins.
    """
    line = text.find("\n", section.start, end) + 1 or end
    if section.title not in " ".join(text[section.start : line].split()):
        return section.start
    underline = _UNDERLINE.match(text, line, end)
    return underline.end() if underline else line


def _page(document: Document, at: int) -> int | None:
    """Return the number of the page that a code point stands on, if there are pages."""
    return max(1, bisect_right(document.pages, at)) if document.pages else None


def _passage(
    document: Document, part: _Part, sentences: list[Span], number: int, *, last: bool
) -> Passage:
    """Return one passage: its sentences without blank lines around them."""
    covered = Span(sentences[0].start, sentences[-1].end).of(document.text)
    end = sentences[0].start + len(covered.rstrip())
    visible = sentences[0].start + len(covered) - len(covered.lstrip())
    # The indentation of the first line tells code from text.
    start = visible
    while start > part.span.start and document.text[start - 1] in " \t":
        start -= 1
    if start > part.span.start and document.text[start - 1] != "\n":
        start = visible
    cuts = [start, *(sentence.start for sentence in sentences[1:]), end]
    headings = part.path[1:] if part.path[:1] == (document.title,) else part.path
    return Passage(
        id=f"{document.id}:{number}",
        document=document.id,
        text=document.text[start:end],
        span=Span(start, end),
        sentences=tuple(Span(a - start, b - start) for a, b in pairwise(cuts)),
        title=HEADINGS.join(filter(None, (document.title, *headings))),
        page=_page(document, visible),
        modality=str(document.metadata.get("modality", "text")),
        previous=f"{document.id}:{number - 1}" if number else None,
        next=None if last else f"{document.id}:{number + 1}",
        parent=document.id if part.number < 0 else f"{document.id}#{part.number}",
        metadata=document.metadata,
        links=tuple(link.target for link in document.links if start <= link.start < end),
    )

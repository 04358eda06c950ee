"""Chunking: documents to passages of whole sentences that stay inside their section."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import NamedTuple

from rag.records import HEADINGS, Document, Link, Passage, Section, Span
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


class Sentence(NamedTuple):
    """A sentence of a document, its words, and whether it opens the next, as `Example:` does."""

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
        return f"sections-{_ALGORITHM}-words-{self.words}{self.splitter.suffix}"

    def __call__(self, document: Document) -> list[Passage]:
        """Return the passages of a document in order, ids `<document id>:<n>` with n from 0."""
        chunks = [
            (part, sentences)
            for part in self._joined(_parts(document))
            for sentences in self._packed(document.text, part.span)
        ]
        passages = [
            replace(
                passage_of(
                    document,
                    f"{document.id}:{number}",
                    sentences,
                    first=part.span.start,
                    path=part.path,
                ),
                parent=document.id if part.number < 0 else f"{document.id}#{part.number}",
            )
            for number, (part, sentences) in enumerate(chunks)
        ]
        return chained(passages)

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
        sentences = sentences_of(text, span, self.words, self.splitter)
        return [[sentence.span for sentence in chunk] for chunk in pack(sentences, self.words)]


def count_words(text: str) -> int:
    """Return the words of a text, as sizes of passages are counted."""
    return sum(1 for _ in _WORD.finditer(text))


def sentences_of(
    text: str, span: Span, words: int, splitter: SentenceSplitter
) -> Iterator[Sentence]:
    """Yield the sentences of a part of a text, spans counted in the whole text.

    Args:
        text: of a document.
        span: the part.
        words: a sentence of more than twice as many is cut, in pieces of at most so many.
        splitter: finds the sentences.
    """
    spans = [
        piece
        for sentence in splitter(span.of(text))
        for piece in pieces(text, sentence.shifted(span.start), words)
    ]
    return _sized(text, spans)


def pieces(text: str, sentence: Span, words: int) -> Iterator[Span]:
    """Yield a sentence, in pieces of at most `words` words if it has more than twice that."""
    starts = [word.start() for word in _WORD.finditer(text, sentence.start, sentence.end)]
    cuts = [sentence.start]
    if len(starts) > 2 * words:
        row = 0
        while len(starts) - row > words:
            limit = row + words
            spaced = (r for r in range(limit, row, -1) if text[starts[r] - 1].isspace())
            row = next(spaced, limit)
            cuts.append(starts[row])
    yield from (Span(start, end) for start, end in pairwise([*cuts, sentence.end]))


def pack(sentences: Iterable[Sentence], words: int) -> list[list[Sentence]]:
    """Group sentences to passages of about `words` words, by the rules that `Chunker` states.

    Args:
        sentences: in order, none of more than `2 * words` words.
        words: to aim at; no group has more than twice as many.
    """
    chunks: list[list[Sentence]] = [[]]
    size, limit = 0, 2 * words
    for sentence in sentences:
        stub = size < words / 4 or all(opener.opens for opener in chunks[-1])
        room = limit if stub else words
        if chunks[-1] and size + sentence.words > room:
            chunks.append(_openers(chunks[-1], min(words / 4, limit - sentence.words)))
            size = sum(opener.words for opener in chunks[-1])
        chunks[-1].append(sentence)
        size += sentence.words
    if len(chunks) > 1 and size < words / 2:
        chunks[-2:] = _balanced(chunks[-2] + chunks[-1], words)
    return [chunk for chunk in chunks if chunk]


def _sized(text: str, sentences: list[Span]) -> Iterator[Sentence]:
    """Yield sentences with their words and whether they open what comes next."""
    indent = 0
    for sentence in sentences:
        covered = sentence.of(text)
        visible = covered.rstrip()
        gap = covered[len(visible) :]
        coming = len(gap) - gap.rfind("\n") - 1 if "\n" in gap else indent
        opens = visible.endswith(":") or (coming > indent and visible[-1] not in ".!?")
        yield Sentence(sentence, count_words(covered), opens)
        indent = coming


def _openers(chunk: list[Sentence], most: float) -> list[Sentence]:
    """Take the sentences off the end of a chunk that open the next one; the first one stays.

    Args:
        chunk: sentences of a passage; changed.
        most: words that may be taken.
    """
    openers: list[Sentence] = []
    while len(chunk) > 1 and chunk[-1].opens:
        if sum(opener.words for opener in openers) + chunk[-1].words > most:
            break
        openers.insert(0, chunk.pop())
    return openers


def _balanced(sentences: list[Sentence], aim: int) -> list[list[Sentence]]:
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
                count_words(whole.of(text)),
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


def passage_of(
    document: Document, id_: str, sentences: Sequence[Span], *, first: int, path: Sequence[str]
) -> Passage:
    """Return a passage without neighbours and parent: sentences without blank lines around them.

    Args:
        document: that it is a part of.
        id_: of the passage.
        sentences: of the passage in the document, at least one visible, touching each other.
        first: code point before which the passage must not begin.
        path: what its title says below the document's title, outermost first.
    """
    visible, whole = _trimmed(document.text, sentences, first)
    cuts = [whole.start, *(sentence.start for sentence in sentences[1:]), whole.end]
    headings = path[1:] if tuple(path[:1]) == (document.title,) else path
    begin = bisect_left(document.links, whole.start, key=_link_start)
    links = document.links[begin : bisect_left(document.links, whole.end, key=_link_start)]
    return Passage(
        id=id_,
        document=document.id,
        text=whole.of(document.text),
        span=whole,
        sentences=tuple(Span(a - whole.start, b - whole.start) for a, b in pairwise(cuts)),
        title=HEADINGS.join(filter(None, (document.title, *headings))),
        page=_page(document, visible),
        modality=str(document.metadata.get("modality", "text")),
        metadata=document.metadata,
        links=tuple(link.target for link in links),
    )


def chained(passages: Sequence[Passage]) -> list[Passage]:
    """Return passages that each name the one before and the one after."""
    ids = [None, *(passage.id for passage in passages), None]
    return [
        replace(passage, previous=ids[row], next=ids[row + 2])
        for row, passage in enumerate(passages)
    ]


def _link_start(link: Link) -> int:
    return link.start


def _trimmed(text: str, sentences: Sequence[Span], first: int) -> tuple[int, Span]:
    """Return where a passage's first visible character stands, and the passage.

    The indentation of its first line belongs to it, because that tells code from text.

    Args:
        text: of the document.
        sentences: of the passage.
        first: code point before which the passage must not begin.
    """
    covered = Span(sentences[0].start, sentences[-1].end).stripped(text)
    start = covered.start
    while start > first and text[start - 1] in " \t":
        start -= 1
    if start > first and text[start - 1] != "\n":
        start = covered.start
    return covered.start, Span(start, covered.end)

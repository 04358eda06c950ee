"""Tables: whole ones, and their rows one by one, as passages that can be read alone."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rag.corpus.chunking import (
    Sentence,
    chained,
    count_words,
    pack,
    passage_of,
    pieces,
    sentences_of,
)
from rag.corpus.passage_maker import modality_of
from rag.corpus.table_lines import TableLines, read_table
from rag.records import Document, Passage, Section, Span
from rag.text.splitters import SentenceSplitter

TABLE = "table"
_ALGORITHM = 1  # raise it when other passages come out than before
_CAPTION_WORDS = 40  # more text above the rows is an introduction, and no title
_COLUMN_WORDS = 60  # of the names of columns in a title


@dataclass(frozen=True, slots=True)
class TableChunker:
    """Makes passages of the tables in documents: each table, and each of its rows.

    A passage of a whole table holds its caption, header and rows. A table of more than `words`
    words is cut between rows, by the rules of `rag.corpus.chunking.pack`; parts repeat nothing. A
    row's passage is a slice of the passage that its `parent` names, and is left out where it would
    be all of that. Lines between the rows with one cell only have no passage of their own.

    The title says what a row needs to be read alone: the document's title, the caption (where there
    is none, the headings above), and the names of the columns unless each row names them itself.
    Each row is one sentence, so a pruner keeps or drops it as a whole; only one of more than
    `2 * words` words is cut.

    Tables are the document's `tables`; where its modality is `table` and it marks none, all of its
    text is one. Takes time linear in the text.

    Attributes:
        words: words that a part of a table may have, at least 1, and up to twice as many where a
            row is long; a bar between cells counts as one, as it costs a token.
        rows: whether rows have passages of their own.
        splitter: finds the sentences of captions and other text around the rows.

    Raises:
        ValueError: if `words` is below 1.
    """

    words: int = 400
    rows: bool = True
    splitter: SentenceSplitter = SentenceSplitter()

    def __post_init__(self) -> None:
        if self.words < 1:
            raise ValueError(f"words must be at least 1, got {self.words}")

    @property
    def fingerprint(self) -> str:
        """A name for what this chunker does: passages made under another one are out of date."""
        rows = "-rows" if self.rows else ""
        return f"tables-{_ALGORITHM}-words-{self.words}{rows}{self.splitter.suffix}"

    def __call__(self, document: Document) -> list[Passage]:
        """Return the passages table by table: its parts, then its rows.

        Ids are `<document id>:t<n>` for parts and `<document id>:r<n>` for rows, both with n from 0
        over the document. `previous` and `next` run among the parts, or the rows, of one table.
        """
        made: list[Passage] = []
        parts = rows = 0
        above = _headings(document) if document.tables else []
        for table in _tables(document):
            lines = read_table(document.text, table)
            section = _section_at(document, table.start)
            path = self._path(document, lines, above[section] if section >= 0 else ())
            whole = self._parts(document, table, lines, path, parts)
            parts += len(whole)
            parent = document.id if section < 0 else f"{document.id}#{section}"
            made += [replace(part, parent=parent) for part in chained(whole)]
            if self.rows:
                single = self._rows(document, lines, path, whole, rows)
                rows += len(single)
                made += chained(single)
        return made

    def _path(
        self, document: Document, lines: TableLines, headings: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Return what the title of a table's passages says below the document's title."""
        caption = " ".join(lines.above.of(document.text).split())
        if caption and count_words(caption) <= _CAPTION_WORDS:
            headings = (caption,)
        columns: list[str] = []
        room = _COLUMN_WORDS
        for column in lines.columns:
            room -= count_words(column)
            if room < 0:
                break
            columns.append(column)
        names = " | ".join(columns).strip()
        return (*headings, names) if names else headings

    def _sentences(self, text: str, lines: TableLines) -> Iterator[Sentence]:
        """Yield the text above the rows by sentences, then header and rows, then the text below."""
        above = list(sentences_of(text, lines.above, self.words, self.splitter))
        caption = sum(sentence.words for sentence in above) <= _CAPTION_WORDS
        yield from (sentence._replace(opens=caption) for sentence in above)
        if lines.header is not None:
            for piece in pieces(text, lines.header, self.words):
                yield Sentence(piece, count_words(piece.of(text)), opens=True)
        for row in lines.rows:
            for piece in pieces(text, row, self.words):
                yield Sentence(piece, count_words(piece.of(text)), opens=False)
        yield from sentences_of(text, lines.below, self.words, self.splitter)

    def _parts(
        self,
        document: Document,
        table: Span,
        lines: TableLines,
        path: Sequence[str],
        number: int,
    ) -> list[Passage]:
        """Return the passages that make up a whole table, numbered from `number`."""
        sentences = self._sentences(document.text, lines)
        return [
            replace(
                passage_of(
                    document,
                    f"{document.id}:t{row}",
                    [sentence.span for sentence in part],
                    first=table.start,
                    path=path,
                ),
                modality=TABLE,
            )
            for row, part in enumerate(pack(sentences, self.words), number)
        ]

    def _rows(
        self,
        document: Document,
        lines: TableLines,
        path: Sequence[str],
        whole: Sequence[Passage],
        number: int,
    ) -> list[Passage]:
        """Return a passage for each row that can be looked up, numbered from `number`.

        Args:
            document: that the table is in.
            lines: of the table.
            path: what titles say below the document's.
            whole: the passages of the table, in order.
            number: of the first row.
        """
        made: list[Passage] = []
        part = 0
        for row, alone in zip(lines.rows, lines.alone, strict=True):
            if not alone:
                continue
            for piece in pieces(document.text, row, self.words):
                id_ = f"{document.id}:r{number + len(made)}"
                passage = passage_of(document, id_, [piece], first=row.start, path=path)
                while whole[part].span.end < passage.span.end:
                    part += 1
                if passage.span != whole[part].span:
                    made.append(replace(passage, modality=TABLE, parent=whole[part].id))
        return made


def _tables(document: Document) -> tuple[Span, ...]:
    """Return where a document's tables stand, blank ones left out."""
    tables = document.tables
    if not tables and modality_of(document) == TABLE:
        tables = (Span(0, len(document.text)),)
    return tuple(table for table in tables if table.of(document.text).strip())


def _section_at(document: Document, at: int) -> int:
    """Return the row of the section that a code point stands in; -1 before the first."""
    return bisect_right(document.sections, at, key=_start) - 1


def _start(section: Section) -> int:
    return section.start


def _headings(document: Document) -> list[tuple[str, ...]]:
    """Return the headings above each section's text, outermost first, its own included."""
    paths: list[tuple[str, ...]] = []
    above: list[int] = []
    for row, section in enumerate(document.sections):
        while above and document.sections[above[-1]].level >= section.level:
            above.pop()
        paths.append((*(paths[above[-1]] if above else ()), section.title))
        above.append(row)
    return paths

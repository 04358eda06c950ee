"""An outline: the text of a document as it grows, with its headings, pages and tables."""

import re
from collections.abc import Iterable, Sequence

from rag.records import Document, Metadata, Section, Span

_CAPTION = re.compile(
    r"(?:table|tab\.|tabelle|tableau|tabla|tabella|tabela|tabel|表)\s*"
    r"(?:(?-i:[A-Z]{1,2}[.-]?)?\d+(?:[.-]\d+)*[a-z]?|(?-i:[IVXLC]+|[A-Z]))"
    r"\s*(?:[:.|\u2013\u2014\uff1a-].*)?",
    re.IGNORECASE | re.DOTALL,
)
_RULE = re.compile(r"\|?(?:[ \t]*:?-+:?[ \t]*\|)*(?:[ \t]*:?-+:?)?")
_BAR = re.compile(r"(?<!\\)\|")
_LONGEST_CAPTION = 400  # code points; a longer paragraph tells more than what a table is


class Outline:
    """Collects blocks of text in reading order; blank lines stand between them.

    Every method appends to the text; `document` changes nothing and can be called at any time.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._sections: list[Section] = []
        self._pages: list[int] = []
        self._tables: list[Span] = []
        self._caption: int | None = None  # where it begins, if the last block may be one
        self._separated = True

    def heading(self, title: str, level: int) -> None:
        """Begin a section whose heading is a line of its own; a blank title is left out.

        Args:
            title: white space in it is folded.
            level: 1 for the outermost.
        """
        title = " ".join(title.split())
        if title:
            self._separate("\n\n")
            self._sections.append(Section(self._length, level, title))
            self._append(title)
            self._caption = None

    def block(self, text: str, *, separator: str = "\n\n") -> None:
        """Add a paragraph, list item or table; a blank one is left out.

        Args:
            text: lines without trailing white space.
            separator: what stands between it and the text before.
        """
        self._add(text, separator)

    def table(
        self, lines: Iterable[str], *, captions: Sequence[str] = (), data: bool = True
    ) -> None:
        """Add a table and mark its place, together with a caption that is the block right above.

        Where every line is blank, nothing is added or marked.

        Args:
            lines: one a row, the header's first.
            captions: paragraphs above the rows.
            data: whether it is one to look things up in; others are not marked.
        """
        start = self._caption
        separator = "\n\n"
        for above in captions:
            added = self._add(above, separator)
            start = added if start is None else start
        for line in lines:
            added = self._add(line, separator)
            if added is not None:
                start = added if start is None else start
                separator = "\n"
        if data and separator == "\n" and start is not None:
            self._tables.append(Span(start, self._length))
        self._caption = None

    def cells(self, rows: Sequence[Sequence[str]]) -> None:
        """Add a table as lines `cell | cell`; it holds data if a row has text in two cells.

        Args:
            rows: the header's first; white space in cells is folded.
        """
        self.table([row_text(row) for row in rows], data=holds_data(rows))

    def page(self, *, separator: str = "\n\n") -> None:
        """Begin a page."""
        self._separate(separator)
        self._pages.append(self._length)
        self._caption = None

    def document(self, source: str, title: str, metadata: Metadata) -> Document:
        """Return what was collected as a document with the id `source`."""
        return Document(
            source,
            "".join(self._parts),
            title,
            tuple(self._sections),
            tuple(self._pages),
            metadata,
            tables=tuple(self._tables),
        )

    def _separate(self, separator: str) -> None:
        if not self._separated:
            self._append(separator)
            self._separated = True

    def _add(self, text: str, separator: str) -> int | None:
        """Add a block and return where it begins, or None for a blank one."""
        text = text.strip("\n").rstrip()
        if not text.strip():
            return None
        self._separate(separator)
        start = self._length
        self._append(text)
        self._caption = start if is_caption(text) else None
        return start

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)
        self._separated = False


def is_caption(text: str) -> bool:
    """Tell whether a paragraph is the caption of a table, such as `Table 3: Sales by region`."""
    return len(text) <= _LONGEST_CAPTION and _CAPTION.fullmatch(text.strip()) is not None


def row_text(cells: Sequence[str]) -> str:
    """Return a table row as `cell | cell`, white space folded; empty if every cell is."""
    folded = [" ".join(cell.split()) for cell in cells]
    return " | ".join(folded) if any(folded) else ""


def is_rule(line: str) -> bool:
    """Tell whether a line is the rule `|---|:--:|` between the header and the rows of a table."""
    return "|" in line and "-" in line and _RULE.fullmatch(line.strip()) is not None


def split_row(line: str) -> list[str]:
    """Return the cells of a row, written as `cell | cell` or between bars.

    A bar behind a backslash belongs to its cell.
    """
    cells = [cell.strip() for cell in _BAR.split(line)]
    bounded = len(cells) > 1 and not cells[0] and (not cells[-1] or not line.startswith(" "))
    return (cells[1:-1] if not cells[-1] else cells[1:]) if bounded else cells


def holds_data(rows: Iterable[Sequence[str]]) -> bool:
    """Tell whether some row of a table has text in two cells; other tables are for layout."""
    return any(sum(bool(cell.strip()) for cell in row) > 1 for row in rows)

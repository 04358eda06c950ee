"""The lines of a table in a document's text: caption, header, rows, and what stands below."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rag.corpus.loaders.outline import is_rule, split_row
from rag.records import Span

_NAMED = re.compile(r"\S.{0,200}?(?=: \S)")
_NUMBER = re.compile(r"[^\w\s]{0,3}\d[\d.,:/\s-]*[^\w\s]{0,3}")
_YEAR = re.compile(r"[12]\d{3}(?:\s?[-/\u2013]\s?\d{2,4})?")
_SAMPLE = 50  # rows that a first line is compared with
_HEADER_WORDS = 12  # a cell with more is no name of a column


@dataclass(frozen=True, slots=True)
class TableLines:
    """Where the parts of a table stand in a document; they follow each other without a gap.

    Attributes:
        above: caption and other text before the header; may be empty.
        header: the line that names the columns, with the rule below it; None where no line does.
        rows: lines of the table, up to where the next begins.
        alone: of each row, whether it says something by itself; a line with one cell among others
            that have several does not.
        below: text after the last row; may be empty.
        columns: names of the columns; empty if unknown, or if each row names them.
    """

    above: Span
    header: Span | None
    rows: tuple[Span, ...]
    alone: tuple[bool, ...]
    below: Span
    columns: tuple[str, ...]


def read_table(text: str, table: Span) -> TableLines:
    """Return what the lines of a table are.

    Lines `Column: value; Column: value` below the last blank line are rows that name their columns.
    Else rows are lines with bars, `cell | cell` or `| cell | cell |`. The first of them is the
    header if a rule stands below it. Without a rule it is one if it looks like names of columns:
    short cells, no numbers but years, none that comes again in its column; with two columns, which
    may be names and values, only if numbers stand below. Takes time linear in the text.

    Args:
        text: of the document.
        table: where the table stands in it.
    """
    lines, gap = _lines(text, table)
    tail = [line.of(text) for line in lines[gap:]]
    barred = [row for row, line in enumerate(lines) if "|" in line.of(text)]
    ruled = bool(barred) and barred[0] + 1 < len(lines) and is_rule(lines[barred[0] + 1].of(text))
    if not ruled and _names_columns(tail):
        return _table(table, lines, gap, gap, len(lines), [True] * len(tail), ())
    if not barred:
        return _table(table, lines, len(lines), len(lines), len(lines), [], ())
    first, end = barred[0], len(lines) if ruled else barred[-1] + 1
    cells = [split_row(line.of(text)) for line in lines[first:end]]
    below = 2 if ruled else int(_is_header(cells))
    alone = [len(row) > 1 or ruled for row in cells[below:]] if len(cells) > 1 else [False]
    columns = cells[0] if below else []
    return _table(table, lines, first, first + below, end, alone, columns)


def _table(
    table: Span,
    lines: Sequence[Span],
    first: int,
    body: int,
    end: int,
    alone: Sequence[bool],
    columns: Sequence[str],
) -> TableLines:
    """Return the parts of a table.

    Args:
        table: where it stands.
        lines: that are not blank.
        first: row of the header's line.
        body: row of the first line below the header.
        end: row behind the last line of the table.
        alone: of each line from `body` to `end`, whether it says something by itself.
        columns: names of the columns.
    """
    starts = [table.start, *(line.start for line in lines[1:]), table.end]
    return TableLines(
        Span(table.start, starts[first]),
        Span(starts[first], starts[body]) if body > first else None,
        tuple(Span(starts[row], starts[row + 1]) for row in range(body, end)),
        tuple(alone),
        Span(starts[end], table.end),
        tuple(columns) if any(columns) else (),
    )


def _lines(text: str, table: Span) -> tuple[list[Span], int]:
    """Return the lines that are not blank, and how many of them stand above the last blank line."""
    lines: list[Span] = []
    gap, start = 0, table.start
    while start < table.end:
        stop = text.find("\n", start, table.end)
        stop = table.end if stop < 0 else stop
        if text[start:stop].strip():
            lines.append(Span(start, stop))
        else:
            gap = len(lines)
        start = stop + 1
    return lines, gap if gap < len(lines) else 0


def _names_columns(lines: Sequence[str]) -> bool:
    """Tell whether most lines begin with the name of a column, which others do too."""
    found = [named[0] if (named := _NAMED.match(line)) else "" for line in lines]
    counts = Counter(filter(None, found))
    shared = sum(count for count in counts.values() if count > 1 or len(lines) == 1)
    return 2 * shared > len(lines)


def _is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether the first row looks like names of columns."""
    first, body = rows[0], [row for row in rows[1 : _SAMPLE + 1] if len(row) > 1]
    if not body or len(first) < 2 or 2 * sum(map(bool, first)) < len(first):
        return False
    if any(len(cell.split()) > _HEADER_WORDS or _is_number(cell) for cell in first):
        return False
    columns = [[row[at] for row in body if at < len(row) and row[at]] for at in range(len(first))]
    if any(cell and cell in column for cell, column in zip(first, columns, strict=True)):
        return False
    if _YEAR.fullmatch(first[0]) and _mostly(_YEAR, columns[0]):
        return False
    return len(first) > 2 or any(_mostly(_NUMBER, column) for column in columns)


def _is_number(cell: str) -> bool:
    """Tell whether a cell is a number that no column would be named after."""
    return _NUMBER.fullmatch(cell) is not None and _YEAR.fullmatch(cell) is None


def _mostly(pattern: re.Pattern[str], cells: Sequence[str]) -> bool:
    """Tell whether at least half of the cells match."""
    return bool(cells) and 2 * sum(pattern.fullmatch(cell) is not None for cell in cells) >= len(
        cells
    )

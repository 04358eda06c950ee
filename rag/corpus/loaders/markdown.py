"""Markdown (.md): headings become sections, front matter metadata, links their text."""

import html
import re
from collections.abc import Iterator
from itertools import accumulate

from rag.corpus.loaders.decoding import decode
from rag.corpus.loaders.links import link_mark, with_links, without_marks
from rag.corpus.loaders.outline import (
    holds_data,
    is_caption,
    is_rule,
    row_text,
    split_row,
)
from rag.records import Document, Section, Span

_FRONT_MATTER = re.compile(
    r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE
)
_FACT = re.compile(r"^([A-Za-z_][\w-]*):[ \t]+(?![\[{|>&*])(\S.*?)[ \t]*$", re.MULTILINE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^`]*)$")
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}(={2,}|-{2,})[ \t]*$")
_NOT_A_PARAGRAPH = re.compile(r"\s*$| {4}|\t| {0,3}(?:[-*+>|]|\d+[.)]|#{1,6}[ \t])")
_CODE_OR_LINK = re.compile(
    r"(?P<code>(?<!`)(?P<ticks>`+)(?!`).{1,400}?(?<!`)(?P=ticks)(?!`))"
    r"|!?\[(?P<label>(?:[^\[\]]|\[[^\[\]]*\])*)\]"
    r"\((?P<target>[^()\s]*(?:\([^()\s]*\)[^()\s]*)*)(?:\s+\"[^\"]*\")?\)"
)
_EMPHASIS = re.compile(r"(\*\*|__|\*|`)(?=\S)(.+?)(?<=\S)\1")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_TABLE = re.compile(r"<table\b.*?</table>", re.DOTALL | re.IGNORECASE)
_ROW = re.compile(r"<tr\b[^>]*>(.*?)(?=</tr>|<tr\b|</table>)", re.DOTALL | re.IGNORECASE)
_CELL = re.compile(r"<t[dh]\b[^>]*>(.*?)(?=</t[dh]>|<t[dhr]\b|\Z)", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_NO_ROW = re.compile(r"\s*$| {0,3}(?:[-*+>]|\d+[.)]|#{1,6})[ \t]")
_CAPTION_LINES = 4
# What stands around a table that was HTML, while lines are gathered: code points that Unicode
# keeps out of text for ever.
_BEGIN, _END = "\ufdd2", "\ufdd3"
_MARKS = re.compile(f"([{_BEGIN}{_END}])")


def load(data: bytes, source: str, name: str) -> list[Document]:
    """Return the one document of a Markdown file.

    The text stays Markdown, apart from links and images (their text stays, and links to paths are
    kept beside it), comments (dropped) and HTML tables (`cell | cell` lines); code is left alone.
    Pipe tables and HTML tables that hold data are marked, with a caption right above them.
    `key: value` lines of the front matter become metadata.

    Args:
        data: content of the file.
        source: id of the document.
        name: its title where neither front matter nor a single topmost heading gives one.

    Raises:
        CorpusError: for binary content.
    """
    text, encoding = decode(data)
    facts: dict[str, str] = {}
    if front := _FRONT_MATTER.match(text):
        facts = {key: value.strip("\"'") for key, value in _FACT.findall(front[1])}
        text = text[front.end() :]
    lines, sections, tables = _outline(text)
    top = [section for section in sections if section.level == min(s.level for s in sections)]
    title = facts.pop("title", "") or (top[0].title if len(top) == 1 else name)
    metadata = {**facts, "encoding": encoding}
    document = Document(source, "".join(lines), title, sections, metadata=metadata, tables=tables)
    return [with_links(document)]


def _outline(text: str) -> tuple[list[str], tuple[Section, ...], tuple[Span, ...]]:
    """Return a Markdown text's readable lines, each with its end, its headings and its tables."""
    lines: list[str] = []
    sections: list[Section] = []
    apart: list[bool] = []  # whether a line is in no pipe table, as headings and code are not
    tables: list[Span] = []
    length, opened = 0, -1
    for prose, piece in _pieces(text):
        for marked in (_readable(piece) if prose else piece).splitlines(keepends=True):
            line, inside = marked, opened >= 0
            if prose:
                line = ""
                for part in _MARKS.split(marked):
                    if part == _BEGIN:
                        opened = length + len(line)
                    elif part == _END:
                        tables.append(Span(opened, length + len(line)))
                        opened, inside = -1, True
                    else:
                        line += part
            heading = True
            if prose and (atx := _ATX.match(line.rstrip("\n"))) and atx[2]:
                sections.append(Section(length, len(atx[1]), _plain(atx[2])))
            elif prose and _underlines(line, lines):
                start = length - len(lines[-1])
                sections.append(Section(start, 1 if "=" in line else 2, _plain(lines[-1])))
                apart[-1] = True
            else:
                heading = False
            lines.append(line)
            apart.append(heading or inside or opened >= 0 or not prose)
            length += len(line)
    return lines, tuple(sections), tuple(sorted([*tables, *_pipe_tables(lines, apart)]))


def _pipe_tables(lines: list[str], apart: list[bool]) -> Iterator[Span]:
    """Yield where tables stand, each with a caption above it.

    Args:
        lines: of the document.
        apart: of each line, whether it can be no part of a table.
    """
    starts = [0, *accumulate(map(len, lines))]
    free = 0  # the first line that may still be a caption or header
    for row in range(1, len(lines)):
        header = row - 1
        if header < free or apart[row] or apart[header] or not _delimits(lines[row], lines[header]):
            continue
        end = row + 1
        while end < len(lines) and not apart[end] and not _NO_ROW.match(lines[end]):
            end += 1
        first = _caption_row(lines, apart, free, header)
        yield Span(starts[first], starts[end - 1] + len(lines[end - 1].rstrip()))
        free = end


def _delimits(line: str, above: str) -> bool:
    """Tell whether a line such as `|---|---|` makes the line above it the header of a table."""
    return "|" in above and is_rule(line) and len(split_row(line)) == len(split_row(above))


def _caption_row(lines: list[str], apart: list[bool], free: int, header: int) -> int:
    """Return the row where a table's caption begins, or that of its header if it has none."""
    end = header
    while end > free and not lines[end - 1].strip():
        end -= 1
    first = end
    while first > free and end - first < _CAPTION_LINES and lines[first - 1].strip():
        if apart[first - 1]:
            break
        first -= 1
        if is_caption(without_marks(_plain("".join(lines[first:end])))):
            return first
    return header


def _underlines(line: str, lines: list[str]) -> bool:
    """Tell whether a line makes the paragraph of one line above it a heading."""
    if not _SETEXT.match(line.rstrip("\n")) or not lines or _NOT_A_PARAGRAPH.match(lines[-1]):
        return False
    above = lines[-2].rstrip("\n") if len(lines) > 1 else ""
    return not above.strip() or _ATX.match(above) is not None


def _pieces(text: str) -> list[tuple[bool, str]]:
    """Return the text in pieces: prose (True) and fenced code (False)."""
    pieces: list[tuple[bool, list[str]]] = [(True, [])]
    fence = ""
    for line in text.splitlines(keepends=True):
        match = _FENCE.match(line.rstrip("\n"))
        if match and not fence:
            fence = match[1]
            pieces.append((False, [line]))
            continue
        pieces[-1][1].append(line)
        if match and match[1].startswith(fence) and not match[2].strip():
            fence = ""
            pieces.append((True, []))
    return [(prose, "".join(lines)) for prose, lines in pieces]


def _readable(prose: str) -> str:
    """Return prose with links, images, comments and HTML tables made readable."""
    prose = _TABLE.sub(_table_rows, _COMMENT.sub("", _MARKS.sub("", prose)))
    for _ in range(2):  # an image may be a link
        prose = _CODE_OR_LINK.sub(_label, prose)
    return prose


def _label(match: re.Match[str]) -> str:
    """Return code as it is, and of a link or image its text, with a mark for a link."""
    if match["code"]:
        return match["code"]
    image = match[0].startswith("!")
    return match["label"] + ("" if image else link_mark(match["target"].strip("<>")))


def _table_rows(table: re.Match[str]) -> str:
    """Return an HTML table as lines `cell | cell`, between marks if it holds data."""
    rows = [
        [html.unescape(_TAG.sub(" ", cell)) for cell in _CELL.findall(row)]
        for row in _ROW.findall(table[0])
    ]
    text = "\n".join(filter(None, map(row_text, rows)))
    return f"{_BEGIN}{text}{_END}" if holds_data(rows) else text


def _plain(heading: str) -> str:
    """Return the text of a heading without emphasis, code marks, tags and entities."""
    for _ in range(2):
        heading = _EMPHASIS.sub(r"\2", heading)
    return " ".join(html.unescape(_TAG.sub("", heading)).split())

"""Markdown (.md): headings become sections, front matter metadata, links their text."""

import html
import re

from rag.corpus.loaders.decoding import decode
from rag.corpus.loaders.links import link_mark, with_links
from rag.corpus.loaders.outline import row_text
from rag.records import Document, Section

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


def load(data: bytes, source: str, name: str) -> list[Document]:
    """Return the one document of a Markdown file.

    The text stays Markdown, apart from links and images (their text stays, and links to paths are
    kept beside it), comments (dropped) and HTML tables (`cell | cell` lines); code is left alone.
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
    lines, sections = _outline(text)
    top = [section for section in sections if section.level == min(s.level for s in sections)]
    title = facts.pop("title", "") or (top[0].title if len(top) == 1 else name)
    metadata = {**facts, "encoding": encoding}
    return [with_links(Document(source, "".join(lines), title, sections, metadata=metadata))]


def _outline(text: str) -> tuple[list[str], tuple[Section, ...]]:
    """Return the readable lines of a Markdown text, each with its end, and the headings in them."""
    lines: list[str] = []
    sections: list[Section] = []
    length = 0
    for prose, piece in _pieces(text):
        for line in (_readable(piece) if prose else piece).splitlines(keepends=True):
            if prose and (atx := _ATX.match(line.rstrip("\n"))) and atx[2]:
                sections.append(Section(length, len(atx[1]), _plain(atx[2])))
            elif prose and _underlines(line, lines):
                start = length - len(lines[-1])
                sections.append(Section(start, 1 if "=" in line else 2, _plain(lines[-1])))
            lines.append(line)
            length += len(line)
    return lines, tuple(sections)


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
    prose = _TABLE.sub(_table_rows, _COMMENT.sub("", prose))
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
    """Return an HTML table as lines `cell | cell`."""
    rows = (
        row_text([html.unescape(_TAG.sub(" ", cell)) for cell in _CELL.findall(row)])
        for row in _ROW.findall(table[0])
    )
    return "\n".join(filter(None, rows))


def _plain(heading: str) -> str:
    """Return the text of a heading without emphasis, code marks, tags and entities."""
    for _ in range(2):
        heading = _EMPHASIS.sub(r"\2", heading)
    return " ".join(html.unescape(_TAG.sub("", heading)).split())

"""Web pages (.html, .htm): the main text without clutter, headings as sections."""

from __future__ import annotations

import codecs
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rag.corpus.loaders.decoding import decode
from rag.corpus.loaders.links import link_mark, with_links, without_marks
from rag.corpus.loaders.outline import Outline
from rag.corpus.loaders.silence import silent
from rag.errors import MissingExtraError
from rag.records import Document

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

_CLUTTER = (
    "script, style, template, noscript, nav, aside, footer, form, button, input, select, svg, "
    "iframe, object, canvas, audio, video, [hidden], [aria-hidden=true], [role=navigation], "
    "[role=search], [role=banner], [role=contentinfo], [role=complementary], .noprint, .navbox, "
    ".navbar, .sidebar, .catlinks, .mw-editsection, .reflist, ol.references"
)
_REFERENCE = re.compile(r"\s*\[[\w\s]{1,12}\]\s*")  # a mark such as [3] that leads to a footnote
_POWER = re.compile(r"[-−+]?\d+")
_BLOCKS = frozenset(
    """
    address article blockquote body center dd details dialog div dl dt fieldset figcaption figure
    h1 h2 h3 h4 h5 h6 header hgroup hr html li main menu ol p pre section summary table tbody td
    tfoot th thead tr ul
    """.split()  # noqa: SIM905 (a table of words reads better)
)
_DECLARED = re.compile(rb"<meta[^>]{1,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)


def load(data: bytes, source: str, name: str) -> list[Document]:
    """Return the one document of a web page.

    Scripts, navigation, banners, asides, footers, forms, hidden parts and lists of references are
    dropped. Where the page marks its main part, only that is read. List items begin with `- `,
    table rows are lines `cell | cell`, preformatted text is indented by four spaces.

    Args:
        data: content of the file.
        source: id of the document.
        name: its title where the page has neither a first heading nor a title.

    Raises:
        CorpusError: for binary content.
        MissingExtraError: if beautifulsoup4 or lxml is not installed.
    """
    if not (find_spec("bs4") and find_spec("lxml")):  # lxml closes what a page leaves open
        raise MissingExtraError(
            'reading .html needs beautifulsoup4 and lxml: pip install "dovetail-rag[docs]"'
        )
    from bs4 import BeautifulSoup

    text, encoding = decode(data, declared=_declared(data))
    with silent("bs4"):
        soup = BeautifulSoup(text, "lxml")
        title = " ".join(soup.title.get_text().split()) if soup.title else ""
        root = _main_part(soup)
        _mark_links(root)
        page = _Page()
        page.read(root)
    heading = root.find("h1")
    title = (" ".join(heading.get_text(" ").split()) if heading else "") or title or name
    document = page.outline.document(source, without_marks(title), {"encoding": encoding})
    return [with_links(document)]


def _declared(data: bytes) -> str | None:
    """Return the encoding that a page names in its head, if Python knows it."""
    match = _DECLARED.search(data[:4096])
    if match is None:
        return None
    try:
        return codecs.lookup(match[1].decode("ascii")).name
    except LookupError:
        return None


def _main_part(soup: BeautifulSoup) -> Tag:
    """Take the clutter out of a page and return the part that holds its text."""
    for header in soup.find_all("header"):
        # A header inside the text may hold its first heading among buttons and menus.
        for heading in header.find_all("h1"):
            header.insert_before(heading)
        header.decompose()
    for clutter in soup.select(_CLUTTER):
        clutter.decompose()
    for mark in soup.find_all("sup"):
        if _REFERENCE.fullmatch(mark.get_text()):
            mark.decompose()
        elif _POWER.fullmatch(mark.get_text()):
            mark.insert_before("^")
    main = soup.select_one("main, [role=main]") or soup.select_one("article") or soup.body
    return main if main and main.get_text(strip=True) else soup


def _mark_links(root: Tag) -> None:
    """Write the mark of each link right behind its last word."""
    for anchor in root.find_all("a", href=True):
        texts = [text for text in anchor.find_all(string=True) if text.strip()]
        if texts:
            words = texts[-1].rstrip()
            after = texts[-1][len(words) :]
            texts[-1].replace_with(f"{words}{link_mark(str(anchor['href']))}{after}")


class _Page:
    """A walk through a page that writes an outline; `read` adds an element and all it holds."""

    def __init__(self) -> None:
        self.outline = Outline()
        self._inline: list[str] = []
        self._depth = 0  # of lists
        self._lead = ""
        self._separator = "\n\n"

    def read(self, element: Tag) -> None:
        """Add the blocks of an element in reading order."""
        self._children(element)
        self._flush()

    def _children(self, element: Tag) -> None:
        from bs4.element import NavigableString, PreformattedString, Tag

        for child in element.children:
            if isinstance(child, Tag):
                self._tag(child)
            elif isinstance(child, NavigableString) and not isinstance(child, PreformattedString):
                self._inline.append(str(child))

    def _tag(self, tag: Tag) -> None:
        if tag.name == "br":
            self._inline.append(" ")
        elif tag.name not in _BLOCKS:
            self._children(tag)
        else:
            self._flush()
            self._block(tag)
            self._flush()

    def _block(self, tag: Tag) -> None:
        if re.fullmatch("h[1-6]", tag.name):
            self.outline.heading(tag.get_text(" "), int(tag.name[1]))
        elif tag.name == "pre":
            code = tag.get_text().rstrip()
            self.outline.block("\n".join(f"    {line}".rstrip() for line in code.split("\n")))
        elif tag.name == "table" and not tag.find(["table", "h1", "h2", "h3", "h4", "pre"]):
            self._table(tag)
        elif tag.name == "li":
            self._lead = f"{'  ' * max(0, self._depth - 1)}- "
            self._children(tag)
        elif tag.name in {"ul", "ol"}:
            self._depth += 1
            self._children(tag)
            self._flush()
            self._depth -= 1
            self._separator = "\n" if self._depth else "\n\n"
        else:
            self._children(tag)

    def _table(self, table: Tag) -> None:
        rows: list[list[str]] = []
        for row in table.find_all(["caption", "tr"]):
            cells = row.find_all(["td", "th"]) if row.name == "tr" else [row]
            rows.append([_cell_text(cell) for cell in cells])
        self.outline.cells(rows)

    def _flush(self) -> None:
        """End the running paragraph."""
        text = " ".join("".join(self._inline).split())
        self._inline.clear()
        if text:
            self.outline.block(self._lead + text, separator=self._separator)
            self._lead = ""
            self._separator = "\n" if self._depth else "\n\n"


def _cell_text(cell: Tag) -> str:
    """Return the text of a table cell, its blocks and lines set apart by white space."""
    for inner in cell.find_all(True):
        if inner.name == "br" or inner.name in _BLOCKS:
            inner.insert_before(" ")
            inner.insert_after(
                "; " if inner.name == "li" and inner.find_next_sibling("li") else " "
            )
    return re.sub(r"\s+([,;])", r"\1", cell.get_text())

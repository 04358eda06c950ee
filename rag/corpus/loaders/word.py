"""Word documents (.docx): headings, paragraphs and tables in document order."""

import io
import re
from collections.abc import Iterator
from typing import Any

from rag.corpus.loaders.outline import Outline
from rag.errors import MissingExtraError
from rag.records import Document

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
# Elements around others that say nothing about the text: content controls, insertions.
_TRANSPARENT = frozenset(f"{_W}{name}" for name in ("sdt", "sdtContent", "ins", "customXml"))
_HEADING = re.compile(r"(?i)heading ([1-9])")


def load(data: bytes, source: str, name: str) -> list[Document]:
    """Return the one document of a Word file.

    Paragraphs styled `Title` or `Heading n` are sections; a title is one level above the headings.
    List items begin with `- `, table rows are lines `cell | cell`. Headers, footers and notes are
    left out.

    Args:
        data: content of the file.
        source: id of the document.
        name: its title where neither the text nor the file's properties give one.

    Raises:
        MissingExtraError: if python-docx is not installed.
    """
    try:
        import docx
    except ImportError:
        raise MissingExtraError(
            'reading .docx needs python-docx: pip install "dovetail-rag[docs]"'
        ) from None
    file = docx.Document(io.BytesIO(data))
    levels = _levels(file)
    outline = Outline()
    titled = ""
    listed = False
    for block in _children(file.element.body, "p", "tbl"):
        if block.tag == f"{_W}tbl":
            rows = [list(_children(row, "tc")) for row in _children(block, "tr")]
            outline.cells([[_text(cell) for cell in row] for row in rows])
            continue
        text = _text(block)
        level = levels.get(block.style or "")
        if level is not None and text:
            titled = titled or (text if level == 0 else "")
            outline.heading(text, level + 1 if titled else level)
        elif text:
            item = block.find(f"{_W}pPr/{_W}numPr") is not None or _is_list(block.style)
            separator = "\n" if item and listed else "\n\n"
            outline.block(f"- {text}" if item else text, separator=separator)
            listed = item
    title = titled or " ".join((file.core_properties.title or "").split()) or name
    return [outline.document(source, title, {})]


def _levels(file: Any) -> dict[str, int]:
    """Return the heading level of each style id, 0 for the title; heirs of a style count too."""
    levels: dict[str, int] = {}
    for style in file.styles:
        ancestor, seen = style, set[str]()
        while ancestor is not None and ancestor.style_id not in seen:
            seen.add(ancestor.style_id)
            name = ancestor.name or ""
            if heading := _HEADING.fullmatch(name):
                levels[style.style_id] = int(heading[1])
                break
            if name.lower() == "title":
                levels[style.style_id] = 0
                break
            ancestor = getattr(ancestor, "base_style", None)
    return levels


def _is_list(style_id: str | None) -> bool:
    """Tell whether a style is one of Word's list styles."""
    return (style_id or "").startswith("List")


def _children(parent: Any, *names: str) -> Iterator[Any]:
    """Yield children of those names in order, those inside content controls and the like too."""
    for child in parent:
        if child.tag in {f"{_W}{name}" for name in names}:
            yield child
        elif child.tag in _TRANSPARENT:
            yield from _children(child, *names)


def _text(element: Any) -> str:
    """Return the text of an element as one line: insertions count, deletions do not."""
    return " ".join("".join(_runs(element)).split())


def _runs(element: Any) -> Iterator[str]:
    """Yield the pieces of text below an element."""
    for child in element:
        if child.tag == f"{_W}t":
            yield child.text or ""
        elif child.tag in {f"{_W}tab", f"{_W}ptab", f"{_W}br", f"{_W}cr"}:
            yield " "
        elif child.tag == f"{_W}noBreakHyphen":
            yield "-"
        elif child.tag == f"{_W}p":
            yield " "
            yield from _runs(child)
            yield " "
        elif child.tag not in {_FALLBACK, f"{_W}pPr", f"{_W}rPr"}:
            yield from _runs(child)

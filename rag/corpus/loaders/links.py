"""Links of a text: marked while a loader writes it, and taken out once every offset is known."""

import re
from bisect import bisect_right
from dataclasses import replace

from rag.records import Document, Link, Span

# Two code points that Unicode keeps out of text for ever, so that no source holds them.
_BEGIN, _END = "\ufdd0", "\ufdd1"
_MARK = re.compile(f"{_BEGIN}([^{_END}]*){_END}")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//|#", re.IGNORECASE)


def link_mark(target: str) -> str:
    """Return what to write right behind a link's text; empty for a target outside the corpus.

    Args:
        target: as the source has it: a path relative to the document, perhaps with an anchor.
    """
    place = "%20".join(target.split())
    return f"{_BEGIN}{place}{_END}" if place and not _ELSEWHERE.match(place) else ""


def without_marks(text: str) -> str:
    """Return a text without marks and half marks, wherever they come from."""
    return _MARK.sub("", text).replace(_BEGIN, "").replace(_END, "")


def with_links(document: Document) -> Document:
    """Return a document whose marks have become `links`, and all offsets those of the new text."""
    if _BEGIN not in document.text:
        return document
    links: list[Link] = []
    ends, removed, gone = [0], [0], 0  # where each mark ends, and what has gone by then
    for mark in _MARK.finditer(document.text):
        links.append(Link(max(0, mark.start() - gone - 1), mark[1]))
        gone += len(mark[0])
        ends.append(mark.end())
        removed.append(gone)

    def moved(offset: int) -> int:
        return offset - removed[bisect_right(ends, offset) - 1]

    return replace(
        document,
        text=_MARK.sub("", document.text),
        title=without_marks(document.title),
        sections=tuple(
            replace(one, start=moved(one.start), title=without_marks(one.title))
            for one in document.sections
        ),
        pages=tuple(map(moved, document.pages)),
        links=tuple(links),
        tables=tuple(Span(moved(one.start), moved(one.end)) for one in document.tables),
    )

"""Edges `reference`: from a passage to the document that a link in its text points to."""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

from rag.records import Passage
from retrievers.graph.edges.edge_list import EdgeList

# [text](target "title"), [text](<target>), [[target|text]], <a href="target">.
_LINK = re.compile(
    r"\]\(\s*(?:<(?P<angled>[^<>\n]+)>|(?P<inline>(?:[^()\s<>]|\([^()\s]*\))+))"
    r"|\[\[(?P<wiki>[^\]|#]+)(?:#[^\]|]*)?(?:\|[^\]]*)?\]\]"
    r"|href\s*=\s*[\"'](?P<href>[^\"'\s]+)",
    re.IGNORECASE,
)
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def reference_edges(passages: Sequence[Passage]) -> EdgeList:
    """Return edges to the first passage of each document that a passage links to, of weight 1.

    Read are the links that the document's loader found, and Markdown, HTML and wiki links that
    stand in the text itself. A target is a path relative to the document, with or without its
    suffix; `[[Name]]` goes by file name. Links to elsewhere, and to no document of the corpus, are
    passed over.

    Args:
        passages: in the order of their rows.
    """
    first: dict[str, int] = {}
    for row, passage in enumerate(passages):
        at = first.setdefault(passage.document, row)
        if (passage.span, row) < (passages[at].span, at):
            first[passage.document] = row
    places = _places(first)
    return EdgeList.of(
        (row, first[document], 1.0)
        for row, passage in enumerate(passages)
        for document in _linked(passage, places)
        if document != passage.document
    )


def _places(documents: Mapping[str, int]) -> dict[str, str]:
    """Return the document behind each way to write it; what two share means neither."""
    places: dict[str, str | None] = {}
    for document in documents:
        path = PurePosixPath(document)
        for written in {str(path.with_suffix("")), _wiki(path.stem)}:
            places[written] = None if written in places else document
    return {written: document for written, document in places.items() if document is not None} | {
        document: document for document in documents
    }


def _linked(passage: Passage, places: Mapping[str, str]) -> Iterator[str]:
    folder = posixpath.dirname(passage.document)
    targets = list(passage.links)
    for match in _LINK.finditer(passage.text):
        if match["wiki"]:
            path = PurePosixPath(match["wiki"].strip())
            for written in (_wiki(path.name), _wiki(path.stem)):
                if written in places:
                    yield places[written]
                    break
        else:
            targets.append(match["inline"] or match["angled"] or match["href"])
    for link in targets:
        target = unquote(re.split(r"[#?]", link)[0])
        if not target or _ABSOLUTE.match(target):
            continue
        path = PurePosixPath(posixpath.normpath(posixpath.join(folder, target.rstrip("/"))))
        for written in (str(path), str(path.with_suffix("")) if path.name else ""):
            if written in places:
                yield places[written]
                break


def _wiki(name: str) -> str:
    """Return how a file's name stands among the places: no path holds brackets in pairs."""
    return f"[[{name.casefold()}]]"

"""Passages as LangChain documents and back, without loss."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rag.record_json import from_json, to_json
from rag.records import Passage, Span, text_sha
from rag.text import split_sentences

if TYPE_CHECKING:
    from langchain_core.documents import Document

RESERVED = "dovetail"
"""The metadata key that holds our record as JSON text: stores that keep only scalars keep it."""


def as_document(passage: Passage) -> Document:
    """Return a passage as a LangChain document; `as_passage` gives the same passage back.

    `page_content` is what a reader may see: the kept sentences of a passage that was pruned, else
    its text. The metadata hold the passage's own, with `source` (document id), `title` and
    `page_label` where it does not use these keys itself, and all the rest under `dovetail`.

    Raises:
        ValueError: if `kept` was decided on another text.
    """
    from langchain_core.documents import Document

    shown = passage.text if passage.kept is None else passage.kept.text(passage.text)
    record = to_json(passage)
    if shown == passage.text:
        del record["text"]
    note = json.dumps({"shown": text_sha(shown), "passage": record}, separators=(",", ":"))
    return Document(
        id=passage.id, page_content=shown, metadata={**_visible(passage), RESERVED: note}
    )


def as_passage(document: Document) -> Passage:
    """Return a LangChain document as a passage.

    One that `as_document` made is read back exactly, whatever id a vector store gave it; metadata
    that were added, changed or removed since are so in the passage too. If its text was edited, the
    offsets fit no more: the passage keeps ids, title, page and metadata, and the text is split
    anew, its span counted in the text itself, neighbours and selection dropped.

    Of any other document the id is its own or a hash of source and text, the document its metadata
    `source`, else `id`, else the passage's id. Metadata that are no scalars become JSON text.

    Raises:
        ValueError: if the metadata key `dovetail` holds what `as_document` did not write.
    """
    if RESERVED in document.metadata:
        return _recorded(document)
    metadata = _scalars(document.metadata)
    source = str(metadata.get("source", metadata.get("id", "")))
    digest = text_sha(f"{source}\n{document.page_content}")
    own_id = document.id or f"lc-{digest[:16]}"
    title, page = metadata.get("title", ""), str(metadata.get("page_label", ""))
    return Passage(
        id=own_id,
        document=source or own_id,
        text=document.page_content,
        span=Span(0, len(document.page_content)),
        sentences=split_sentences(document.page_content),
        title=title if isinstance(title, str) else "",
        page=int(page) if page.isascii() and page.isdigit() and int(page) else None,
        metadata=metadata,
    )


def with_passages(documents: Iterable[Document]) -> list[tuple[Passage, Document]]:
    """Return documents with their passages, whose ids are unique, in order.

    The same passage twice is kept once. Another text under an id that is taken gets `#2` after it,
    or the next number that is free.
    """
    found: dict[str, tuple[Passage, Document]] = {}
    for document in documents:
        passage, number = as_passage(document), 1
        own_id = passage.id
        while own_id in found and found[own_id][0].text != passage.text:
            number += 1
            own_id = f"{passage.id}#{number}"
        found.setdefault(own_id, (replace(passage, id=own_id), document))
    return list(found.values())


def rewritten(passage: Passage, text: str, *, own_id: str | None = None) -> Passage:
    """Return a passage whose text somebody else changed: new offsets, no neighbours, no selection.

    Args:
        passage: what the text was before.
        text: the text now; its span counts in itself, as nobody knows where it stands.
        own_id: id of the new passage; None keeps the old one.
    """
    return replace(
        passage,
        id=passage.id if own_id is None else own_id,
        text=text,
        span=Span(0, len(text)),
        sentences=split_sentences(text),
        previous=None,
        next=None,
        kept=None,
    )


def ranked(passages: Sequence[Passage]) -> list[Passage]:
    """Return passages with scores that never rise: their own, or 1 / rank if those do not fit."""
    scores = [passage.score for passage in passages if passage.score is not None]
    if len(scores) == len(passages) and all(a >= b for a, b in pairwise(scores)):
        return list(passages)
    return [replace(passage, score=1.0 / rank) for rank, passage in enumerate(passages, start=1)]


def _visible(passage: Passage) -> dict[str, Any]:
    """Return the metadata that LangChain's own tools look at."""
    own: dict[str, Any] = {"source": passage.document}
    if passage.title:
        own["title"] = passage.title
    if passage.page is not None:
        own["page_label"] = str(passage.page)
    return {**own, **passage.metadata}


def _recorded(document: Document) -> Passage:
    note = document.metadata[RESERVED]
    try:
        held = json.loads(note)
        record = {"text": document.page_content, **held["passage"]}
        passage: Passage = from_json(Passage, record, where="passage")
        shown = held["shown"]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(
            f"metadata[{RESERVED!r}] of document {document.id!r} must be what as_document wrote, "
            f"got {str(note)[:60]!r}: {error}"
        ) from error
    passage = replace(passage, metadata=_edited(passage, document.metadata))
    if text_sha(document.page_content) != shown:
        return rewritten(passage, document.page_content)
    return passage


def _edited(passage: Passage, metadata: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the passage's metadata with what changed in the document since."""
    before = {**_visible(passage), RESERVED: None}
    now = _scalars({key: value for key, value in metadata.items() if key != RESERVED})
    kept = {k: v for k, v in passage.metadata.items() if k in now or k == RESERVED}
    return kept | {k: v for k, v in now.items() if k not in before or before[k] != v}


def _scalars(metadata: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        str(key): value
        if isinstance(value, (str, int, float, bool))
        else json.dumps(value, default=str, sort_keys=True)
        for key, value in metadata.items()
        if value is not None
    }

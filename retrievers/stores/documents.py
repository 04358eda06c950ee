"""Passages as the documents that a vector store keeps, with fields that filters can ask for."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rag.interop.langchain_documents import as_document, as_passage
from rag.records import Passage
from retrievers.filters import Value, kind_of

if TYPE_CHECKING:
    from langchain_core.documents import Document

PREFIX = "dovetail_"
"""How our own metadata keys begin; a passage may not use such keys."""

_TITLE = f"{PREFIX}title_length"
_NAMESPACE = uuid.UUID("6f1a0a0e-6a53-5f0c-9d0e-0c6c1d0b7a11")


def key_of(id_: str) -> str:
    """Return the id under which a store keeps a passage: a UUID, as some allow nothing else.

    It is the version 5 UUID of the passage's id, so the same id always has the same key.
    """
    # Lone surrogates have no UTF-8; escaping keeps two such ids apart.
    return str(uuid.uuid5(_NAMESPACE, id_.encode("utf-8", "surrogatepass").hex()))


def field_of(kind: str, field: str) -> str:
    """Return the metadata key that holds a field's values of one kind.

    It is made of ASCII letters, digits and underscores, and differs for different fields, so it is
    safe in every filter language.

    Args:
        kind: `flag`, `number` or `text`.
        field: any text.
    """
    written = "".join(
        one if one.isascii() and one.isalnum() else "__" if one == "_" else f"_{ord(one):x}_"
        for one in field
    )
    return f"{PREFIX}{kind}_{written}"


def stored_value(value: Value) -> str | float | bool:
    """Return a value as it is stored for filters, and as filters compare it.

    Text is the hexadecimal form of its UTF-8: it sorts by code points whatever a database's
    collation, and holds no character that means something in a filter language.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").hex()
    return value if isinstance(value, bool) else float(value)


def to_document(passage: Passage, reserved: Sequence[str] = ()) -> Document:
    """Return a passage as a document to be stored; its text is what retrievers index.

    That is `searchable`, the title and the text, so vectors equal those of an embedded index. The
    whole passage is stored: score and selection, which a query gave it, are not.

    Args:
        passage: to be stored.
        reserved: metadata keys that the store uses itself.

    Raises:
        ValueError: if a metadata key begins with `dovetail_` or is reserved, or a number is not
            finite.
    """
    for field, value in passage.metadata.items():
        if field.startswith(PREFIX) or field in reserved:
            kept = ", ".join([f"{PREFIX}…", *reserved])
            raise ValueError(
                f"metadata of passage {passage.id!r} must not use {kept}, got {field!r}"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(
                f"metadata of passage {passage.id!r} must be finite, got {field} = {value}"
            )
    document = as_document(replace(passage, kept=None, score=None))
    document.metadata.update(
        {
            field_of(kind_of(value), field): stored_value(value)
            for field, value in passage.metadata.items()
        }
    )
    document.metadata[_TITLE] = len(passage.searchable) - len(passage.text)
    document.page_content = passage.searchable
    document.id = key_of(passage.id)
    return document


def from_document(document: Document, reserved: Sequence[str] = ()) -> Passage:
    """Return the passage of a stored document; that of a document by others is made from it.

    Args:
        document: as the store returned it.
        reserved: metadata keys that the store has put in.
    """
    from langchain_core.documents import Document

    title = _whole(document.metadata, _TITLE)
    metadata = {
        field: value
        for field, value in document.metadata.items()
        if not field.startswith(PREFIX) and field not in reserved
    }
    return as_passage(
        Document(
            id=document.id or None, page_content=document.page_content[title:], metadata=metadata
        )
    )


def is_ours(document: Document) -> bool:
    """Tell whether a stored document was made by `to_document`, so that filters can find it."""
    return _TITLE in document.metadata


def _whole(metadata: Mapping[str, object], name: str) -> int:
    """Return a stored whole number, 0 if there is none: some stores give it back as a float."""
    found = metadata.get(name, 0)
    return int(found) if isinstance(found, (int, float)) else 0

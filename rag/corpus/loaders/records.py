"""Records (.jsonl): one document a line."""

import json
from typing import Any

from rag.corpus.loaders.decoding import decode
from rag.errors import CorpusError
from rag.records import Document, Span

_TEXT_KEYS = ("text", "contents", "body")


def load(data: bytes, source: str, name: str) -> list[Document]:
    """Return a document for each line that is not blank; ids are `<source>#<record id>`.

    A line is a JSON object with its text under `text`, `contents` or `body`. `id` (default: the
    line's number) and `title` are used where given; other strings, numbers and booleans become
    metadata, other values are left out. Where `modality` is `table`, all of the text is marked as a
    table: its rows can be found one by one if they are lines `cell | cell` or
    `Column: value; Column: value.`, whatever text stands above them.

    Args:
        data: content of the file.
        source: id of the file.
        name: title of records that have none.

    Raises:
        CorpusError: for a line that is no such object, or whose id came before; the message holds
            its number.
    """
    text, encoding = decode(data)
    documents: dict[str, Document] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        document = _document(line, number, source, name, encoding)
        if document.id in documents:
            raise CorpusError(f"line {number}: the id of {document.id!r} came before")
        documents[document.id] = document
    return list(documents.values())


def _document(line: str, number: int, source: str, name: str, encoding: str) -> Document:
    """Return the document of one line."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise CorpusError(f"line {number}: not valid JSON ({error})") from None
    if not isinstance(record, dict):
        raise CorpusError(f"line {number}: must be a JSON object, got {type(record).__name__}")
    key = next((key for key in _TEXT_KEYS if key in record), None)
    if key is None:
        raise CorpusError(f"line {number}: needs a key among {', '.join(_TEXT_KEYS)}, got none")
    text = record[key]
    if not isinstance(text, str) or not text.strip():
        raise CorpusError(f"line {number}: {key!r} must be a string that is not blank")
    facts: dict[str, Any] = {
        other: value
        for other, value in record.items()
        if other not in {key, "id", "title"} and isinstance(value, str | int | float | bool)
    }
    return Document(
        f"{source}#{record.get('id', number)}",
        text,
        str(record.get("title") or name),
        metadata={"encoding": encoding, **facts},
        tables=(Span(0, len(text)).stripped(text),) if facts.get("modality") == "table" else (),
    )

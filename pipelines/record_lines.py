"""Documents and passages as lines of JSON, and files of such lines that are read one at a time."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rag.records import Cue, Document, Link, Passage, Section, Span

Record = TypeVar("Record")
_NEWLINE = 10


def document_line(document: Document) -> bytes:
    """Return a document as one line of JSON, without the line feed."""
    return _line(
        {
            "id": document.id,
            "text": document.text,
            "title": document.title,
            "sections": [[s.start, s.level, s.title] for s in document.sections],
            "pages": document.pages,
            "metadata": dict(document.metadata),
            **({"links": [[x.start, x.target] for x in document.links]} if document.links else {}),
            **({"tables": [[x.start, x.end] for x in document.tables]} if document.tables else {}),
            **({"cues": [_cue(cue) for cue in document.cues]} if document.cues else {}),
        }
    )


def parse_document(line: bytes) -> Document:
    """Return the document of a line of `document_line`."""
    fields = _fields(line)
    fields["sections"] = tuple(Section(*section) for section in fields["sections"])
    fields["pages"] = tuple(fields["pages"])
    fields["links"] = tuple(Link(*link) for link in fields.get("links", ()))
    fields["tables"] = tuple(Span(*span) for span in fields.get("tables", ()))
    fields["cues"] = tuple(
        Cue(Span(start, end), start_s, end_s)
        for start, end, start_s, end_s in fields.get("cues", ())
    )
    return Document(**fields)


def _cue(cue: Cue) -> list[float]:
    return [cue.span.start, cue.span.end, cue.start_s, cue.end_s]


def passage_line(passage: Passage) -> bytes:
    """Return a passage as one line of JSON, without the line feed.

    What retrieval and pruning attach, `score`, `kept` and `edges`, is left out.
    """
    return _line(
        {
            "id": passage.id,
            "document": passage.document,
            "text": passage.text,
            "span": [passage.span.start, passage.span.end],
            "sentences": [[span.start, span.end] for span in passage.sentences],
            "title": passage.title,
            "page": passage.page,
            "modality": passage.modality,
            "previous": passage.previous,
            "next": passage.next,
            "parent": passage.parent,
            "metadata": dict(passage.metadata),
            **({"links": passage.links} if passage.links else {}),
        }
    )


def parse_passage(line: bytes) -> Passage:
    """Return the passage of a line of `passage_line`."""
    fields = _fields(line)
    fields["span"] = Span(*fields["span"])
    fields["sentences"] = tuple(Span(*span) for span in fields["sentences"])
    fields["links"] = tuple(fields.get("links", ()))
    return Passage(**fields)


class RecordFile(Mapping[str, Record]):
    """Records of a file of lines by id, in the file's order; each is parsed when it is asked for.

    The file stays readable after it was deleted, as a mapping of it is held.
    """

    def __init__(self, path: Path, ids: Sequence[str], parse: Callable[[bytes], Record]) -> None:
        """Map a file.

        Args:
            path: lines that each end with a line feed; at least one.
            ids: id of each line.
            parse: gets a line.

        Raises:
            OSError: if it cannot be read.
            ValueError: if it is empty.
        """
        self._bytes = np.memmap(path, mode="r")
        self._rows = {id_: row for row, id_ in enumerate(ids)}
        self._parse = parse

    def __getitem__(self, id_: str) -> Record:
        row = self._rows[id_]
        start = int(self._ends[row - 1]) + 1 if row else 0
        return self._parse(self._bytes[start : int(self._ends[row])].tobytes())

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, id_: str) -> int:
        """Return the place of a record in the file, from 0.

        Raises:
            KeyError: for an unknown id.
        """
        return self._rows[id_]

    @cached_property
    def _ends(self) -> np.ndarray:
        """Where each line ends: int64 (lines,). A line feed inside a string is escaped."""
        return np.flatnonzero(self._bytes == _NEWLINE)


def _line(fields: dict[str, Any]) -> bytes:
    # Lone surrogates pass: two of them, escaped, would come back as one character.
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _fields(line: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(line.decode("utf-8", "surrogatepass"))
    return fields

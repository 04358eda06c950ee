"""The language reference that ships with Python: the topics of `pydoc_data.topics`."""

import re

from rag.records import Document, Section

_HEADING = re.compile(r"^(\S.*)\n([*=\-~])\2{2,}$", re.MULTILINE)
_LEVELS = "*=-~"


def topics() -> dict[str, str]:
    """Return the text of each topic by its name."""
    from pydoc_data.topics import topics as texts

    return dict(texts)


def load() -> list[Document]:
    """Return a document for each topic, ids `python/<topic>`; underlined lines are headings."""
    return [_document(topic, text) for topic, text in sorted(topics().items())]


def _document(topic: str, text: str) -> Document:
    """Return one topic as a document that is called what its first heading says."""
    sections = tuple(
        Section(match.start(), _LEVELS.index(match[2]) + 1, match[1].strip())
        for match in _HEADING.finditer(text)
    )
    return Document(f"python/{topic}", text, sections[0].title if sections else topic, sections)

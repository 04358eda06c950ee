"""An outline: the text of a document as it grows, with its headings and pages."""

from rag.records import Document, Metadata, Section


class Outline:
    """Collects blocks of text in reading order; blank lines stand between them.

    Every method appends to the text; `document` changes nothing and can be called at any time.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._sections: list[Section] = []
        self._pages: list[int] = []
        self._separated = True

    def heading(self, title: str, level: int) -> None:
        """Begin a section whose heading is a line of its own; a blank title is left out.

        Args:
            title: white space in it is folded.
            level: 1 for the outermost.
        """
        title = " ".join(title.split())
        if title:
            self._separate("\n\n")
            self._sections.append(Section(self._length, level, title))
            self._append(title)

    def block(self, text: str, *, separator: str = "\n\n") -> None:
        """Add a paragraph, list item or table; a blank one is left out.

        Args:
            text: lines without trailing white space.
            separator: what stands between it and the text before.
        """
        text = text.strip("\n").rstrip()
        if text.strip():
            self._separate(separator)
            self._append(text)

    def page(self, *, separator: str = "\n\n") -> None:
        """Begin a page."""
        self._separate(separator)
        self._pages.append(self._length)

    def document(self, source: str, title: str, metadata: Metadata) -> Document:
        """Return what was collected as a document with the id `source`."""
        text = "".join(self._parts)
        return Document(source, text, title, tuple(self._sections), tuple(self._pages), metadata)

    def _separate(self, separator: str) -> None:
        if not self._separated:
            self._append(separator)
            self._separated = True

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)
        self._separated = False


def row_text(cells: list[str]) -> str:
    """Return a table row as `cell | cell`, white space folded; empty if every cell is."""
    folded = [" ".join(cell.split()) for cell in cells]
    return " | ".join(folded) if any(folded) else ""

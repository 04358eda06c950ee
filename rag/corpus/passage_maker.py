"""Makers of passages: what every chunker promises, and the documents that a chunker is for."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rag.records import Document, Passage

TEXT = "text"
"""The modality of a document that names none."""


@runtime_checkable
class PassageMaker(Protocol):
    """Documents to passages of one corpus. Pure: the same document gives the same passages.

    Every passage's text is what its span covers in the document's text, and its sentences
    partition that text. A document that does not belong to the corpus gives no passages.
    """

    @property
    def fingerprint(self) -> str:
        """A name for what this maker does: passages made under another one are out of date."""

    def __call__(self, document: Document) -> list[Passage]:
        """Return the passages of a document in order; ids begin with the document's."""


@dataclass(frozen=True, slots=True)
class OfModality:
    """Wraps a maker of passages so that it sees documents of one modality only.

    Attributes:
        maker: makes the passages.
        modality: of the documents that it is for; any other gives no passages.
    """

    maker: PassageMaker
    modality: str = TEXT

    @property
    def fingerprint(self) -> str:
        """The maker's own, and the modality."""
        return f"{self.maker.fingerprint}-of-{self.modality}"

    def __call__(self, document: Document) -> list[Passage]:
        """Return the maker's passages, or none for a document of another modality."""
        return self.maker(document) if modality_of(document) == self.modality else []


def modality_of(document: Document) -> str:
    """Return the modality that a document's metadata names, `text` if they name none."""
    return str(document.metadata.get("modality", TEXT))

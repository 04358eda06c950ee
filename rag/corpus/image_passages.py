"""Image passages: an image is one passage, unless the text in it is long."""

from dataclasses import dataclass, replace

from rag.corpus.chunking import Chunker
from rag.records import Document, Passage

_ALGORITHM = 1  # raise it when the same document gives other passages than before


@dataclass(frozen=True, slots=True)
class ImageChunker:
    """Makes passages of images, and none of other documents.

    What is known about an image and the text in it stand together in one passage. Where that is
    more than `words` words, passages are those of `Chunker`: the text in the image begins a passage
    of its own.

    Attributes:
        words: words to aim at, at least 1. The default fills most of a 256-token encoder window.
    """

    words: int = 120

    def __post_init__(self) -> None:
        if self.words < 1:
            raise ValueError(f"words must be at least 1, got {self.words}")

    @property
    def fingerprint(self) -> str:
        """A name for what this chunker does: passages made under another one are out of date."""
        return f"image-{_ALGORITHM}-{Chunker(self.words).fingerprint}"

    def __call__(self, document: Document) -> list[Passage]:
        """Return the passages of an image in order, ids `<document id>:i<n>` with n from 0."""
        if document.metadata.get("modality") != "image":
            return []
        chunker = Chunker(self.words)
        passages = chunker(replace(document, sections=()))
        if len(passages) > 1:
            passages = chunker(document)
        ids = [f"{document.id}:i{number}" for number in range(len(passages))]
        return [
            replace(passage, id=id_, previous=before, next=after)
            for passage, id_, before, after in zip(
                passages, ids, [None, *ids[:-1]], [*ids[1:], None], strict=True
            )
        ]

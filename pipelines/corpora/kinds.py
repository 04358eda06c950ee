"""Kinds of corpora: the label of each, and what makes its passages of a document."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.routing.labels import MODALITIES

if TYPE_CHECKING:
    from rag.corpus.passage_maker import PassageMaker
    from rag.text.splitters import SentenceSplitter

IMAGE = "image"
LABELS = ("paragraph", "document", "table", IMAGE, "clip", "video")
"""Labels of the corpora that can be made, in the order in which they are made and listed."""

SEEN = (IMAGE, "clip")
"""Those whose pictures or frames can have vectors."""

LACKS = {
    "paragraph": "no text in these sources",
    "document": "no text in these sources",
    "table": "no document has a table",
    "image": "no image in these sources",
    "clip": "no subtitles or transcript with times in these sources",
    "video": "no subtitles or transcript with times in these sources",
}
"""Why a corpus is empty."""


@dataclass(frozen=True, slots=True)
class CorpusKind:
    """A corpus that a folder can have.

    Attributes:
        label: what routers call it, and the name of its folder.
        modality: what its passages stand for.
        maker: makes its passages of a document, none if the document does not belong to it.
        lacks: why it is empty, if it is.
    """

    label: str
    modality: str
    maker: PassageMaker
    lacks: str = "no source gives a passage"


def corpus_kinds(
    labels: Iterable[str] | None = None,
    *,
    words: int = 120,
    splitter: SentenceSplitter | None = None,
) -> tuple[CorpusKind, ...]:
    """Return the kinds of the labels, in the order of `LABELS`.

    Args:
        labels: some of `LABELS`; None means all.
        words: per passage of text.
        splitter: finds the sentences of texts; our rules by default.

    Raises:
        ValueError: for a label that there is not, none at all, or words below 1.
    """
    wanted = LABELS if labels is None else tuple(labels)
    unknown = [label for label in wanted if label not in LABELS]
    if unknown or not wanted:
        got = unknown[0] if unknown else "nothing"
        raise ValueError(f"corpora must be auto, or some of {', '.join(LABELS)}; got {got}")
    makers = _makers(words, splitter)
    return tuple(
        CorpusKind(label, MODALITIES[label], makers[label], LACKS[label])
        for label in LABELS
        if label in wanted
    )


def _makers(words: int, splitter: SentenceSplitter | None) -> dict[str, PassageMaker]:
    from rag.corpus.chunking import Chunker
    from rag.corpus.clips import ClipChunker, VideoChunker
    from rag.corpus.granularity import DocumentChunker
    from rag.corpus.image_passages import ImageChunker
    from rag.corpus.passage_maker import OfModality
    from rag.corpus.table_passages import TableChunker

    chunker = Chunker(words) if splitter is None else Chunker(words, splitter)
    return {
        "paragraph": OfModality(chunker),
        "document": DocumentChunker(),
        "table": TableChunker(),
        "image": ImageChunker(),
        "clip": ClipChunker(),
        "video": VideoChunker(),
    }

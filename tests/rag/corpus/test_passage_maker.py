"""Makers of passages: what counts as one, and documents of one modality only."""

import pytest

from rag.corpus.chunking import Chunker
from rag.corpus.granularity import DocumentChunker
from rag.corpus.passage_maker import OfModality, PassageMaker, modality_of
from rag.corpus.table_passages import TableChunker
from rag.records import Document


@pytest.mark.parametrize(
    "maker", [Chunker(), DocumentChunker(), TableChunker(), OfModality(Chunker())]
)
def test_every_chunker_is_a_maker_of_passages(maker):
    assert isinstance(maker, PassageMaker)
    assert maker(Document("d", " ", "T")) == []


def test_a_document_is_text_unless_it_says_otherwise():
    assert modality_of(Document("d", "Text.", "T")) == "text"
    assert modality_of(Document("d", "Text.", "T", metadata={"modality": "video"})) == "video"


def test_other_modalities_give_no_passages():
    text = Document("d", "Some text.", "T")
    image = Document("d", "Some text.", "T", metadata={"modality": "image"})
    assert OfModality(Chunker())(text) == Chunker()(text)
    assert OfModality(Chunker())(image) == []
    assert OfModality(Chunker(), "image")(image) == Chunker()(image)
    assert OfModality(Chunker(), "image")(text) == []


def test_fingerprints_tell_makers_apart():
    makers = [
        Chunker(), OfModality(Chunker()), OfModality(Chunker(), "image"), OfModality(Chunker(60)),
        DocumentChunker(), DocumentChunker(60), TableChunker(), TableChunker(60),
        TableChunker(rows=False),
    ]  # fmt: skip
    assert len({maker.fingerprint for maker in makers}) == len(makers)

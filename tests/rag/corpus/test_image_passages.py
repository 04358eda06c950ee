"""Image passages: one an image, more where its text is long, none of other documents."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.corpus.chunking import Chunker
from rag.corpus.image_passages import ImageChunker
from rag.records import Document, Section

CAPTION = "A terminal shows a request."
OCR = "Text in the image"


def image(*, lines=1, modality="image"):
    """An image with a caption and lines of five words that OCR read."""
    written = "\n".join(f"Line {n} has five words." for n in range(lines))
    text = f"{CAPTION}\n\n{OCR}\n\n{written}"
    sections = (Section(text.index(OCR), 1, OCR),)
    return Document("d/a.png", text, "a", sections, metadata={"modality": modality})


def test_caption_and_text_of_an_image_are_one_passage():
    document = image()
    (passage,) = ImageChunker()(document)
    assert (passage.id, passage.document, passage.modality) == ("d/a.png:i0", "d/a.png", "image")
    assert (passage.text, passage.title) == (document.text, "a")
    assert (passage.previous, passage.next, passage.page) == (None, None, None)


def test_other_documents_give_none():
    assert ImageChunker()(image(modality="text")) == []
    assert ImageChunker()(replace(image(), metadata={})) == []


def test_long_text_is_cut_and_begins_a_passage_of_its_own():
    passages = ImageChunker(words=20)(image(lines=12))
    assert [p.id for p in passages] == [f"d/a.png:i{n}" for n in range(len(passages))]
    assert len(passages) >= 4
    assert passages[0].text == CAPTION
    assert passages[1].text.startswith("Line 0 has")
    assert {p.title for p in passages[1:]} == {f"a > {OCR}"}
    assert [p.next for p in passages] == [*(p.id for p in passages[1:]), None]
    assert [p.previous for p in passages] == [None, *(p.id for p in passages[:-1])]


@given(lines=st.integers(1, 60), words=st.integers(3, 80))
def test_passages_are_slices_in_order_and_cover_every_line(lines, words):
    document = image(lines=lines)
    passages = ImageChunker(words)(document)
    assert all(p.span.of(document.text) == p.text and p.modality == "image" for p in passages)
    assert [p.span for p in passages] == sorted(p.span for p in passages)
    joined = " ".join(p.text for p in passages)
    assert re.findall(r"Line (\d+)", joined) == [str(n) for n in range(lines)]


def test_the_plain_chunker_takes_images_too():
    passages = Chunker()(image())
    assert {p.modality for p in passages} == {"image"}
    assert passages[0].text == CAPTION
    assert not {p.id for p in passages} & {p.id for p in ImageChunker()(image())}


def test_the_fingerprint_tells_other_passages_apart():
    prints = {ImageChunker().fingerprint, ImageChunker(60).fingerprint, Chunker().fingerprint}
    assert len(prints) == 3
    assert ImageChunker().fingerprint == ImageChunker(120).fingerprint


def test_words_must_be_positive():
    with pytest.raises(ValueError, match="words must be at least 1, got 0"):
        ImageChunker(0)

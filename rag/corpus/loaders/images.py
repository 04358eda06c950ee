"""Images (.png, .jpg and others): what is known about one, and the text in it, as a document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rag.corpus.image_notes import ImageNotes
from rag.corpus.loaders.outline import Outline
from rag.corpus.loaders.silence import silent
from rag.corpus.ocr import decoded, joined, ocr_available, read_text
from rag.records import Document

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Suffixes of the files that are read as images, in small letters."""

OCR_HEADING = "Text in the image"
"""The heading above what OCR read."""

_EXIF_DESCRIPTION = 0x010E
_EMBEDDED = ("Title", "Description")  # keywords of text in PNG files
_WORDS = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")


def load(data: bytes, source: str, name: str, notes: ImageNotes | None = None) -> list[Document]:
    """Return the one document of an image.

    Its text holds, each where there is one and not said before: captions, alt texts, what stands
    around the image in pages that show it, the description inside the file, and under a heading of
    its own the text that OCR reads in the first frame. An image of which nothing is known has the
    words of its name for a text, and `text_only_name` in its metadata. The other metadata are
    `modality` (image), `width` and `height` in pixels, and `ocr`: whether there was an OCR engine.

    Args:
        data: content of the file.
        source: id of the document.
        name: of the file, without its suffix; its words are the title.
        notes: what other files say of it.

    Raises:
        CorpusError: if the image is damaged, of another format, or too large to be decoded.
        MissingExtraError: if Pillow is not installed.
    """
    notes = notes or ImageNotes()
    image = decoded(data)
    read = ocr_available() is not None
    title = " ".join(_WORDS.sub(" ", name).split()) or name
    outline, said = Outline(), set[str]()
    for text in (*notes.captions, *notes.alts, *notes.around, *_descriptions(image)):
        folded = " ".join(text.lower().split())
        if folded not in said:
            said.add(folded)
            outline.block(text)
    written = joined(read_text(data)) if read else ""
    if written:
        outline.heading(OCR_HEADING, 1)
        outline.block(written)
    facts: dict[str, str | int | float | bool]
    facts = {"modality": "image", "width": image.width, "height": image.height, "ocr": read}
    if not (said or written):
        outline.block(title)
        facts["text_only_name"] = True
    return [outline.document(source, title, facts)]


def _descriptions(image: Image) -> list[str]:
    """Return what the file itself says of its image."""
    texts: list[object] = [image.info.get(key) for key in _EMBEDDED]
    with silent("PIL"):
        texts.append(image.getexif().get(_EXIF_DESCRIPTION))
    lines = (str(text).replace("\0", " ").split() for text in texts if isinstance(text, str))
    return [" ".join(words) for words in lines if words]

"""PDF (.pdf): the text layer, or what OCR reads, with the code point where each page begins."""

import contextlib
import io
import re
from typing import Any

from rag.corpus.loaders.outline import Outline
from rag.corpus.loaders.silence import silent
from rag.corpus.ocr import joined, ocr_available, read_text
from rag.errors import CorpusError, MissingExtraError
from rag.records import Document

_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st"})
_BROKEN_WORD = re.compile(r"([^\W\d_]+)[-\u00ad\u2010]\n([^\W\d_]+)")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_SMALLEST_SCAN = 32  # pixels of a side; rules and bullets are smaller
_EMPTY_TITLE = re.compile(r"(?i)\s*|untitled.*|.*\.(?:docx?|pptx?|xlsx?|indd|tex|dvi|ps|pdf)\s*")


def load(data: bytes, source: str, name: str) -> list[Document]:
    """Return the one document of a PDF, with its pages.

    A word that is broken over two lines is joined. Its hyphen stays where the document writes it
    so elsewhere, or has both parts but not the whole as words of their own. Of a page without text,
    the images are read by OCR where that is installed, as they lie in the file; then the metadata
    has `ocr`.

    Args:
        data: content of the file.
        source: id of the document.
        name: its title where the file states none.

    Raises:
        CorpusError: if the file needs a password or holds no text.
        MissingExtraError: if pypdf is not installed.
    """
    try:
        from pypdf import PdfReader
    except ImportError:
        raise MissingExtraError(
            'reading .pdf needs pypdf: pip install "dovetail-rag[docs]"'
        ) from None
    with silent("pypdf"):
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise CorpusError("is encrypted: save a copy without a password")
        title = str((reader.metadata.title if reader.metadata else None) or "")
        pages = [_clean(page.extract_text()) for page in reader.pages]
        scans = _scanned(reader, pages) if ocr_available() else {}
    pages = [scans.get(number, page) for number, page in enumerate(pages)]
    if not any(page.strip() for page in pages):
        raise CorpusError(
            "has no text layer (scanned pages?), and OCR reads nothing in its images"
            if ocr_available()
            else "has no text layer (scanned pages?): it needs OCR first, "
            'pip install "dovetail-rag[ocr]"'
        )
    unbroken = [_BROKEN_WORD.sub(" ", page) for page in pages]
    words = {word.lower() for page in unbroken for word in _WORD.findall(page)}
    outline = Outline()
    before = ""
    for page in pages:
        text = _joined(page, words)
        # A sentence that runs on over the page must not be cut by a blank line.
        runs_on = bool(re.search(r"[\w,;-]\Z", before)) and text[:1].islower()
        outline.page(separator="\n" if runs_on else "\n\n")
        outline.block(text)
        before = text or before
    facts = {"ocr": True} if scans else {}
    title = name if _EMPTY_TITLE.fullmatch(title) else title.strip()
    return [outline.document(source, title, facts)]


def _scanned(reader: Any, pages: list[str]) -> dict[int, str]:
    """Return what OCR reads on pages without text, by row; pages where it finds none are left out.

    Args:
        reader: of the file.
        pages: the text of each page.
    """
    scans: dict[int, str] = {}
    for number, page in enumerate(pages):
        if page.strip():
            continue
        # An image that pypdf cannot decode leaves its page as empty as it was.
        with contextlib.suppress(Exception):
            texts = [
                _clean(joined(read_text(scan.data)))
                for scan in reader.pages[number].images
                if min(scan.image.size) >= _SMALLEST_SCAN
            ]
            if any(texts):
                scans[number] = "\n\n".join(filter(None, texts))
    return scans


def _clean(page: str) -> str:
    """Return the text of a page without ligatures and white space at the ends of lines."""
    lines = page.translate(_LIGATURES).splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def _joined(page: str, words: set[str]) -> str:
    """Join words that a line end breaks.

    Args:
        page: text of a page.
        words: every word of the document, in small letters.
    """

    def join(match: re.Match[str]) -> str:
        left, right = match[1], match[2]
        compound, whole = f"{left}-{right}", f"{left}{right}"
        known = compound.lower() in words
        parts = left.lower() in words and right.lower() in words and whole.lower() not in words
        keeps = known or parts or not right.islower()
        return compound if keeps else whole

    return _BROKEN_WORD.sub(join, page)

"""PDF (.pdf): the text layer, with the code point where each page begins."""

import io
import re

from rag.corpus.loaders.outline import Outline
from rag.corpus.loaders.silence import silent
from rag.errors import CorpusError, MissingExtraError
from rag.records import Document

_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st"})
_BROKEN_WORD = re.compile(r"([^\W\d_]+)[-\u00ad\u2010]\n([^\W\d_]+)")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_EMPTY_TITLE = re.compile(r"(?i)\s*|untitled.*|.*\.(?:docx?|pptx?|xlsx?|indd|tex|dvi|ps|pdf)\s*")


def load(data: bytes, source: str, name: str) -> list[Document]:
    """Return the one document of a PDF, with its pages.

    A word that is broken over two lines is joined. Its hyphen stays where the document writes it
    so elsewhere, or has both parts but not the whole as words of their own.

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
    if not any(page.strip() for page in pages):
        raise CorpusError("has no text layer (scanned pages?): it needs OCR first")
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
    return [outline.document(source, name if _EMPTY_TITLE.fullmatch(title) else title.strip(), {})]


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

"""Bytes of a text file to text, and the encoding that fitted."""

import codecs

from rag.errors import CorpusError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(data: bytes, *, declared: str | None = None) -> tuple[str, str]:
    r"""Return the text, with `\n` for every kind of line end, and the name of its encoding.

    A byte order mark decides; without one, UTF-8 if the bytes are valid in it, then the declared
    encoding, then cp1252, then latin-1, which fits anything.

    Args:
        data: content of a file.
        declared: encoding that the file itself names; an unknown name counts as none.

    Raises:
        CorpusError: for binary content, which NUL characters give away.
    """
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    names = [marked] if marked else ["utf-8", declared, "cp1252", "latin-1"]
    for name in filter(None, names):
        try:
            text = data.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
        if "\0" in text:
            raise CorpusError("binary content (NUL characters), not text")
        return text.replace("\r\n", "\n").replace("\r", "\n"), name
    raise CorpusError(f"begins with the byte order mark of {marked} but is not valid in it")

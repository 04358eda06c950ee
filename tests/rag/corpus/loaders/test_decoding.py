"""Decoding: byte order marks, fallbacks, line ends, binary content."""

import codecs

import pytest

from rag.corpus.loaders.decoding import decode
from rag.errors import CorpusError


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        ("é\n".encode(), "é\n", "utf-8"),
        ("é".encode("utf-8-sig"), "é", "utf-8-sig"),
        ("é語".encode("utf-16"), "é語", "utf-16"),
        (codecs.BOM_UTF16_BE + "é語".encode("utf-16-be"), "é語", "utf-16"),
        ("“é”".encode("cp1252"), "“é”", "cp1252"),
        (b"\xe9\x81", "é\x81", "latin-1"),
        (b"a\r\nb\rc\n", "a\nb\nc\n", "utf-8"),
        (b"", "", "utf-8"),
    ],
)
def test_finds_the_encoding(data, text, encoding):
    assert decode(data) == (text, encoding)


def test_a_declared_encoding_comes_before_the_fallbacks_and_after_utf_8():
    assert decode("Привет".encode("koi8-r"), declared="koi8-r") == ("Привет", "koi8-r")
    assert decode("é".encode(), declared="koi8-r") == ("é", "utf-8")
    assert decode(b"\xe9", declared="no-such-encoding") == ("é", "cp1252")


@pytest.mark.parametrize("data", [b"\0\1\2", b"PK\3\4\0\0", "abc".encode("utf-16-le")])
def test_refuses_binary_content(data):
    with pytest.raises(CorpusError, match="binary content"):
        decode(data)


def test_refuses_what_its_mark_contradicts():
    with pytest.raises(CorpusError, match="byte order mark of utf-16"):
        decode(codecs.BOM_UTF16_LE + b"a")

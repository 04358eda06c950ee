"""Sentence splitters: libraries say where sentences begin, spans partition the text all the same."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.corpus import Chunker
from rag.errors import MissingExtraError
from rag.records import Document
from rag.text import splitters
from rag.text.sentences import split_sentences
from rag.text.splitters import SentenceSplitter

GERMAN = (
    "Er wohnt lt. Akte in der Bahnhofstr. 5 bzw. 7. Das ist bekannt!\n\n- Punkt eins. Er gilt.\n"
)
TEXTS = st.text(
    st.sampled_from("ab. !?\n\r\t\u2028\u00a0\x00。é\u0301👩\u200d🔬שלום\ud800-#|`")
    | st.characters(),
    max_size=80,
)


def texts(splitter, text):
    return [span.of(text) for span in splitter(text)]


@pytest.fixture(params=["punkt", "sentencex"])
def library(request):
    pytest.importorskip(request.param)
    return request.param


def test_rules_are_the_default():
    assert SentenceSplitter()(GERMAN) == split_sentences(GERMAN)


def test_a_library_knows_its_language_s_abbreviations(library):
    assert texts(SentenceSplitter(library, "de"), "Das gilt z.B. heute. Morgen nicht.") == [
        "Das gilt z.B. heute. ",
        "Morgen nicht.",
    ]


def test_paragraphs_lists_and_code_stay_boundaries(library):
    text = "Eins ist wahr\n\n- zwei\n- drei\n\n```\na. B. c\n```\n"
    assert texts(SentenceSplitter(library, "de"), text) == texts(SentenceSplitter(), text)


@given(text=TEXTS)
def test_spans_partition_any_text(text):
    for name in ("punkt", "sentencex"):
        pytest.importorskip(name)
        spans = SentenceSplitter(name)(text)
        assert "".join(span.of(text) for span in spans) == (text if text.strip() else "")
        assert all(span.of(text).strip() for span in spans)


def test_a_megabyte_without_a_full_stop_is_cut_by_length(library):
    spans = SentenceSplitter(library)("word " * 200_000)
    assert max(map(len, spans)) <= 1201
    assert sum(map(len, spans)) == 1_000_000


def test_told_starts_that_are_no_starts_are_left_out():
    text = "one two  three "
    assert [s.of(text) for s in split_sentences(text, lambda _: [0, 0, 4, 7, 8, 9, 99])] == [
        "one ",
        "two  ",
        "three ",
    ]


def test_names_the_languages_that_it_has():
    pytest.importorskip("punkt")
    with pytest.raises(ValueError, match=r"language must be one of cs, da, .* got 'hu'"):
        SentenceSplitter("punkt", "hu")


def test_rejects_no_language_and_unknown_names():
    with pytest.raises(ValueError, match="need a language, got 'none'"):
        SentenceSplitter("sentencex", "none")
    with pytest.raises(ValueError, match=r"name must be one of .*'sentencex'\), got 'spacy'"):
        SentenceSplitter("spacy")


def test_a_missing_library_names_its_extra(library, monkeypatch):
    splitters._boundaries.cache_clear()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'dovetail-rag\[languages\]'"):
        SentenceSplitter(library, "fr")
    splitters._boundaries.cache_clear()


def test_passages_made_by_another_splitter_are_out_of_date(library):
    chunkers = [Chunker(), Chunker(splitter=SentenceSplitter(library, "de"))]
    assert chunkers[0].fingerprint == "sections-1-words-120"
    assert chunkers[1].fingerprint.startswith(f"sections-1-words-120-{library}-")
    document = Document("d", GERMAN, "d")
    made = chunkers[1](document)[0]
    assert "".join(span.of(made.text) for span in made.sentences) == made.text
    assert made.sentences != chunkers[0](document)[0].sentences

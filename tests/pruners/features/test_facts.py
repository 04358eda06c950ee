"""Facts of passages and questions: worked cases, parity with the terms of a whole text, edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners.features.asked import ASKED, question_facts
from pruners.features.facts import SHAPE, name_terms, passage_facts, subject_of, text_terms
from rag.records import Passage, Span
from rag.text.sentences import split_sentences
from rag.text.terms import terms


def passage(*sentences, title=""):
    text = " ".join(sentences)
    spans, start = [], 0
    for row, sentence in enumerate(sentences):
        end = start + len(sentence) + (row < len(sentences) - 1)
        spans.append(Span(start, end))
        start = end
    return Passage("p", "p", text, Span(0, len(text)), tuple(spans), title=title)


def shape_of(facts, row):
    return dict(zip(SHAPE, facts.columns[row].tolist(), strict=True))


def test_a_sentence_is_described_by_place_digits_names_and_how_it_begins():
    facts = passage_facts(passage("Ada Lovelace was a writer.", "She met Babbage in 1833"))
    first, second = shape_of(facts, 0), shape_of(facts, 1)
    assert (first["is_first"], first["is_last"], first["position"]) == (1.0, 0.0, 0.0)
    assert (second["is_first"], second["is_last"], second["position"]) == (0.0, 1.0, 1.0)
    assert (first["defines"], first["refers_back"], first["is_closed"]) == (1.0, 0.0, 1.0)
    assert (second["defines"], second["refers_back"], second["is_closed"]) == (0.0, 1.0, 0.0)
    assert (first["has_year"], second["has_year"], second["has_digit"]) == (0.0, 1.0, 1.0)
    assert [sorted(names) for names in facts.names] == [["lovelac"], ["babbag"]]
    assert first["log_terms"] == pytest.approx(np.log(6))
    assert first["log_sentences"] == pytest.approx(np.log(3))


def test_counts_title_and_lines_hold_the_terms():
    facts = passage_facts(passage("Cats like cats.", title="The Cat (animal)"))
    assert facts.counts == ({"cat": 2, "like": 1},)
    assert facts.lines == (" cat like cat ",)
    assert facts.title == {"the": 1, "cat": 1, "animal": 1}
    assert facts.lengths.tolist() == [3.0]


@pytest.mark.parametrize(
    ("title", "subject"),
    [
        ("Blackbird (song)", " blackbird "),
        ("Colosseum - Works modeled on it", " colosseum "),
        ("Manual > Install", " manual "),
        ("(untitled)", " untitl "),
        ("It", ""),
        ("", ""),
    ],
)
def test_the_subject_is_the_title_without_asides(title, subject):
    assert subject_of(title) == subject


@given(st.text())
def test_terms_by_words_are_the_terms_of_the_text(text):
    assert list(text_terms(text)) == terms(text)


@pytest.mark.parametrize(
    "text",
    ["Don't use sys.exit in 3.11, Ada's __enter__ says.", "日本語の文 and Größe", "", "  "],
)
def test_terms_by_words_equal_those_of_the_whole(text):
    assert list(text_terms(text)) == terms(text)


@given(st.text())
def test_any_text_has_one_row_of_facts_a_sentence(text):
    facts = passage_facts(Passage("p", "p", text, Span(0, len(text)), split_sentences(text)))
    n = len(split_sentences(text))
    assert len(facts.counts) == len(facts.lines) == len(facts.names) == len(facts.lengths) == n
    assert facts.columns.shape == (n, len(SHAPE))
    assert np.isfinite(facts.columns).all()


def test_names_are_capitalised_words_but_the_first():
    assert name_terms("When did Ada meet Charles Babbage?") == {"ada", "charl", "babbag"}


@pytest.mark.parametrize(
    ("question", "kinds"),
    [
        ("Who wrote it?", {"asks_who"}),
        ("When was Rome founded?", {"asks_when"}),
        ("In which city is it?", {"asks_where", "asks_which"}),
        ("How many legs has a spider?", {"asks_how_many", "asks_how"}),
        ("Are both of them Danish?", {"asks_whether", "compares"}),
        ("tell me of Rome", set()),
    ],
)
def test_a_question_tells_what_it_wants(question, kinds):
    facts = question_facts(question)
    found = dict(zip(ASKED, facts.columns.tolist(), strict=True))
    assert {name for name, value in found.items() if value and not name.startswith("log")} == kinds


def test_a_question_keeps_distinct_content_terms_in_order():
    facts = question_facts("Which cat chased the cat of Ada?")
    assert facts.terms == ("cat", "chase", "ada")
    assert facts.line.startswith(" which cat ")
    assert facts.names == {"ada"}

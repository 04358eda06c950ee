"""Records: spans, selections that never edit text, and inputs that are refused."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.records import (
    Budget,
    ModelIdentity,
    Passage,
    Query,
    Segment,
    Selection,
    SentenceScore,
    Span,
    text_sha,
)

MODEL = ModelIdentity("tiny", "weights", "rope", "float32", "tokenizer")


def selection_of(text, lengths, kept):
    """A selection over consecutive sentences of these lengths."""
    sentences, start = [], 0
    for length, stays in zip(lengths, kept, strict=True):
        sentences.append(SentenceScore(Span(start, start + length), 0.5, kept=stays))
        start += length
    return Selection("p", text_sha(text), tuple(sentences), "test")


@st.composite
def selections(draw):
    """Sentences of any Unicode text, lone surrogates and empty ones included, some of them kept."""
    character = st.characters(exclude_categories=())
    pieces = draw(st.lists(st.text(character, max_size=8), max_size=8))
    kept = draw(st.lists(st.booleans(), min_size=len(pieces), max_size=len(pieces)))
    return pieces, kept, selection_of("".join(pieces), [len(p) for p in pieces], kept)


def test_a_span_counts_code_points():
    span = Span(1, 3)
    assert span.of("a😀é!") == "😀é"
    assert len(span) == 2
    assert span.shifted(4) == Span(5, 7)
    assert Span(2, 2).of("abc") == ""


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2)])
def test_a_span_that_is_none_is_refused(start, end):
    with pytest.raises(ValueError, match=f"0 <= start <= end, got {start} and {end}"):
        Span(start, end)


def test_spans_sort_by_place():
    assert sorted([Span(3, 4), Span(0, 9), Span(0, 2)]) == [Span(0, 2), Span(0, 9), Span(3, 4)]


def test_a_selection_joins_touching_sentences_and_reads_their_text():
    text = "One. Two.  Three. Four."
    chosen = selection_of(text, [5, 6, 7, 5], [True, True, False, True])
    assert chosen.spans == (Span(0, 11), Span(18, 23))
    assert chosen.kept_rows == (0, 1, 3)
    assert chosen.text(text) == "One. Two.  Four."
    assert chosen.keep_ratio == 16 / 23


@given(selections())
def test_the_text_of_a_selection_is_its_kept_sentences_byte_for_byte(made):
    pieces, kept, chosen = made
    text = "".join(pieces)
    assert chosen.text(text) == "".join(p for p, stays in zip(pieces, kept, strict=True) if stays)
    assert [r for r, stays in enumerate(kept) if stays] == list(chosen.kept_rows)
    assert 0.0 <= chosen.keep_ratio <= 1.0
    spans = chosen.spans
    assert all(a.end < b.start for a, b in pairwise(spans) if len(a) and len(b))


@given(selections())
def test_keeping_every_sentence_is_the_identity(made):
    pieces, _, _ = made
    text = "".join(pieces)
    whole = selection_of(text, [len(p) for p in pieces], [True] * len(pieces))
    assert whole.text(text) == text
    assert whole.keep_ratio == 1.0
    assert len(whole.spans) == min(1, len(pieces))


def test_a_selection_of_another_text_is_refused():
    chosen = selection_of("One. Two.", [5, 4], [True, False])
    for other in ("One. Twa.", "One. Two. ", ""):
        with pytest.raises(ValueError, match="'p' was made on another text"):
            chosen.text(other)


def test_an_empty_passage_keeps_all_of_nothing():
    assert selection_of("", [], []).keep_ratio == 1.0
    assert selection_of("", [], []).text("") == ""


def test_the_hash_of_a_text_tells_composed_from_decomposed_characters():
    assert text_sha("\u00e9") != text_sha("e\u0301")
    assert text_sha("\ud800") != text_sha("?")


def test_a_passage_keeps_every_row_until_it_is_pruned():
    text = "One. Two."
    spans = (Span(0, 5), Span(5, 9))
    passage = Passage("p", "d", text, Span(0, 9), spans)
    assert passage.kept_rows == (0, 1)
    pruned = Passage(
        "p", "d", text, Span(0, 9), spans, kept=selection_of(text, [5, 4], [False, True])
    )
    assert pruned.kept_rows == (1,)


def test_a_title_is_searched_with_the_text():
    assert Passage("p", "d", "text", Span(0, 4), (), title="Title").searchable == "Title\ntext"
    assert Passage("p", "d", "text", Span(0, 4), ()).searchable == "text"


@pytest.mark.parametrize("text", ["", " \n\t", "\u3000"])
def test_an_empty_question_is_refused(text):
    with pytest.raises(ValueError, match="question must not be empty"):
        Query(text)


@pytest.mark.parametrize(("tokens", "least"), [(-1, 0), (0, -1)])
def test_a_negative_budget_is_refused(tokens, least):
    with pytest.raises(ValueError, match=f"at least 0, got {tokens} and {least}"):
        Budget(tokens, least)


def test_a_segment_starts_after_its_parents():
    first = Segment(MODEL, "prefix", (5, 6, 7))
    second = Segment(MODEL, "passage", (8,), (first,))
    assert (first.start, second.start) == (0, 3)
    assert Segment(MODEL, "passage", (9, 9), (first, second)).start == 4
    assert len(first) == 3


def test_a_segment_without_tokens_is_refused():
    with pytest.raises(ValueError, match="'p7' needs at least one token, got none"):
        Segment(MODEL, "passage", (), name="p7")


def test_sentences_of_which_a_word_stays_are_kept_rows_of_a_passage():
    text = "One two. Three four. Five six. "
    words = tuple(Span(m.start(), m.end()) for m in re.finditer(r"\S+\s*", text))
    kept = {"two. ", "six. "}
    scores = tuple(SentenceScore(span, 0.5, kept=span.of(text) in kept) for span in words)
    selection = Selection("p", text_sha(text), scores, "words", unit="word")
    sentences = (Span(0, 9), Span(9, 21), Span(21, 31))
    passage = Passage("p", "d", text, Span(0, 31), sentences, kept=selection)
    assert selection.kept_rows == (1, 5)
    assert passage.kept_rows == (0, 2)

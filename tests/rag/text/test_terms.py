"""Terms: what counts as a word, which words a question drops, and the stemmer's published cases."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.text.terms import STOP_WORDS, query_terms, stem, terms


def test_words_are_folded_and_stemmed_and_stop_words_stay():
    assert terms("The Cats were HOPPING") == ["the", "cat", "were", "hop"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("__enter__", ["__enter__", "enter"]),
        ("sys.exit", ["sys.exit", "sy", "exit"]),
        ("async", ["async"]),
        ("a_b.c", ["a_b.c", "a", "b", "c"]),
        ("3.11", ["3.11"]),
        ("___", []),
        ("async-with", ["async", "with"]),
        ("end.", ["end"]),
    ],
)
def test_technical_names_count_whole_and_in_parts(name, expected):
    assert terms(name) == expected


def test_apostrophes_vanish_straight_or_curly():
    assert terms("don't the king's") == terms("don’t the king’s") == ["dont", "the", "king"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ﬁle", ["file"]),
        ("straße STRASSE", ["strass", "strass"]),
        ("cafe\u0301", ["café"]),
        ("İ", ["i̇"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("Tokyo塔", ["tokyo", "塔"]),
        ("", []),
        ("¿?… \x00", []),
    ],
)
def test_other_scripts(text, expected):
    assert terms(text) == expected


def test_a_question_drops_stop_words():
    assert query_terms("What is the capital of France?") == ["capital", "franc"]


@pytest.mark.parametrize("text", ["who is it", "while or for", "To be, or not to be"])
def test_a_question_of_stop_words_only_keeps_them(text):
    assert query_terms(text) == terms(text) != []


def test_nothing_gives_nothing():
    assert terms("") == query_terms("  ?!") == []


@settings(deadline=None)
@given(st.text())
def test_a_question_asks_for_terms_that_its_text_would_be_indexed_by(text):
    assert set(query_terms(text)) <= set(terms(text))
    assert bool(query_terms(text)) == bool(terms(text))


@given(st.text())
def test_case_makes_no_difference_to_ascii(text):
    ascii_only = text.encode("ascii", "ignore").decode()
    assert terms(ascii_only.upper()) == terms(ascii_only.lower())


# The examples of Porter 1980 for steps 1a, 1b, 1c and 5a; where step 5a or 1c then acts on the
# result of an earlier step, its ending is gone too (agree, conflate, trouble).
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("caresses", "caress"), ("ponies", "poni"), ("ties", "ti"), ("caress", "caress"),
        ("cats", "cat"), ("feed", "feed"), ("agreed", "agre"), ("plastered", "plaster"),
        ("bled", "bled"), ("motoring", "motor"), ("sing", "sing"), ("conflated", "conflat"),
        ("troubled", "troubl"), ("sized", "size"), ("hopping", "hop"), ("tanned", "tan"),
        ("falling", "fall"), ("hissing", "hiss"), ("fizzed", "fizz"), ("failing", "fail"),
        ("filing", "file"), ("happy", "happi"), ("sky", "sky"), ("probate", "probat"),
        ("rate", "rate"), ("cease", "ceas"),
    ],
)  # fmt: skip
def test_stems_the_published_examples(word, expected):
    assert stem(word) == expected


@pytest.mark.parametrize(
    "family",
    ["use uses used using", "change changes changed changing", "score scored scoring",
     "run running", "produce produced producing", "agree agrees agreed", "copy copies copied"],
)  # fmt: skip
def test_inflections_of_a_word_share_a_stem(family):
    assert len({stem(word) for word in family.split()}) == 1


@pytest.mark.parametrize("word", ["as", "sys2s", "größes", "x"])
def test_leaves_short_and_foreign_words(word):
    assert stem(word) == word


@given(st.text(string.ascii_lowercase, min_size=1))
def test_a_stem_is_never_empty_and_at_most_as_long(word):
    assert 1 <= len(stem(word)) <= len(word)


def test_stop_words_are_spelt_as_the_tokens_they_are_compared_with():
    assert all(word.isalpha() and word == word.casefold() for word in STOP_WORDS)

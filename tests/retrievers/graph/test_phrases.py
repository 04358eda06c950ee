"""Phrases: runs of capitalised words by hand, and what holds for every text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.text.analyser import Analyser
from retrievers.graph.phrases import phrases
from retrievers.graph.words import words

STOP_WORDS = Analyser("en").stop_words


def found(text, stop_words=STOP_WORDS):
    return [tuple(phrase) for phrase in phrases(text, words(text), stop_words)]


def keys(text):
    return [key for key, _ in found(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("we met Ada", ["ada"]),
        ("we met Ada Lovelace and left", ["ada lovelace"]),
        ("we met Ada, Charles and left", ["ada", "charles"]),
        ("we met Ada\nCharles", ["ada", "charles"]),
        ("we met Ada  Charles", ["ada", "charles"]),
        ("we met Ada and ada", ["ada"]),
        ("we met Ada, then Ada", ["ada", "ada"]),
        ("we met Anne-Marie", ["anne marie"]),
        ("from Paris–Nice", ["paris nice"]),
        ("we met Ada's Engine", ["ada engine"]),
        ("we met O’Brien", ["o'brien"]),
        ("we met Café Müller", ["cafe muller"]),
        ("we met McDonald and IBM", ["mcdonald and ibm"]),
        ("we like iPhone", []),
        ("we met 1984 Ada", ["ada"]),
        ("we met Ada 1984", ["ada"]),
        ("мы видели Москву", ["москву"]),
        ("東京", []),
        ("", []),
        ("nothing here", []),
    ],
)
def test_a_run_of_capitalised_words_is_a_phrase(text, expected):
    assert keys(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see Lord of the Rings", ["lord of the rings"]),
        ("see Lord of Rings", ["lord of rings"]),
        ("see Charles de la Tour", ["charles de la tour"]),
        ("see Tour of the de France", ["tour", "france"]),
        ("see Tour of", ["tour"]),
        ("see Tour of the", ["tour"]),
        ("see Tour of, France", ["tour", "france"]),
        ("see Tour of-France", ["tour", "france"]),
        ("see Tour  of France", ["tour", "france"]),
        ("see Tour across France", ["tour", "france"]),
        ("see of the Rings", ["rings"]),
        ("see Ludwig van Beethoven and Goethe", ["ludwig van beethoven and goethe"]),
        ("see King Of Spain", ["king of spain"]),
    ],
)
def test_up_to_two_joining_words_with_single_spaces_hold_a_run_together(text, expected):
    assert keys(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("by J. R. R. Tolkien", ["j r r tolkien"]),
        ("by J.R. Tolkien", ["r tolkien"]),
        ("by H. G. Wells, twice", ["h g wells"]),
        ("by George W. Bush", ["george w bush"]),
        ("by Wells! Bush", ["wells", "bush"]),
        ("in St. Louis", ["st louis"]),
        ("by Dr. Watson and Mrs. Hudson", ["dr watson and mrs hudson"]),
        ("by Mr.Watson", ["watson"]),
        ("by Wells.\nBush", ["wells", "bush"]),
        ("by Wells. of Bush", ["wells", "bush"]),
    ],
)
def test_a_run_goes_on_over_the_full_stop_of_an_initial_or_a_title(text, expected):
    assert keys(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He lived in London. The city is big.", ["london"]),
        ("He lived in London. Paris is far.", ["london", "paris"]),
    ],
)
def test_a_run_ends_with_its_sentence(text, expected):
    assert keys(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Beatles play.", [("beatles", False)]),
        ("It ended. The Beatles play.", [("beatles", False)]),
        ("In Paris", [("paris", False)]),
        ("The cat", []),
        ("so The cat", []),
        ("The", []),
        ("When The Who play", [("the who", False)]),
        ("we saw The Beatles", [("the beatles", False)]),
    ],
)
def test_a_stop_word_at_the_beginning_of_a_sentence_is_left_out(text, expected):
    assert found(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("In the United States people vote", "united states"), ("Under the Bridge", "bridge")],
)
def test_joining_words_after_a_stop_word_that_is_left_out_are_left_out_too(text, expected):
    assert keys(text) == [expected]


@pytest.mark.parametrize(
    "before",
    [
        "",
        "  ",
        "so it is. ",
        "so! ",
        "so? ",
        '"',
        "“",
        "«",
        "(",
        "so: ",
        "so; ",
        "• ",
        "# ",
        "so\n",
    ],
)
def test_one_word_at_the_beginning_of_a_sentence_is_flagged(before):
    assert found(f"{before}Paris is big") == [("paris", True)]
    assert found(f"{before}Paris Match is big") == [("paris match", False)]


@pytest.mark.parametrize("before", ["in ", "so, ", "so - ", "so/", "we\t", "‘"])
def test_one_word_inside_a_sentence_is_not_flagged(before):
    assert found(f"{before}Paris is big") == [("paris", False)]


@pytest.mark.parametrize(
    "word", ["May", "December", "Sunday", "SUNDAY", "It", "IT", "Of", "Ab", "X"]
)
def test_months_days_stop_words_and_short_words_alone_are_no_phrases(word):
    assert found(f"so {word} it was") == found(f"{word} it was") == []
    assert keys(f"so {word} Smith") == [f"{word.lower()} smith"]


def test_a_word_of_three_letters_is_a_phrase():
    assert found("so Ada came") == [("ada", False)]


def test_the_stop_words_decide_what_is_left_out():
    assert found("The Beatles", frozenset()) == [("the beatles", False)]
    assert found("Das Haus", frozenset({"das"})) == [("haus", False)]


def is_subsequence(part, whole):
    rest = iter(whole)
    return all(one in rest for one in part)


GAPS = [" ", " ", " ", ". ", "-", "'", "\n", ", ", "“"]
WORDS = ["Ada", "The", "of", "the", "and", "J", "May", "map", "É", "o'Ne", "O’Ne", "1"]
PIECES = st.sampled_from(WORDS + GAPS)


@given(st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=60))
def test_every_key_is_a_subsequence_of_the_words_with_capitals_at_its_ends(text):
    said = words(text)
    for key, initial in found(text):
        parts = key.split(" ")
        assert is_subsequence(parts, " ".join(said.keys).split(" "))
        assert not initial or len(parts) == 1
        capitals = {one for raw, one in zip(said.raw, said.keys, strict=True) if raw[0].isupper()}
        assert any(key.endswith(one) for one in capitals)


@given(st.lists(PIECES, max_size=25).map("".join))
def test_phrases_together_are_a_subsequence_of_the_words(text):
    assert is_subsequence(" ".join(keys(text)).split(), words(text).keys)

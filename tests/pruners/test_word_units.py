"""Words as units: by hand, a partition of any text, identifiers whole, linear time."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners.word_units import is_identifier, word_units
from rag.records import Passage, Span


def passage(*sentences):
    text = "".join(sentences)
    ends = [sum(map(len, sentences[:n])) for n in range(len(sentences) + 1)]
    return Passage("p", "d", text, Span(0, len(text)), tuple(Span(*ab) for ab in pairwise(ends)))


def units(*sentences):
    one = passage(*sentences)
    return [[span.of(one.text) for span in of] for of in word_units(one)]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Red cats, sat.  ", ["Red", " cats", ",", " sat", ".", "  "]),
        ("  Red (old) cats", ["  Red", " (old)", " cats"]),
        ("Red (old cats)", ["Red", " (old", " cats", ")"]),
        ("So... what?!", ["So", "...", " what", "?", "!"]),
        ("call sys.exit(0), then f(x);", ["call", " sys.exit(0)", ",", " then", " f(x)", ";"]),
        ('see "a[i]".', ["see", ' "a[i]', '"', "."]),
        ("In the U.S. it", ["In", " the", " U.S.", " it"]),
        ("well-known don't", ["well-known", " don't"]),
        ("a/b.py -> x_1 >= 3.11", ["a/b.py", " ->", " x_1", " >=", " 3.11"]),
        (
            "猫が「好き」です。Python3",
            ["猫", "が", "「", "好", "き", "」", "で", "す", "。", "Python3"],
        ),
        ("か\u3099 e\u0301te\u0301.", ["か\u3099", " e\u0301te\u0301", "."]),
        ("שלום, 👩\u200d👩\u200d👧!", ["שלום", ",", " 👩\u200d👩\u200d👧", "!"]),
        ("...", ["..."]),
        (") ]", [")", " ]"]),
        ("\n\t ", ["\n\t "]),
        ("nul\0l\r\n", ["nul\0l", "\r\n"]),
    ],
)
def test_by_hand(sentence, expected):
    assert units(sentence) == [expected]


def test_units_stay_within_their_sentence():
    assert units("Red cats. ", "Dogs bark.") == [
        ["Red", " cats", ".", " "],
        ["Dogs", " bark", "."],
    ]
    assert word_units(passage()) == []


@given(st.lists(st.text(min_size=1, max_size=30) | st.text("ab.,)( \n猫", min_size=1), max_size=4))
def test_units_partition_any_text_and_white_space_alone_only_ends_a_sentence(sentences):
    one = passage(*sentences)
    found = word_units(one)
    spans = [span for of in found for span in of]
    assert [span.start for span in spans] == [0, *(span.end for span in spans)][: len(spans)]
    assert "".join(span.of(one.text) for span in spans) == one.text
    for sentence, of in zip(one.sentences, found, strict=True):
        assert (of[0].start, of[-1].end) == (sentence.start, sentence.end)
        assert all(len(span) for span in of)
        assert all(span.of(one.text).strip() for span in of[:-1])


@given(st.lists(st.text("ab.,)(!", min_size=1), min_size=1, max_size=6), st.data())
def test_neighbours_never_grow_together_whatever_goes(runs, data):
    one = passage(" ".join(runs))
    kept = [span for span in word_units(one)[0] if data.draw(st.booleans())]
    left = "".join(span.of(one.text) for span in kept)
    assert set(re.findall("[ab]+", left)) <= set(re.findall("[ab]+", one.text))


@pytest.mark.parametrize(
    "word",
    ["3.11", "AB-12-CD", "sys.exit", "__init__", "a/b", "std::move", "f(x)", "camelCase", "C++",
     "--flag", "$HOME", "./run", ".env", "x=y", "user@host", "٣"],
)  # fmt: skip
def test_an_identifier_is_one_unit_and_is_known(word):
    assert is_identifier(word)
    assert units(f"see {word} there, {word}, and ({word}).")[0].count(f" {word}") == 2


@pytest.mark.parametrize(
    "word", ["cats", "well-known", "don't", "Été", "猫", "...", "->", "U", ","]
)
def test_a_plain_word_is_no_identifier(word):
    assert not is_identifier(word)


@pytest.mark.parametrize(
    "text", ["x" * 10**6, ")" * 10**6, "(" * 10**6, "a:" * 10**6, "猫" * 10**6]
)
def test_a_megabyte_without_a_space_takes_linear_time(text):
    one = passage(text)
    spans = word_units(one)[0]
    assert spans[-1].end == len(text)
    is_identifier(text)

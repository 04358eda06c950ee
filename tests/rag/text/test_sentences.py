"""Sentence splitting: cases by hand, the partition on any text, long input, time."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.text.sentences import LONGEST, split_sentences


def sentences(text):
    return [span.of(text) for span in split_sentences(text)]


def stripped(text):
    return [sentence.strip() for sentence in sentences(text)]


def test_white_space_belongs_to_the_sentence_before_it_and_leading_to_the_first():
    assert sentences(" \n One.  Two!\n\n Three \n") == [" \n One.  ", "Two!\n\n ", "Three \n"]


@pytest.mark.parametrize("text", ["", " ", "\n\t\r\n\u2028\u3000"])
def test_nothing_visible_has_no_sentences(text):
    assert split_sentences(text) == ()


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith met Mrs. Jones.",
        "It ran on, e.g. Linux, i.e. Unix.",
        "It is shown in Fig. 3 and Eq. (4), see p. 12.",
        "J. R. R. Tolkien and George W. Bush agree.",
        "The U.S. Department of Justice is in Washington.",
        "He joined the Norwich City F.C. Hall of Fame in 2002.",
        "Apple Inc. and Acme Corp. merged on Jan. 5 of that year.",
        "Pi is 3.14 and the file is a.b.txt, see example.com/index.html for v1.2.3 of it.",
        "All I Want for Christmas ..., a book, was … odd.",
        "“Really?” he asked.",
        "Liang et al. (2023) disagree.",
        "It weighs approx. 5 kg vs. 7 kg for No. 2.",
        "This line is wrapped at about seventy columns, as documents often\nare, and goes on.",
        "Hello\nworld.",
        "Wrapped at an abbreviation, e.g.\nthis one.",
        "1. A numbered heading",
        "IV. A Roman one",
        "「はい！」と言った。",
        "Das kostet 1.000,50 Euro.",
    ],
)
def test_stays_whole(text):
    assert sentences(text) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He left the U.S. He came back.", ["He left the U.S.", "He came back."]),
        ("It was Apple Inc. The firm grew.", ["It was Apple Inc.", "The firm grew."]),
        ("At 5 p.m. We left. No. That is all.", ["At 5 p.m.", "We left.", "No.", "That is all."]),
        ("What?! No! Yes... Maybe… So.", ["What?!", "No!", "Yes...", "Maybe…", "So."]),
        ("He said “Go.” Then (he left.) Ok.", ["He said “Go.”", "Then (he left.)", "Ok."]),
        ("It ended.[3] He left.[4][5] Bye.", ["It ended.[3]", "He left.[4][5]", "Bye."]),
        ("**Bold text.** Plain text.", ["**Bold text.**", "Plain text."]),
        ('It is a name. "raise" is a word.', ["It is a name.", '"raise" is a word.']),
        ("It was 1986. 12 people came.", ["It was 1986.", "12 people came."]),
        (
            "私は行く。君も？「はい！」終わり｡次",
            ["私は行く。", "君も？", "「はい！」", "終わり｡", "次"],
        ),
        ("One.\nwe go on in small letters.", ["One.", "we go on in small letters."]),
        ("Title\n\nBody without a stop\r\n\r\nMore", ["Title", "Body without a stop", "More"]),
        ("A page\fThe next\u2029A paragraph", ["A page", "The next", "A paragraph"]),
        ("a line\u2028and its rest. Next", ["a line\u2028and its rest.", "Next"]),
        ("Title\n=====\nText. More", ["Title\n=====", "Text.", "More"]),
        ("# Title. With a stop\nText", ["# Title. With a stop", "Text"]),
        ("Text.\n\n* * *\n\nText.", ["Text.\n\n* * *", "Text."]),
        (
            "Intro:\n- one. Two\n- three\n  goes on",
            ["Intro:", "- one.", "Two", "- three\n  goes on"],
        ),
        ("1. one\n2. two\n10) ten", ["1. one", "2. two", "10) ten"]),
        (
            "It took until version\n3. Then it worked",
            ["It took until version\n3.", "Then it worked"],
        ),
        ("Team | Cups. All\nBlues | 1", ["Team | Cups. All", "Blues | 1"]),
        (
            "str.lower()\n   Return a copy. It is new.",
            ["str.lower()", "Return a copy.", "It is new."],
        ),
        ("Name: x.\nname: J.\nname: y", ["Name: x.", "name: J.", "name: y"]),
    ],
)
def test_is_cut(text, expected):
    assert stripped(text) == expected


def test_indented_code_is_cut_between_lines_only():
    code = "    if x.y:\n        call(a). B = 3\n        return Z. T"
    assert sentences(f"Like so:\n\n{code}\n\nDone. Good.") == [
        "Like so:\n\n    ", f"{code.strip()}\n\n", "Done. ", "Good."
    ]  # fmt: skip
    long = "\n".join(f"    value_{n} = table.Column({n}). Next" for n in range(100))
    assert len(sentences(long)) > 3
    assert all(
        sentence.startswith("value_") or n == 0 for n, sentence in enumerate(sentences(long))
    )


def test_indented_prose_is_no_code():
    text = "   Return a copy of the string. The rest\n   is left alone. It is new."
    assert len(sentences(text)) == 3


def test_fenced_code_is_kept_together_over_blank_lines():
    code = "```python\na. B\n\nc. D\n```\n"
    assert sentences(f"{code}Text. More") == [code, "Text. ", "More"]


def test_a_fence_that_never_closes_is_text():
    assert stripped("```\nOne. Two.\n\nThree.") == ["```\nOne.", "Two.", "Three."]


def test_a_row_of_tildes_below_a_line_is_an_underline():
    assert stripped("Title\n~~~~~\n\nOne. Two.\n\nOther\n~~~~~\n\nThree.") == [
        "Title\n~~~~~", "One.", "Two.", "Other\n~~~~~", "Three."
    ]  # fmt: skip


def test_lines_that_were_ended_on_purpose_are_sentences():
    listing = "Parts 2,100\nBody Labor 2 150 300\nSubtotal 2,730\nGRAND TOTAL 5,738"
    assert stripped(listing) == listing.split("\n")
    fields = f"Full name Iwan Roberts\nBorn 1968\nHe was {'very ' * 16}good and\nplayed. He left."
    assert stripped(fields)[:2] == ["Full name Iwan Roberts", "Born 1968"]
    assert len(sentences(fields)) == 4


def test_a_grid_table_is_cut_between_its_rows():
    border, row = "+---+---+", "| a... | b |\n|   | c |"
    text = f"{border}\n{row}\n{border}\n{row}\n{border}"
    assert sentences(text) == [f"{border}\n{row}\n", f"{border}\n{row}\n{border}"]


def test_long_sentences_are_cut_at_white_space_or_hard_without_any():
    words = "word " * 1000
    assert all(len(s.rstrip()) <= LONGEST for s in sentences(words))
    assert {word for s in sentences(words) for word in s.split()} == {"word"}
    assert [len(s) for s in sentences("x" * (2 * LONGEST + 1))] == [LONGEST, LONGEST, 1]
    assert len(sentences("x" * LONGEST + " " * 500)) == 1


# Text that looks like what the rules look for, beside any text at all.
MARKS = (
    '.. ?! 。 」 " ) . - | || ``` ~~~ +---+ ==== >>> e.g. Dr U.S. word The [3] 1. \ud800 \u0301 語'
)
GAPS = [" ", "\n", "\r\n", "\n\n", "\u2028", "\u2029", "\f", "    ", "\t", "\u00a0", "x" * 1300]
pieces = st.lists(st.sampled_from([*MARKS.split(), *GAPS]), max_size=40).map("".join)


@given(st.text() | pieces)
def test_the_spans_partition_any_text(text):
    spans = split_sentences(text)
    assert "".join(span.of(text) for span in spans) == (text if text.strip() else "")
    assert all(span.of(text).strip() for span in spans)
    assert not any(span.of(text)[0].isspace() for span in spans[1:])
    assert all(len(span.of(text).strip()) <= LONGEST for span in spans)
    assert [span.start for span in spans[1:]] == [span.end for span in spans[:-1]]


@given(pieces)
def test_a_paragraph_is_cut_the_same_whatever_comes_after_a_blank_line(text):
    assert sentences(f"One. Two\n\nThree{text}")[:2] == ["One. ", "Two\n\n"]


@pytest.mark.parametrize(
    "unit", ["x", "ab ", ".", ". ", "A. ", "- a\n", "```\n", "`", '."', "a)", "[a]", "    ", "!\n"]
)
@pytest.mark.slow
def test_takes_time_linear_in_the_text(unit):
    def seconds(size):
        text = unit * (size // len(unit))
        runs = []
        for _ in range(3):
            begin = time.process_time()
            split_sentences(text)
            runs.append(time.process_time() - begin)
        return min(runs)

    # Ten times the text: ten times the time, or a hundred if some rule rescans it.
    assert seconds(200_000) < 40 * max(seconds(20_000), 0.005)

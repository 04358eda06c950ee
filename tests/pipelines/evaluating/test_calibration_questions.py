"""Questions for calibration: by hand, by rule, the draw, other languages, and what gives none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluating.calibration.questions import (
    QuestionsError,
    questions_of_data,
    questions_of_passages,
)
from rag.records import Passage, Span
from rag.text.sentences import split_sentences

PROSE = "The text is here for the reader to see what it is about, and that is all of it."


def passage(text, title="", id_="p", document=None):
    spans = tuple(split_sentences(text)) if text else ()
    return Passage(id_, document or id_, text, Span(0, len(text)), spans, title=title)


def asked(*passages, limit=10, seed=0):
    found = questions_of_passages({one.id: one for one in passages}, limit, seed)
    return [question.text for question in found]


@pytest.mark.parametrize(
    ("title", "question"),
    [
        ("Guide > Assignment statements", "What does the text say about Assignment statements?"),
        ("Guide > 3.2. The `match` statement", "What does the text say about the match statement?"),
        ("Guide > Generators", "What are Generators?"),
        ("Guide > Status", "What is Status?"),
        ("Guide > Pharmacy", "What is Pharmacy?"),
        ("Guide > How to quote", "How to quote?"),
        ("Guide > Why is it slow?", "Why is it slow?"),
        ("Bridges of steel > Overview", "What does the text say about Bridges of steel?"),
        ("Bridges of steel > 1.2", "What does the text say about Bridges of steel?"),
    ],
)
def test_a_heading_becomes_a_question(title, question):
    assert asked(passage(PROSE, title)) == [question]


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("A generator is a function that yields its values to the caller.", "What is a generator?"),
        ("The bridges of Rome were the work of many hands in that time.",
         "What were the bridges of Rome?"),
        ("It is a fact that the tower in the city was built by hand in 1889.", None),
        ("The tower in the middle of the city was built in 1889.",
         "The tower in the middle of the city was built in …?"),
        ("The first of the letters was sent to the king of Old Spain.",
         "The first of the letters was sent to the king of …?"),
        ("See the section of the guide that is about Pointers.", None),
        ("It is short.", None),
        ("The words of this sentence are not about a name or a number.", None),
    ],
)  # fmt: skip
def test_a_sentence_becomes_a_question_or_is_passed_over(text, question):
    assert asked(passage(text)) == ([] if question is None else [question])


def test_the_first_sentence_that_fits_is_taken():
    text = "It is short. A vault is a room that is made of stone. The arch is a part of it."
    assert asked(passage(text)) == ["What is a vault?"]


def test_headings_and_sentences_take_turns():
    text = "A {0} is a thing that is in the world and is made of stone."
    names = ["vault", "tower", "bridge", "wall"]
    found = asked(*(passage(text.format(n), f"Guide > {n.title()} work", n) for n in names))
    assert [one.startswith("What does the text say") for one in found] == [True, False, True, False]


def test_headings_alone_are_enough():
    bare = [passage("Yes.", "Guide > Kalender", "a"), passage("No.", "Guide > Wolken", "b")]
    assert sorted(asked(*bare)) == ["Kalender", "Wolken"]


@pytest.mark.parametrize(
    ("text", "title", "question"),
    [
        ("Die Brücke über den Fluss wurde vor langer Zeit aus Stein gebaut.", "",
         "Die Brücke über den Fluss wurde vor langer"),
        ("Die Brücke wurde vor langer Zeit aus Stein gebaut.", "Führer > Brücken", "Brücken"),
        ("この橋は千八百八十九年に石で造られました。とても古い橋です。", "", "この橋は千八百八十九年に石で造られました。"),
    ],
)  # fmt: skip
def test_other_languages_are_asked_in_their_own_words(text, title, question):
    assert asked(passage(text, title)) == [question]


def test_one_of_each_document_comes_before_a_second_of_any():
    pages = [
        passage(PROSE, f"Guide > Part {'abcdef'[n]} of {document}", f"{document}{n}", document)
        for document in ("x", "y", "z")
        for n in range(4)
    ]
    for seed in range(5):
        found = asked(*pages, limit=3, seed=seed)
        assert sorted(one.rstrip("?")[-1] for one in found) == ["x", "y", "z"]
    assert len(asked(*pages)) == 10


def test_the_draw_depends_on_the_seed_alone():
    pages = [passage(PROSE, f"Guide > Part {'abcdefgh'[n]} of it", f"p{n}") for n in range(8)]
    assert asked(*pages, limit=4) == asked(*reversed(pages), limit=4)
    assert len({tuple(asked(*pages, limit=4, seed=seed)) for seed in range(6)}) > 1
    assert asked(*pages, limit=2) == asked(*pages, limit=4)[:2]


def test_passages_that_are_not_drawn_are_not_read():
    class Reads(dict):
        read = 0

        def __getitem__(self, key):
            self.read += 1
            return super().__getitem__(key)

    pages = Reads({f"p{n}": passage(PROSE, f"G > Part {n} of", f"p{n}") for n in range(50)})
    assert len(questions_of_passages(pages, 5)) == 5
    assert pages.read == 5


def test_nothing_gives_nothing():
    assert asked() == []
    assert asked(passage("", "")) == []
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        asked(limit=0)


@given(st.lists(st.text(max_size=60), max_size=4), st.text(max_size=30))
def test_any_text_gives_questions_that_are_not_empty_and_unique(texts, title):
    found = questions_of_passages(
        {str(n): passage(text, title, str(n)) for n, text in enumerate(texts)}, 10
    )
    assert all(question.text.strip() and not question.answers for question in found)
    assert len({question.text for question in found}) == len(found) <= len(texts)
    assert len({question.id for question in found}) == len(found)


def test_of_data_only_questions_with_an_answer_are_asked(data):
    lines = [json.loads(line) for line in (data / "queries.jsonl").read_text().splitlines()]
    lines[0]["answers"] = []
    lines[1]["answers"] = [" "]
    (data / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [question.id for question in questions_of_data(data, None)] == ["q2", "q3"]
    assert len(questions_of_data(data, 1)) == 1
    for line in lines:
        line["answers"] = []
    (data / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(QuestionsError, match="has no question with `answers`; without --data"):
        questions_of_data(data, None)

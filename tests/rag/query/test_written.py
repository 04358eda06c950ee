"""What a model wrote: usable lines pass, garbage becomes empty."""

import pytest

from rag.query.written import cleaned, distinct, question, questions, related, written
from rag.records import Completion, Query

EXAMPLES = "Question: How tall is it?\nParts: How tall? | How wide is it?\n\nQuestion: {question}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("  height of Kilimanjaro ", "height of Kilimanjaro"),
        ("\n\nfirst line\nsecond", "first line"),
        ('"quoted words"', "quoted words"),
        ("1. height of it", "height of it"),
        ("- Query: tall one", "Query: tall one"),
        ("Search: tall one", "tall one"),
        ("3 legs", "3 legs"),
        ("no no no no no", "no no no no no"),
    ],
)
def test_takes_the_first_line_without_label_bullet_and_quotes(text, line):
    assert cleaned(text, EXAMPLES) == line


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n ",
        "?!...",
        "the",
        "a b a b a b a b",
        "How tall is it?",
        "how wide is IT",
        "Parts",
    ],
)
def test_nothing_marks_repetition_and_parroted_examples_are_garbage(text):
    assert cleaned(text, EXAMPLES) == ""


def test_a_question_ends_at_its_mark_so_repeating_it_is_harmless():
    assert question("Who is it? Who is it? Who is it? Who is it?", EXAMPLES) == "Who is it?"
    assert question("Who? 2.", EXAMPLES) == "Who?"
    assert question("why?not", EXAMPLES) == "why?not"


def test_questions_are_cleaned_one_by_one():
    found = Completion("1. Who? Who? | | How tall? | When is it", finish="stop")
    assert questions(found, EXAMPLES) == ["Who?", "When is it"]


def test_a_last_question_that_the_limit_cut_is_dropped_unless_it_is_the_only_one():
    assert questions(Completion("Who? | When is", finish="length"), "") == ["Who?"]
    assert questions(Completion("When is", finish="length"), "") == ["When is"]


def test_distinct_keeps_the_first_of_texts_that_differ_in_case_marks_or_articles():
    texts = ["Who is the king?", "who is king", "Why?", "why"]
    assert distinct(texts) == [Query("Who is the king?"), Query("Why?")]
    assert distinct(texts, known=["WHY"]) == [Query("Who is the king?")]


def test_related_texts_share_a_term_that_is_no_stop_word():
    assert related("height of mountains", "How high is the mountain?")
    assert not related("what is the weather", "What is the height?")


def test_asks_once_for_all_prompts_and_not_at_all_for_none(scripted):
    lm = scripted("one", "two")
    assert [c.text for c in written(lm, ["a", "b"], 7)] == ["one", "two"]
    assert lm.calls == [["a", "b"]]
    assert lm.options == [{"max_tokens": 7, "stop": ("\n",)}]
    assert written(lm, [], 7) == []
    assert len(lm.calls) == 1

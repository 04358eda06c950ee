"""Queries from what was answered or drafted: ITER-RETGEN's and FLARE's."""

import math

import pytest

from rag.query import AppendAnswer, QueryFromCompletion
from rag.records import Answer, Completion, Query

QUERY = Query("Where was he born?")


def draft(*pairs, text=None):
    tokens = tuple(token for token, _ in pairs)
    logprobs = tuple(math.log(p) for _, p in pairs)
    return Completion("".join(tokens).strip() if text is None else text, tokens, logprobs)


def test_appends_the_answer_to_the_question():
    assert AppendAnswer()(QUERY, Answer("in Ulm")) == Query("Where was he born? in Ulm")


@pytest.mark.parametrize("answer", [None, Answer(""), Answer(" "), Answer("x", abstained=True)])
def test_no_answer_adds_nothing(answer):
    assert AppendAnswer()(QUERY, answer) is QUERY


def test_masks_words_with_a_doubted_token_whole():
    found = draft(
        (" Ein", 0.9), ("stein", 0.3), (" was", 0.9), (" born", 0.5), (" in", 0.4), (" Ulm", 0.39)
    )
    assert QueryFromCompletion()(QUERY, found) == Query("was born in")
    assert QueryFromCompletion(threshold=0.3)(QUERY, found) == Query("Einstein was born in Ulm")


def test_a_doubted_space_masks_no_word():
    assert QueryFromCompletion()(QUERY, draft(("born", 0.9), (" \n", 0.1), ("here", 0.9))) == Query(
        "born here"
    )


def test_what_lies_outside_the_text_is_left_out():
    found = draft((" in", 0.9), (" Ulm.", 0.9), ("\nQ: x", 0.9), text="in Ulm.")
    assert QueryFromCompletion()(QUERY, found) == Query("in Ulm.")


def test_without_probabilities_the_whole_draft_is_searched():
    assert QueryFromCompletion()(QUERY, Completion("in  Ulm")) == Query("in Ulm")


def test_the_question_can_lead():
    found = QueryFromCompletion(keep_question=True)(QUERY, Completion("in Ulm"))
    assert found == Query("Where was he born? in Ulm")


@pytest.mark.parametrize(
    "found", [Completion(""), Completion("..."), draft((" Ulm", 0.1), (".", 0.9))]
)
def test_nothing_left_falls_back_to_the_question(found):
    assert QueryFromCompletion()(QUERY, found) is QUERY


def test_rejects_a_threshold_that_is_no_probability():
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\], got 1.5"):
        QueryFromCompletion(threshold=1.5)
    with pytest.raises(ValueError, match="got nan"):
        QueryFromCompletion(threshold=float("nan"))

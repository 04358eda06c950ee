"""Question sets: what the data gives a question, and near passages that nobody labelled for it."""

import numpy as np
import pytest

from pruners.training.labelled import LabelledPassage
from pruners.training.question_sets import given_sets, with_near_passages


def example(id_, question, text, gold=(), answers=()):
    return LabelledPassage(id_, "toy", question, "", (text,), frozenset(gold), answers)


EXAMPLES = [
    example("a", "What eats grass?", "Cows eat grass.", {0}, ("Cows",)),
    example("b", "what eats grass", "Grass is green."),
    example("c", "What is blue?", "The sky is blue.", {0}, ("sky",)),
    example("d", "What is old?", "Cows are old animals.", {0}, ("animals",)),
    example("e", "What is blue?", "grass is green", ()),
]
NEAR = np.array([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.8, 0.2], [0.9, 0.1]])


def grown(counts, questions=((1.0, 0.0),) * 3):
    return with_near_passages(given_sets(EXAMPLES), EXAMPLES, np.array(questions), NEAR, counts)


def test_rows_of_one_question_stand_together_whatever_its_case_and_marks():
    found = given_sets(EXAMPLES)
    assert [one.rows for one in found] == [(0, 1), (2, 4), (3,)]
    assert [one.question for one in found] == ["What eats grass?", "What is blue?", "What is old?"]
    assert found[0].gold == (frozenset({0}), frozenset())


def test_the_nearest_passages_come_first_and_have_no_gold():
    found = grown([1, 1, 2])
    assert found[2].rows == (3, 0, 1)
    assert found[2].gold == (frozenset({0}), frozenset(), frozenset())


def test_a_passage_that_holds_the_answer_is_not_added():
    # Row 3 is nearest to the first question, but it speaks of cows, which is the answer.
    assert grown([5, 0, 0])[0].rows == (0, 1, 2)


def test_a_passage_that_the_set_has_already_is_not_added_again():
    # Row 1 is row 4 but for case and marks.
    assert grown([0, 5, 0])[1].rows == (2, 4, 0, 3)


def test_yes_and_no_are_no_answers_to_look_for():
    yes = [
        example("a", "Is it?", "It is so.", {0}, ("yes",)),
        example("b", "Was it?", "Oh yes, it was.", {0}, ("no",)),
    ]
    found = with_near_passages(given_sets(yes), yes, np.eye(2), np.eye(2), [1, 1])
    assert [one.rows for one in found] == [(0, 1), (1, 0)]


def test_none_wanted_leaves_the_sets_as_they_are():
    assert grown([0, 0, 0]) == given_sets(EXAMPLES)


def test_a_count_for_each_set_is_needed():
    with pytest.raises(ValueError, match="shorter"):
        grown([1])

"""Evidence: answers in passages, documents found, both at once, and what cannot be judged."""

import pytest

from rag.evaluation.data import Question
from rag.evaluation.evidence_score import evidence_score
from rag.records import Passage, Span


def passage(document, text, title=""):
    return Passage(f"{document}:1", document, text, Span(0, len(text)), (), title)


READ = [passage("a", "The tower is 330 m tall."), passage("b", "Yes, it opened in 1889.", "Eiffel")]


@pytest.mark.parametrize(
    ("known", "score"),
    [
        ({"answers": ("330 m",)}, 1.0),
        ({"answers": ("30 m",)}, 0.0),
        ({"answers": ("300", "the Eiffel")}, 1.0),
        ({"supporting": {"a": (), "c": (0,)}}, 0.5),
        ({"relevant": {"b": 2, "c": 1, "a": 0}}, 0.5),
        ({"answers": ("330 m",), "supporting": {"a": ()}}, 1.0),
        ({"answers": ("yes",), "supporting": {"a": ()}}, 0.5),
        ({"answers": ("yes",), "supporting": {"c": ()}}, 0.0),
        ({"answers": ("yes",), "supporting": {"b": (), "c": ()}}, 0.75),
    ],
)
def test_hand_worked_scores(known, score):
    assert evidence_score(Question("q", "?", **known), READ) == score


def test_an_answer_must_stand_in_one_passage():
    assert evidence_score(Question("q", "?", answers=("tall yes",)), READ) == 0.0


def test_without_passages_there_is_no_evidence():
    for known in ({"answers": ("yes",)}, {"supporting": {"a": ()}}):
        assert evidence_score(Question("q", "?", **known), []) == 0.0


def test_a_question_of_which_nothing_is_known_is_refused():
    with pytest.raises(ValueError, match=r"answers or gold documents .* got neither for 'q'"):
        evidence_score(Question("q", "?"), READ)

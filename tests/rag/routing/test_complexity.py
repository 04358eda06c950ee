"""Complexity routing: questions of each kind by hand."""

import pytest

from rag.records import Query
from rag.routing import ComplexityRouter

QUESTIONS = {
    "none": [
        "Hello there!",
        "thanks a lot",
        "What is 12 * (3 + 4)?",
        "Translate 'good day' into French.",
        "Write a poem about rain",
        "Which holds?\nChoices:\nA) one\nB) two",
    ],
    "single": [
        "Who wrote Dracula?",
        "hello world in python",
        "What is a covid-19 test?",
        "How does yeast make dough rise?",
        "who is the head of the department of homeland security",
        "What is the population of Trinidad and Tobago?",
        "Which region were the Asante and Lunda Empires in?",
    ],
    "multi": [
        "Were Scott Derrickson and Ed Wood of the same nationality?",
        "Which is longer, the Rhine or the Elbe?",
        "Who is older, Ada or Grace?",
        "What position was held by the woman who portrayed Corliss Archer?",
        "Where was the director of film Passport To Rio born?",
        "Who is the maternal grandfather of Louis XIV?",
        "What do cats and dogs have in common?",
    ],
}


@pytest.mark.parametrize(
    ("label", "question"), [(label, q) for label, found in QUESTIONS.items() for q in found]
)
def test_the_wording_decides(label, question):
    route = ComplexityRouter()(Query(question))
    assert route.labels == (label,)
    assert route.probs == {"none": 0.0, "single": 0.0, "multi": 0.0} | {label: 1.0}
    assert not route.fallback


def test_a_long_question_is_routed_at_once():
    ComplexityRouter()(Query("the wife of the son, " * 500))
    ComplexityRouter()(Query("1" * 10_000))

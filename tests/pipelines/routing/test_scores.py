"""Scores by answers: closed-book for no retrieval, abstentions count as empty, a tiny model runs."""

import pytest

from pipelines.flow.pipeline import Pipeline
from pipelines.routing.scores import AnswerF1, evidence
from rag.evaluation.data import Question
from rag.generation.local_model import LocalModel
from rag.records import Answer, ModelIdentity, Passage, Query, Span

QUESTIONS = [
    Question("a", "Who was king?", ("Olaf the Holy",)),
    Question("b", "How tall?", ("330 m", "330 metres")),
]


def passage(text):
    return Passage("d:1", "d", text, Span(0, len(text)), (Span(0, len(text)),))


def read(query: Query, passages: list[Passage]) -> Answer:
    """Repeats the first passage, and abstains where it is about nothing."""
    text = passages[0].text
    return Answer(text, tuple(passages), abstained=text == "330 m nothing")


def recall(query: Query) -> Answer:
    """Knows the king, and like every answer without passages abstains."""
    return Answer("Olaf" if "king" in query.text else "", abstained=True)


@pytest.fixture
def score():
    given = {"query": "Query", "passages": "list[Passage]"}
    return AnswerF1(Pipeline("read", [read], inputs=given), Pipeline("recall", [recall]))


def test_answers_from_passages_by_hand(score):
    passages = [[passage("Olaf the Holy")], [passage("It is 330 metres")]]
    assert score(QUESTIONS, "table", passages) == [1.0, pytest.approx(2 / 3)]


def test_an_answer_that_abstains_is_empty(score):
    assert score(QUESTIONS, "table", [[passage("Olaf")], [passage("330 m nothing")]])[1] == 0.0


def test_no_retrieval_is_judged_by_what_is_said_though_nothing_supports_it(score):
    assert score(QUESTIONS, "none", [[], []]) == [pytest.approx(2 / 3), 0.0]


def test_evidence_judges_passages_whatever_the_route():
    passages = [[passage("Olaf")], [passage("It is 330 m tall.")]]
    assert evidence(QUESTIONS, "table", passages) == [0.0, 1.0]


def test_a_tiny_model_answers_with_and_without_passages(
    tiny_model, tiny_tokenizer, index, length_scorers
):
    from pipelines.open_index import OpenIndex
    from rag.models.language_model import LoadedModel

    identity = ModelIdentity("tiny", "w", "r", "float32", "t")
    model = tiny_model(max_position_embeddings=4096)
    lm = LocalModel(LoadedModel(model, tiny_tokenizer, identity))
    opened = OpenIndex(index)
    try:
        score = AnswerF1.of(lm=lm, index=opened)
        read = [[next(iter(opened.passages.values()))], []]
        for route, passages in (("table", read), ("none", [[], []])):
            found = score(QUESTIONS, route, passages)
            assert len(found) == 2
            assert all(0.0 <= one <= 1.0 for one in found)
    finally:
        opened.close()

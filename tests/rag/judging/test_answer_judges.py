"""Judges of answers: stable, supported, approved by a model."""

import pytest

from rag.judging import AnswerStable, LMJudge, Support
from rag.records import Answer, Judgement, Query

QUERY = Query("Where was\nhe born?")


def test_the_same_answer_in_other_clothes_is_stable():
    assert AnswerStable()(Answer("The Nile."), Answer("nile")).passed
    found = AnswerStable()(Answer("The Nile."), Answer("the Danube"))
    assert found == Judgement(False, 0.0, "another answer than before")


def test_a_first_answer_is_not_stable_and_two_empty_ones_are():
    assert not AnswerStable()(Answer("Nile")).passed
    assert AnswerStable()(Answer(""), Answer(" ")).score == 1.0


def test_support_is_the_share_of_sentences_with_a_citation(cited):
    text = "It is long. It is wide. It is old."
    answer = Answer(text, citations=(cited("p", 0, 11), cited("q", 0, 11), cited("p", 24, 34)))
    found = Support(threshold=0.6)(answer)
    assert (found.passed, found.score) == (True, pytest.approx(2 / 3))
    assert found.reason == "2 of 3 sentences have a citation"
    assert not Support()(answer).passed


def test_a_citation_does_not_reach_into_the_next_sentence(cited):
    assert Support()(Answer("A dog. A cat.", citations=(cited("p", 0, 7),))).score == 0.5


def test_an_answer_without_citations_or_text_is_unsupported(cited):
    assert Support(threshold=0.0)(Answer("It is.")).score == 0.0
    assert Support(threshold=0.0)(Answer("")) == Judgement(False, 0.0, "the answer is empty")


def test_the_judge_compares_yes_and_no(scripted):
    found = LMJudge(scripted(yes_no=(-1.0, -2.0)))(QUERY, Answer("in Ulm"))
    assert found.passed
    assert found.score == pytest.approx(1 / (1 + 2.718281828**-1))
    assert not LMJudge(scripted(yes_no=(-2.0, -1.0)))(QUERY, Answer("in Ulm")).passed


@pytest.mark.parametrize(("yes_no", "score"), [((-1e6, 0.0), 0.0), ((0.0, -1e6), 1.0)])
def test_extreme_verdicts_do_not_overflow(scripted, yes_no, score):
    assert LMJudge(scripted(yes_no=yes_no))(QUERY, Answer("x")).score == pytest.approx(score)


def test_the_judge_reads_question_answer_and_evidence(scripted, passage):
    lm = scripted(yes_no=(0.0, 0.0))
    answer = Answer("in\nUlm", passages=(passage("a", "He was  born."), passage("b", "x" * 2000)))
    LMJudge(lm)(QUERY, answer)
    end = lm.prompts[0].split("\n\n")[-1]
    assert end.startswith("Text: He was born. xxx")
    assert end.endswith("x\nQuestion: Where was he born?\nAnswer: in Ulm\nSupported:")
    assert len(end) < 1600


@pytest.mark.parametrize(
    ("said", "score", "reason"),
    [
        (" Yes, it is", 1.0, "the model wrote yes"),
        ("no", 0.0, "the model wrote no"),
        ("maybe", 0.0, "neither yes nor no: 'maybe'"),
        ("", 0.0, "neither yes nor no: ''"),
    ],
)
def test_a_model_without_probabilities_writes_its_verdict(scripted, said, score, reason):
    found = LMJudge(scripted(said))(QUERY, Answer("in Ulm"))
    assert found == Judgement(score == 1.0, score, reason)


def test_no_answer_fails_without_asking(scripted):
    lm = scripted("yes")
    answers = [Answer(""), Answer("x", abstained=True), Answer("in Ulm"), Answer("in Bern")]
    found = LMJudge(lm).batch(query=[QUERY] * 4, answer=answers)
    assert [one.passed for one in found] == [False, False, True, True]
    assert [len(call) for call in lm.calls] == [2]
    assert found[0] == Judgement(False, 0.0, "there is no answer")


def test_the_prompt_and_the_threshold_can_be_replaced(scripted):
    lm = scripted(yes_no=(0.0, 0.0))
    judge = LMJudge(lm, threshold=0.51, instructions="{question} {answer}?")
    assert not judge(QUERY, Answer("Ulm")).passed
    assert lm.prompts == ["Where was he born? Ulm?"]


def test_rejects_options_by_name(scripted):
    with pytest.raises(ValueError, match=r"instructions must contain \{answer\}"):
        LMJudge(scripted(), instructions="{question}")
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\], got 2"):
        LMJudge(scripted(), threshold=2)
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\], got -1"):
        Support(threshold=-1)

"""Judged sentences: gold, sizes and answers of what a pruner was given."""

import pytest

from rag.evaluation import EvaluationDataError
from rag.evaluation.judged_sentences import (
    judged_sentences,
    scores_of_pruned,
    scores_of_scorer,
)
from rag.evaluation.pruning import pruning_metrics
from rag.evaluation.pruning_curve import Cut, PruningCurve
from rag.records import Passage, PassageScores, Selection, SentenceScore, Span, text_sha


def passage(name, *sentences, kept=None):
    text, spans = "", []
    for sentence in sentences:
        spans.append(Span(len(text), len(text) + len(sentence)))
        text += sentence
    return Passage(name, name, text, Span(0, len(text)), tuple(spans))


def pruned(one, scores, threshold, unit="sentence", spans=None):
    verdicts = tuple(
        SentenceScore(span, score, score > threshold)
        for span, score in zip(spans or one.sentences, scores, strict=True)
    )
    kept = Selection(one.id, text_sha(one.text), verdicts, "test", threshold, unit=unit)
    return Passage(one.id, one.document, one.text, one.span, one.sentences, kept=kept)


SKY = passage("sky", "The sky is blue. ", "It is high.")
SEA = passage("sea", "The sea, too, is blue. ", "So they say. ", "It is deep.")


def test_sentences_of_all_passages_stand_in_turn():
    found = judged_sentences([SKY, SEA], [[0.2, 0.9], [0.5, 0.4, 0.3]], {"sea": [0, 2]}, ["deep"])
    assert found.scores == (0.2, 0.9, 0.5, 0.4, 0.3)
    assert found.gold == (False, False, True, False, True)
    assert found.tokens == (5, 4, 8, 4, 4)
    assert found.characters == (17, 11, 23, 13, 11)
    assert found.answer_score == 0.3


@pytest.mark.parametrize(
    ("answers", "score"),
    [
        (["blue"], 0.5),  # in both passages: the better one counts
        (["high", "deep"], 0.9),
        (["say it is deep"], 0.3),  # needs two sentences
        (["green"], None),
        ([], None),
    ],
)
def test_an_answer_is_kept_below_the_score_that_shows_it(answers, score):
    found = judged_sentences([SKY, SEA], [[0.2, 0.9], [0.5, 0.4, 0.3]], {}, answers)
    assert found.answer_score == score


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.3, 0.35, 0.4, 0.5, 0.9, 1.0])
def test_one_question_agrees_with_the_metrics_of_pruned_passages(threshold):
    scores = [[0.2, 0.9], [0.5, 0.4, 0.3]]
    passages = [pruned(p, s, threshold) for p, s in zip((SKY, SEA), scores, strict=True)]
    supporting, answers = {"sea": [0, 1]}, ["deep", "high"]
    wanted = pruning_metrics(passages, supporting, answers)
    judged = judged_sentences(passages, scores_of_pruned(passages), supporting, answers)
    tally = PruningCurve([judged]).tally()
    for name, value in wanted.items():
        assert tally.at(Cut("threshold", threshold), name)[0] == pytest.approx(value)


def test_words_give_their_sentence_their_mean():
    words = (Span(0, 8), Span(8, 17), Span(17, 28))
    assert scores_of_pruned([pruned(SKY, [0.2, 0.4, 0.9], 0.5, "word", words)]) == [
        (pytest.approx(0.3), 0.9)
    ]
    assert scores_of_scorer(SKY, PassageScores((0.2, 0.4, 0.9), spans=words)) == (
        pytest.approx(0.3),
        0.9,
    )
    assert scores_of_scorer(SKY, PassageScores((0.2, 0.4))) == (0.2, 0.4)


def test_a_sentence_without_words_and_a_passage_without_verdict_stay():
    assert scores_of_scorer(SKY, PassageScores((0.2,), spans=(Span(0, 28),))) == (0.2, 1.0)
    assert scores_of_pruned([SKY]) == [(1.0, 1.0)]


def test_refuses_scores_and_gold_that_do_not_fit():
    with pytest.raises(ValueError, match="scores of 'sky' must be 2, got 1"):
        judged_sentences([SKY], [[0.5]], {})
    with pytest.raises(EvaluationDataError, match="gold rows of 'sky' must be below 2, got 2"):
        judged_sentences([SKY], [[0.5, 0.5]], {"sky": [2]})

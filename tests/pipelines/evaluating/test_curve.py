"""Curves of pipelines: scores that are kept while questions are asked, and what they tell."""

import pytest

from pipelines.evaluating.curve import (
    CurveAsker,
    CurveError,
    curve_line,
    curve_metrics,
    curve_points,
)
from rag.evaluation import Outcome, Question
from rag.evaluation.judged_sentences import JudgedSentences
from rag.evaluation.pruning_curve import PruningCurve
from rag.records import Passage, Selection, SentenceScore, Span, text_sha

TEXT = "Red is warm. Blue is cold."
SPANS = (Span(0, 13), Span(13, 26))
ASKED = [
    Question("a", "What is cold?", ("blue",), {"d": (1,)}),
    Question("b", "What is warm?", ("green",), {"d": (0,)}),
    Question("c", "What broke?"),
]


def pipeline(questions):
    """The second sentence has 0.75 always; a failed question has no passage."""
    scores = (0.5, 0.75)
    verdicts = tuple(
        SentenceScore(span, score, kept=False, forced="budget")
        for span, score in zip(SPANS, scores, strict=True)
    )
    kept = Selection("d", text_sha(TEXT), verdicts, "test", 0.6)
    found = Passage("d", "d", TEXT, Span(0, 26), SPANS, kept=kept)
    return [
        Outcome(error="broken") if question.id == "c" else Outcome(passages=[found])
        for question in questions
    ]


def test_scores_count_and_not_what_rules_made_of_them():
    ask = CurveAsker(pipeline)
    assert [outcome.error for outcome in ask(ASKED)] == [None, None, "broken"]
    curve = ask.curve(ASKED)
    assert (curve.questions, curve.sentences) == (3, 4)
    points = {point.threshold: point for point in curve_points(curve, (0.6, 0.8))}
    assert list(points) == [0.0, 0.6, 0.8]  # 0.0 is what keeps 95 % of the gold sentences
    assert points[0.6].sentence_recall == 0.5
    assert points[0.6].answer_kept == 1.0
    assert points[0.6].kept == 0.5
    assert points[0.8].answer_kept == points[0.8].kept == 0.0
    assert points[0.0].sentence_recall == points[0.0].kept == 1.0


def test_a_later_run_reads_what_an_earlier_one_kept(tmp_path):
    log = tmp_path / "rows.sentences"
    first = CurveAsker(pipeline, config="one", log=log)
    first(ASKED)
    again = CurveAsker(pipeline, config="one", log=log)
    assert again.missing(ASKED) == []
    assert curve_points(again.curve(ASKED)) == curve_points(first.curve(ASKED))
    assert curve_metrics(again.curve(ASKED)) == curve_metrics(first.curve(ASKED))
    other = CurveAsker(pipeline, config="two", log=log)
    assert other.missing(ASKED) == ["a", "b", "c"]


def test_a_question_without_an_answer_in_its_passages_is_told_apart(tmp_path):
    log = tmp_path / "log"
    CurveAsker(pipeline, log=log)(ASKED[1:2])
    point = curve_points(CurveAsker(pipeline, log=log).curve(ASKED[1:2]), (0.6,))[0]
    assert point.answer_kept is None


def test_refuses_what_was_not_pruned_or_has_no_gold():
    ask = CurveAsker(pipeline)
    ask(ASKED)
    with pytest.raises(CurveError, match="needs a pipeline that prunes"):
        ask.curve(ASKED[2:])
    bare = [Question("a", "What is cold?")]
    ask = CurveAsker(pipeline)
    ask(bare)
    with pytest.raises(CurveError, match="needs data that names gold sentences"):
        ask.curve(bare)


def test_the_line_runs_from_nothing_to_everything_and_never_falls():
    scores = tuple(n / 500 for n in range(1, 501))
    gold = tuple(n % 7 == 0 for n in range(500))
    one = JudgedSentences(scores, gold, (1,) * 500, (5,) * 500)
    line = curve_line(PruningCurve([one]), steps=20)
    assert line[0] == (0.0, 0.0)
    assert line[-1] == (1.0, 1.0)
    assert len(line) == 21
    assert line == sorted(line)
    assert [recall for _, recall in line] == sorted(recall for _, recall in line)

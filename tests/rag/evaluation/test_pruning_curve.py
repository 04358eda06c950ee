"""Curves of pruners: a hand-worked case, literal thresholds, scikit-learn, resamples one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.evaluation.curve_intervals import interval_of, intervals, kept_at_recall, resampled
from rag.evaluation.judged_sentences import JudgedSentences
from rag.evaluation.pruning_curve import (
    Cut,
    PruningCurve,
    Tally,
    auc,
    average_precision,
    compression_at_recall,
)


def random_questions(count, seed, levels=6, most=7):
    """Questions with few different scores, so that ties are many; one without sentences."""
    rng = np.random.default_rng(seed)
    found = [JudgedSentences((), (), (), ())]
    for _ in range(count - 1):
        n = int(rng.integers(1, most))
        scores = tuple((rng.integers(1, levels + 1, n) / levels).tolist())
        gold = tuple((rng.random(n) < 0.4).tolist())
        tokens = tuple(rng.integers(0, 9, n).tolist())
        characters = tuple(rng.integers(1, 50, n).tolist())
        answer = None if rng.random() < 0.3 else scores[0]
        found.append(JudgedSentences(scores, gold, tokens, characters, answer))
    found.append(JudgedSentences((0.5, 1 / levels), (True, False), (3, 4), (10, 20), 0.5))
    return found


def repeated(questions, weights):
    return [one for one, times in zip(questions, weights, strict=True) for _ in range(times)]


def by_threshold(questions, threshold):
    """Apply a strict threshold literally and count."""
    total = {"gold": 0, "kept": 0, "both": 0, "tokens": 0, "kept tokens": 0, "chars": 0, "left": 0}
    answers, complete = [], []
    for one in questions:
        lost = 0
        for score, gold, tokens, chars in zip(
            one.scores, one.gold, one.tokens, one.characters, strict=True
        ):
            stays = score > threshold
            total["gold"] += gold
            total["kept"] += stays
            total["both"] += gold and stays
            lost += gold and not stays
            total["tokens"] += tokens
            total["kept tokens"] += tokens * stays
            total["chars"] += chars
            total["left"] += chars * stays
        if any(one.gold):
            complete.append(not lost)
        if one.answer_score is not None:
            answers.append(one.answer_score > threshold)
    return {
        "SentR": total["both"] / total["gold"],
        "SentP": total["both"] / total["kept"] if total["kept"] else 1.0,
        "Kept": total["kept tokens"] / total["tokens"] if total["tokens"] else 1.0,
        "Compression": 1 - total["left"] / total["chars"],
        "AnswerKept": sum(answers) / len(answers) if answers else float("nan"),
        "AllGold": sum(complete) / len(complete),
    }


def thresholds_of(questions):
    """Return thresholds for every outcome there is, the highest first."""
    scores = sorted({score for one in questions for score in one.scores}, reverse=True)
    return [*scores, 0.0]


def literal_at_recall(questions, recall):
    for threshold in thresholds_of(questions):
        found = by_threshold(questions, threshold)
        if found["SentR"] >= recall - 1e-9:
            return threshold, found
    raise AssertionError


def test_a_case_worked_by_hand():
    scores = [0.9, 0.8, 0.8, 0.6, 0.3, 0.1]
    gold = [True, False, True, False, True, False]
    # Pairs won: 0.9 all three; 0.8 two and a half less one; 0.3 one: (3 + 2.5 + 1) / 9.
    assert auc(scores, gold) == pytest.approx(6.5 / 9)
    # Steps: one of one, then two of three (a tie), then three of five.
    assert average_precision(scores, gold) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    lengths = [10, 20, 30, 40, 50, 60]
    assert compression_at_recall(scores, gold, lengths, 1.0) == pytest.approx(60 / 210)
    assert compression_at_recall(scores, gold, lengths, 2 / 3) == pytest.approx(150 / 210)
    assert compression_at_recall(scores, gold, lengths, 0.5) == pytest.approx(150 / 210)
    assert compression_at_recall(scores, gold, lengths, 0.3) == pytest.approx(200 / 210)
    assert compression_at_recall(scores, gold, lengths, 0.0) == 1.0


def test_equal_scores_stay_or_go_together():
    assert compression_at_recall([0.5] * 4, [True, False, False, False], [1] * 4) == 0.0
    assert auc([0.5] * 4, [True, False, False, False]) == 0.5
    assert average_precision([0.5] * 4, [True, False, False, False]) == 0.25


def test_the_threshold_keeps_what_is_told_by_a_strict_comparison():
    curve = PruningCurve(
        [JudgedSentences((0.9, 0.5, 0.4), (True, True, False), (1, 1, 2), (1,) * 3)]
    )
    assert [curve.threshold(recall) for recall in (0.0, 0.5, 1.0)] == [0.9, 0.5, 0.4]
    assert (
        PruningCurve([JudgedSentences((0.9, 0.4), (False, True), (1, 1), (1, 1))]).threshold(1) == 0
    )
    below = PruningCurve([JudgedSentences((0.0,), (True,), (1,), (1,))]).threshold(0.95)
    assert -1e-300 < below < 0.0


@given(count=st.integers(1, 12), seed=st.integers(0, 500), recall=st.floats(0, 1))
def test_a_recall_is_what_trying_every_threshold_says(count, seed, recall):
    questions = random_questions(count, seed)
    curve = PruningCurve(questions)
    threshold, wanted = literal_at_recall(questions, recall)
    assert curve.threshold(recall) == threshold
    tally = curve.tally()
    for measure, value in wanted.items():
        for cut in (Cut("recall", recall), Cut("threshold", threshold)):
            assert tally.at(cut, measure)[0] == pytest.approx(value, nan_ok=True)


@given(count=st.integers(1, 12), seed=st.integers(0, 500), threshold=st.floats(-0.1, 1.1))
def test_any_threshold_is_strict(count, seed, threshold):
    questions = random_questions(count, seed)
    tally = PruningCurve(questions).tally()
    for level in (threshold, 0.5, 1 / 3, 0.0, 1.0):
        for measure, value in by_threshold(questions, level).items():
            found = tally.at(Cut("threshold", level), measure)[0]
            assert found == pytest.approx(value, nan_ok=True)


@given(count=st.integers(1, 12), seed=st.integers(0, 500), share=st.floats(0, 1))
def test_a_compression_lies_between_the_two_nearest_thresholds(count, seed, share):
    questions = random_questions(count, seed)
    tally = PruningCurve(questions).tally()
    cut = Cut("compression", share)
    assert tally.at(cut, "Compression")[0] == pytest.approx(share, abs=1e-6)
    points = [by_threshold(questions, level) for level in (*thresholds_of(questions),)]
    before = max((p for p in points if p["Compression"] >= share), key=lambda p: p["SentR"])
    after = min((p for p in points if p["Compression"] <= share + 1e-9), key=lambda p: p["SentR"])
    for measure in ("SentR", "AllGold"):
        low, high = sorted((before[measure], after[measure]))
        assert low - 1e-6 <= tally.at(cut, measure)[0] <= high + 1e-6


def test_a_compression_is_interpolated_linearly():
    one = JudgedSentences((0.9, 0.5), (False, True), (1, 1), (40, 60), 0.5)
    tally = PruningCurve([one]).tally()
    # 0.9 alone keeps 40 of 100 characters, both keep all: 70 stand half way.
    for measure in ("SentR", "AllGold", "AnswerKept"):
        assert tally.at(Cut("compression", 0.3), measure)[0] == pytest.approx(0.5)


def test_measures_never_fall_as_the_threshold_does():
    tally = PruningCurve(random_questions(20, 3)).tally()
    for measure in ("SentR", "Kept", "AnswerKept", "AllGold"):
        values = [tally.at(Cut("threshold", t), measure)[0] for t in np.linspace(1, 0, 21)]
        assert values == sorted(values)
        assert values[0] == 0.0
        assert values[-1] == 1.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [3, 10_000])
def test_areas_agree_with_scikit_learn(seed, levels):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    scores = (rng.integers(levels, size=200) / levels).tolist()
    gold = (rng.random(200) < 0.2).tolist()
    assert auc(scores, gold) == pytest.approx(metrics.roc_auc_score(gold, scores))
    assert average_precision(scores, gold) == pytest.approx(
        metrics.average_precision_score(gold, scores)
    )


def test_weights_count_a_question_as_often_as_they_say():
    questions = random_questions(8, 11)
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 4, (20, len(questions)))
    weights[:, -1] = 1  # it has gold and other sentences, so that everything is defined
    tally = PruningCurve(questions).tally(weights)
    for row, times in enumerate(weights.tolist()):
        alone = PruningCurve(repeated(questions, times)).tally()
        assert tally.auc()[row] == pytest.approx(alone.auc()[0])
        assert tally.average_precision()[row] == pytest.approx(alone.average_precision()[0])
        for cut in (Cut("recall", 0.9), Cut("threshold", 0.4), Cut("compression", 0.6)):
            for measure in ("SentR", "SentP", "Kept", "Compression", "AnswerKept", "AllGold"):
                found = tally.at(cut, measure)[row]
                assert found == pytest.approx(alone.at(cut, measure)[0], nan_ok=True)


def test_the_bootstrap_equals_a_literal_loop(monkeypatch):
    questions = random_questions(9, 2)
    curve = PruningCurve(questions)
    statistics = {"AUC": Tally.auc, "Kept@SentR95": kept_at_recall}
    whole = resampled(curve, statistics, seed=7, resamples=40)
    rng = np.random.default_rng(7)
    for row in range(40):
        drawn = rng.integers(len(questions), size=len(questions))
        try:
            alone = PruningCurve([questions[at] for at in drawn])
        except ValueError:
            assert np.isnan(whole["Kept@SentR95"][row]) or whole["Kept@SentR95"][row] >= 0
            continue
        assert whole["AUC"][row] == pytest.approx(alone.tally().auc()[0], nan_ok=True)
        wanted = literal_at_recall([questions[at] for at in drawn], 0.95)[1]["Kept"]
        assert whole["Kept@SentR95"][row] == pytest.approx(wanted)
    monkeypatch.setattr("rag.evaluation.curve_intervals._CELLS", 100)
    again = resampled(curve, statistics, seed=7, resamples=40)
    for name, values in whole.items():
        assert np.array_equal(values, again[name], equal_nan=True)


def test_curves_of_the_same_questions_are_paired():
    questions = random_questions(10, 4)
    one, two = PruningCurve(questions), PruningCurve(questions)
    a, b = (
        resampled(curve, {"AUC": Tally.auc}, seed=3, resamples=50)["AUC"] for curve in (one, two)
    )
    found = interval_of(0.0, a - b, 10)
    assert (found.low, found.high) == (0.0, 0.0)
    other = resampled(one, {"AUC": Tally.auc}, seed=4, resamples=50)["AUC"]
    assert not np.array_equal(a, other, equal_nan=True)


def test_intervals_hold_the_statistic_and_leave_out_what_is_undefined():
    found = intervals(PruningCurve(random_questions(60, 5)), {"AUC": Tally.auc}, resamples=200)
    assert found["AUC"].low < found["AUC"].mean < found["AUC"].high
    assert found["AUC"].n == 61
    all_gold = PruningCurve([JudgedSentences((0.5,), (True,), (1,), (1,))])
    assert intervals(all_gold, {"AUC": Tally.auc, "AP": Tally.average_precision}).keys() == {"AP"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PruningCurve([]), "questions must be at least one, got none"),
        (lambda: auc([0.1], [True]), "gold must hold at least one false, got 1 true"),
        (lambda: average_precision([0.1], [False]), "gold must hold at least one true, got none"),
        (lambda: average_precision([float("nan")], [True]), "scores must be finite"),
        (lambda: average_precision([0.1, 0.2], [True]), "must be as many, got 2, 1, 2, 2"),
        (lambda: Cut("recall", 1.5), r"value must be in \[0, 1\] for a recall, got 1.5"),
        (
            lambda: Cut("share", 0.5),
            "by must be 'threshold', 'recall' or 'compression', got 'share'",
        ),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_refuses_weights_and_measures_that_do_not_fit():
    curve = PruningCurve(random_questions(3, 0))
    with pytest.raises(ValueError, match=r"weights must be \(resamples, 4\), got \(2, 3\)"):
        curve.tally(np.ones((2, 3)))
    with pytest.raises(ValueError, match="measure must be one of SentR, SentP, Kept"):
        curve.tally().at(Cut("recall", 0.5), "F1")
    with pytest.raises(ValueError, match="resamples must be at least 1, got 0"):
        resampled(curve, {}, resamples=0)

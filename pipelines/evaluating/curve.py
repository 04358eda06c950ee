"""Curves of a pruning pipeline: the scores of its sentences, kept as questions are asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.evaluating.score_log import ScoreLog
from rag.errors import DovetailError
from rag.evaluation.judged_sentences import JudgedSentences, judged_sentences, scores_of_pruned

if TYPE_CHECKING:
    from rag.evaluation.data import Question
    from rag.evaluation.outcomes import Outcome
    from rag.evaluation.pruning_curve import PruningCurve
    from rag.evaluation.statistics import Interval

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
RECALL = 0.95
SUFFIX = ".sentences"
"""What the file of scores is called beside the file of rows."""


class CurveError(DovetailError):
    """A run that gives no curve; the message says why."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What a threshold keeps.

    Attributes:
        threshold: a sentence stays if its score is strictly above.
        sentence_recall: gold sentences kept, over those given.
        sentence_precision: kept sentences that are gold.
        kept: tokens kept, over those given.
        all_gold: share of the questions with gold sentences that keep all of them.
        answer_kept: share of the questions that keep an answer, of those given one; or None.
    """

    threshold: float
    sentence_recall: float
    sentence_precision: float
    kept: float
    all_gold: float
    answer_kept: float | None


class CurveAsker:
    """Asks through another asker and keeps the scores that its pruner gave.

    Only scores count: what titles, `min_keep`, budgets and other rules overruled does not. Failed
    questions, and those of which nothing was pruned, give no sentences.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[Question]], list[Outcome]],
        *,
        config: str = "",
        log: Path | None = None,
    ) -> None:
        """Wrap an asker.

        Args:
            ask: gives an outcome a question.
            config: hash of all that scores depend on; those of another one are not read.
            log: file that keeps the scores for a run that goes on later.
        """
        self._ask = ask
        self._config = config
        self._log = None if log is None else ScoreLog(log)
        self._known: dict[str, JudgedSentences] = {}

    def __call__(self, questions: Sequence[Question]) -> list[Outcome]:
        """Return what the other asker gives."""
        outcomes = self._ask(questions)
        for question, outcome in zip(questions, outcomes, strict=True):
            judged = _judged(question, outcome)
            self._known[question.id] = judged
            if self._log is not None:
                self._log.put(self._key(question), _flat(judged))
        return outcomes

    def missing(self, questions: Sequence[Question]) -> list[str]:
        """Return the ids of questions that were asked before without keeping their scores."""
        return [question.id for question in questions if self._of(question) is None]

    def curve(self, questions: Sequence[Question]) -> PruningCurve:
        """Return the curve of questions that were asked, now or before.

        Raises:
            CurveError: if no sentence was scored, or none of the scored ones is gold.
        """
        from rag.evaluation.pruning_curve import PruningCurve

        judged = [one for question in questions if (one := self._of(question)) is not None]
        if not any(one.scores for one in judged):
            raise CurveError("--curve needs a pipeline that prunes, got no score of any sentence")
        if not any(any(one.gold) for one in judged):
            raise CurveError(
                "--curve needs data that names gold sentences, and none of the passages has one"
            )
        return PruningCurve(judged)

    def _of(self, question: Question) -> JudgedSentences | None:
        if question.id not in self._known and self._log is not None:
            values = self._log.get(self._key(question))
            if values is not None:
                self._known[question.id] = _unflat(values)
        return self._known.get(question.id)

    def _key(self, question: Question) -> str:
        return f"{self._config} {question.id}"


def curve_metrics(curve: PruningCurve, *, seed: int = 0) -> dict[str, Interval]:
    """Return `AUC` and `Kept@SentR95` with their 95 % intervals over questions."""
    from rag.evaluation.curve_intervals import intervals, kept_at_recall
    from rag.evaluation.pruning_curve import Tally

    return intervals(curve, {"AUC": Tally.auc, "Kept@SentR95": kept_at_recall}, seed=seed)


def curve_points(curve: PruningCurve, thresholds: Sequence[float] = THRESHOLDS) -> list[CurvePoint]:
    """Return what thresholds keep, ascending, with the one that keeps 95 % of gold sentences."""
    chosen = {*thresholds, curve.threshold(RECALL)}
    return [curve_point(curve, threshold) for threshold in sorted(chosen)]


def curve_point(curve: PruningCurve, threshold: float) -> CurvePoint:
    """Return what a threshold keeps."""
    from math import isnan

    from rag.evaluation.pruning_curve import MEASURES, Cut

    tally = curve.tally()
    found = {name: float(tally.at(Cut("threshold", threshold), name)[0]) for name in MEASURES}
    return CurvePoint(
        threshold=threshold,
        sentence_recall=found["SentR"],
        sentence_precision=found["SentP"],
        kept=found["Kept"],
        all_gold=found["AllGold"],
        answer_kept=None if isnan(found["AnswerKept"]) else found["AnswerKept"],
    )


def curve_line(curve: PruningCurve, steps: int = 200) -> list[tuple[float, float]]:
    """Return recall of gold sentences against tokens kept, (kept, recall), from nothing to all."""
    tally = curve.tally()
    total = tally.tokens[0, -1] or 1.0
    kept, recall = tally.tokens[0] / total, tally.gold[0] / tally.gold[0, -1]
    levels = sorted({round(step * (len(kept) - 1) / steps) for step in range(steps + 1)})
    return [(float(kept[level]), float(recall[level])) for level in levels]


def _judged(question: Question, outcome: Outcome) -> JudgedSentences:
    if all(passage.kept is None for passage in outcome.passages):
        return JudgedSentences((), (), (), ())
    return judged_sentences(
        outcome.passages,
        scores_of_pruned(outcome.passages),
        question.supporting,
        question.answers,
    )


def _flat(one: JudgedSentences) -> list[float]:
    """Return the sentences as numbers: the answer's score or -1, then all columns."""
    answer = -1.0 if one.answer_score is None else one.answer_score
    return [answer, *map(float, chain(one.scores, one.gold, one.tokens, one.characters))]


def _unflat(values: Sequence[float]) -> JudgedSentences:
    n = (len(values) - 1) // 4
    scores, gold, tokens, characters = (values[1 + n * at : 1 + n * (at + 1)] for at in range(4))
    return JudgedSentences(
        tuple(scores),
        tuple(map(bool, gold)),
        tuple(map(int, tokens)),
        tuple(map(int, characters)),
        None if values[0] < 0 else values[0],
    )

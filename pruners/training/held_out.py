"""Figures of a scorer on labelled passages that it was not trained on, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pruners.training.labelled import LabelledPassage
from pruners.training.question_sets import given_sets
from rag.evaluation.curve_intervals import Statistic, interval_of, intervals, resampled
from rag.evaluation.judged_sentences import JudgedSentences, judged_sentences
from rag.evaluation.pruning_curve import Cut, PruningCurve
from rag.evaluation.statistics import Interval
from rag.protocols import SentenceScorer
from rag.records import Query
from rag.training.watching import Unwatched, Watcher

HEADLINE = "comp@R95"
STATISTICS: Mapping[str, Statistic] = MappingProxyType(
    {
        HEADLINE: lambda tally: tally.at(Cut("recall", 0.95), "Compression"),
        "comp@R90": lambda tally: tally.at(Cut("recall", 0.90), "Compression"),
        "AUC": lambda tally: tally.auc(),
        "AP": lambda tally: tally.average_precision(),
    }
)
_RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What a scorer does on held-out questions, and what a baseline does.

    Attributes:
        questions: how many.
        sentences: of all their passages.
        figures: by name, with 95 % bootstrap intervals over questions.
        baseline: the same of the baseline; empty without one.
        difference: figure minus the baseline's, paired; empty without one.
        thresholds: the threshold that keeps that share of the gold sentences, by the share.
    """

    questions: int
    sentences: int
    figures: Mapping[str, Interval]
    baseline: Mapping[str, Interval]
    difference: Mapping[str, Interval]
    thresholds: Mapping[float, float]


def judged_examples(
    examples: Sequence[LabelledPassage],
    scorer: SentenceScorer,
    *,
    watcher: Watcher | None = None,
    stage: str = "held out",
) -> list[JudgedSentences]:
    """Return the scores of every sentence, question by question.

    The passages that the data gives a question are scored together.

    Args:
        examples: labelled passages.
        scorer: what is judged.
        watcher: told of every question.
        stage: what the watcher hears it is.
    """
    watcher = watcher or Unwatched()
    sets = given_sets(examples)
    watcher.stage(stage, len(sets))
    judged = []
    for one in sets:
        passages = [examples[row].passage() for row in one.rows]
        scores = scorer(Query(one.question), passages)
        gold = {
            passage.document: tuple(sorted(rows))
            for passage, rows in zip(passages, one.gold, strict=True)
        }
        judged.append(judged_sentences(passages, [found.sentences for found in scores], gold))
        watcher.advance()
    return judged


def held_out_figures(
    judged: Sequence[JudgedSentences],
    baseline: Sequence[JudgedSentences] | None = None,
    *,
    seed: int = 0,
    resamples: int = _RESAMPLES,
) -> HeldOut:
    """Return the figures of scores, and what they gain over a baseline's.

    Args:
        judged: scores of the questions.
        baseline: another scorer's scores of the same questions, or None.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        ValueError: if there is no question or no gold sentence, or the two are not as many.
    """
    if baseline is not None and len(baseline) != len(judged):
        raise ValueError(f"baseline must be {len(judged)} questions, got {len(baseline)}")
    curve = PruningCurve(judged)
    figures = intervals(curve, STATISTICS, seed=seed, resamples=resamples)
    of_baseline: dict[str, Interval] = {}
    difference: dict[str, Interval] = {}
    if baseline is not None:
        other = PruningCurve(baseline)
        of_baseline = intervals(other, STATISTICS, seed=seed, resamples=resamples)
        drawn = resampled(curve, STATISTICS, seed=seed, resamples=resamples)
        against = resampled(other, STATISTICS, seed=seed, resamples=resamples)
        for name in figures.keys() & of_baseline.keys():
            gain = figures[name].mean - of_baseline[name].mean
            difference[name] = interval_of(gain, drawn[name] - against[name], curve.questions)
    return HeldOut(
        questions=curve.questions,
        sentences=curve.sentences,
        figures=figures,
        baseline=of_baseline,
        difference=difference,
        thresholds={recall: curve.threshold(recall) for recall in (0.90, 0.95, 0.98)},
    )

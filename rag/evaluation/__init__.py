"""Evaluation: data, metrics and statistics."""

from rag.evaluation.comparison import Difference, compare_rows
from rag.evaluation.data import EvaluationDataError, Question, read_corpus, read_questions, sample
from rag.evaluation.outcomes import METRICS, Outcome, outcome_metrics
from rag.evaluation.rows import Row, RowLog, RowsError, read_rows, summarise
from rag.evaluation.statistics import Interval, bootstrap_interval, holm, randomisation_p

__all__ = [
    "METRICS",
    "Difference",
    "EvaluationDataError",
    "Interval",
    "Outcome",
    "Question",
    "Row",
    "RowLog",
    "RowsError",
    "bootstrap_interval",
    "compare_rows",
    "holm",
    "outcome_metrics",
    "randomisation_p",
    "read_corpus",
    "read_questions",
    "read_rows",
    "sample",
    "summarise",
]

"""Questions labelled by outcomes: every route is run alone, and the cheapest of the best wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from pipelines.progress import Progress, Unwatched
from pruners.budgets import estimated_tokens
from rag.records import Passage, Query
from rag.routing.decision import NONE
from rag.routing.labelled_queries import LabelledQuery
from rag.routing.outcomes import ORDER, Outcome, best_routes, label_of

if TYPE_CHECKING:
    from pipelines.routing.journal import OutcomeJournal
    from rag.evaluation.data import Question

Retrieve: TypeAlias = Callable[[Sequence[Query], str], list[list[Passage]]]
"""Questions and the label of a corpus to what is read for each; it is never asked for `none`."""
BATCH = 32


class Score(Protocol):
    """Judges what a route gives."""

    def __call__(
        self, questions: Sequence[Question], route: str, passages: Sequence[Sequence[Passage]], /
    ) -> list[float]:
        """Return a score in [0, 1] for each question, given what is read for it."""


@dataclass(frozen=True, slots=True)
class LabelledByOutcomes:
    """Questions with the routes that answer them.

    Attributes:
        queries: that some route answers, labelled, in the order of the questions.
        failed: ids of those that every route fails.
        outcomes: of every question, by id.
    """

    queries: tuple[LabelledQuery, ...]
    failed: tuple[str, ...]
    outcomes: Mapping[str, tuple[Outcome, ...]]


def label_by_outcomes(
    questions: Sequence[Question],
    retrieve: Retrieve,
    score: Score,
    *,
    routes: Sequence[str],
    order: Sequence[str] = ORDER,
    tolerance: float = 0.0,
    several: bool = False,
    sources: Mapping[str, str] | None = None,
    count: Callable[[str], int] = estimated_tokens,
    journal: OutcomeJournal | None = None,
    progress: Progress | None = None,
) -> LabelledByOutcomes:
    """Return the questions with their best routes, measured by running every route alone.

    A route costs the tokens of the passages that it gives, titles included; `none` costs nothing.

    Args:
        questions: unique by id; what a score needs is known of each.
        retrieve: gives the passages of a corpus.
        score: judges them.
        routes: labels to try, each once, at least one.
        order: which of two routes wins that are as good and cost the same.
        tolerance: how much less than the best score still ties, in [0, 1].
        several: whether a question gets all routes that tie, cheapest first, or the cheapest alone.
        sources: data sets of questions, by id.
        count: tokens of a text.
        journal: keeps what is measured, so that an interrupted run can go on.
        progress: sees a step for each question and route.

    Raises:
        ValueError: for no route or one that comes twice, a tolerance or a score out of range, or a
            wrong number of results.
    """
    found = _measured(questions, retrieve, score, routes, count, journal, progress or Unwatched())
    queries, failed = [], []
    for question in questions:
        outcomes = found[question.id]
        labels = _labels(outcomes, order, tolerance, several=several)
        if not labels:
            failed.append(question.id)
            continue
        queries.append(
            LabelledQuery(
                question.id,
                question.text,
                labels,
                (sources or {}).get(question.id, ""),
                {one.route: one.score for one in outcomes},
                {one.route: one.cost for one in outcomes},
            )
        )
    return LabelledByOutcomes(tuple(queries), tuple(failed), found)


def _measured(
    questions: Sequence[Question],
    retrieve: Retrieve,
    score: Score,
    routes: Sequence[str],
    count: Callable[[str], int],
    journal: OutcomeJournal | None,
    progress: Progress,
) -> dict[str, tuple[Outcome, ...]]:
    """Return the outcomes of every question in its order; new ones go to the journal."""
    if not routes or len(set(routes)) < len(routes):
        raise ValueError(f"routes must be one label or more, each once, got {list(routes)}")
    known = dict(journal.done) if journal else {}
    left = [question for question in questions if question.id not in known]
    progress.stage("questions x routes", len(left) * len(routes))
    for start in range(0, len(left), BATCH):
        part = left[start : start + BATCH]
        columns = []
        for route in routes:
            columns.append(_tried(part, route, retrieve, score, count))
            progress.advance(len(part))
        new = {
            question.id: outcomes
            for question, outcomes in zip(part, zip(*columns, strict=True), strict=True)
        }
        if journal:
            journal.append(new)
        known |= new
    return {question.id: known[question.id] for question in questions}


def _tried(
    questions: Sequence[Question],
    route: str,
    retrieve: Retrieve,
    score: Score,
    count: Callable[[str], int],
) -> list[Outcome]:
    """Return how a route fares on each question."""
    passages: list[list[Passage]] = [[] for _ in questions]
    if route != NONE:
        passages = retrieve([Query(question.text) for question in questions], route)
    scores = score(questions, route, passages)
    if not len(scores) == len(passages) == len(questions):
        raise ValueError(
            f"retrieve and score must give {len(questions)} results for {route!r}, got "
            f"{len(passages)} and {len(scores)}"
        )
    return [
        Outcome(route, round(value, 6), sum(count(one.searchable) for one in read))
        for value, read in zip(scores, passages, strict=True)
    ]


def _labels(
    outcomes: Sequence[Outcome], order: Sequence[str], tolerance: float, *, several: bool
) -> tuple[str, ...]:
    """Return the labels of a question, cheapest first; none where every route fails."""
    best = best_routes(outcomes, tolerance)
    left = [one for one in outcomes if one.route in best]
    labels: list[str] = []
    while left and (several or not labels):
        cheapest = label_of(left, order, tolerance=1.0)
        assert cheapest is not None
        labels.append(cheapest)
        left = [one for one in left if one.route != cheapest]
    return tuple(labels)

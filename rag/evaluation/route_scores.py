"""What routing gains: scores of what is taken against an oracle, and against one route for all.

`outcomes` are the scores of routes that were tried alone, one mapping a question; a route that was
not tried for a question counts with 0 there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag.evaluation.routing import RESAMPLES, regrets
from rag.evaluation.statistics import Interval, bootstrap_interval
from rag.routing.decision import NONE


@dataclass(frozen=True, slots=True)
class TakenScore:
    """What a policy reaches with the labels that it takes.

    Attributes:
        score: of the best route taken, over questions.
        regret: what the best route of all would have added.
        cost: mean tokens that the routes taken read, each alone; None where nobody counted.
    """

    score: Interval
    regret: Interval
    cost: float | None


def mean_scores(outcomes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean score of each route, in alphabetical order.

    Raises:
        ValueError: for no question.
    """
    _check(outcomes)
    routes = sorted({route for one in outcomes for route in one})
    return {route: sum(one.get(route, 0.0) for one in outcomes) / len(outcomes) for route in routes}


def oracle_scores(outcomes: Sequence[Mapping[str, float]]) -> list[float]:
    """Return the score of each question's best route."""
    return [max(one.values(), default=0.0) for one in outcomes]


def best_single(
    outcomes: Sequence[Mapping[str, float]], costs: Sequence[Mapping[str, float]] = ()
) -> str:
    """Return the route that is best for all questions; ties go to the cheaper one, then by name.

    Args:
        outcomes: at least one, with at least one route.
        costs: of the same questions; empty where nobody counted.

    Raises:
        ValueError: for no question, or none with a route.
    """
    means = mean_scores(outcomes)
    if not means:
        raise ValueError("outcomes must hold at least one route, got none")
    spent = {route: sum(one.get(route, 0.0) for one in costs) for route in means}
    return min(means, key=lambda route: (-round(means[route], 9), spent[route], route))


def taken_score(
    taken: Sequence[Sequence[str]],
    outcomes: Sequence[Mapping[str, float]],
    costs: Sequence[Mapping[str, float]] = (),
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> TakenScore:
    """Return what the best of the labels taken reaches, with 95 % bootstrap intervals.

    Several labels together may reach more than the best of them: that was not measured.

    Args:
        taken: labels for each question; `none` counts with 0 where it was not tried.
        outcomes: of the same questions, at least one.
        costs: of the same questions; empty where nobody counted.
        seed: of the intervals.
        resamples: at least 1.

    Raises:
        ValueError: for no question, a label taken without an outcome, or lists of other lengths.
    """
    _check(outcomes)
    tried = [{NONE: 0.0, **one} for one in outcomes]
    lost = regrets(taken, tried)
    reached = [best - less for best, less in zip(oracle_scores(tried), lost, strict=True)]
    spent = None
    if costs:
        pairs = zip(taken, costs, strict=True)
        spent = sum(cost.get(label, 0.0) for got, cost in pairs for label in set(got)) / len(taken)
    return TakenScore(
        bootstrap_interval(reached, seed=seed, resamples=resamples),
        bootstrap_interval(lost, seed=seed, resamples=resamples),
        spent,
    )


def _check(outcomes: Sequence[Mapping[str, float]]) -> None:
    if not outcomes:
        raise ValueError("outcomes must hold at least one question, got none")

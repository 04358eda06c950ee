"""What a router gains on questions whose routes were tried: its policies, an oracle, one route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipelines.evaluating.routing_policies import Take, measured_policies
from rag.evaluation.route_scores import TakenScore, best_single, mean_scores, taken_score
from rag.routing.corpora import CorpusRouter
from rag.routing.decision import NONE
from rag.routing.labels import MODALITIES

if TYPE_CHECKING:
    from rag.evaluation.routing import RoutedQuery
    from rag.records import Route
    from rag.routing.labelled_queries import LabelledQuery


@dataclass(frozen=True, slots=True)
class Gains:
    """Scores of a router and of what bounds it, over the same questions.

    Attributes:
        questions: that have outcomes.
        oracle: of one that knows each question's best route, and takes the cheapest.
        best_single: the route that is best for all questions.
        single: of that route.
        routes: mean score of each route.
        policies: of the router under each policy; `single` is the router alone.
    """

    questions: int
    oracle: TakenScore
    best_single: str
    single: TakenScore
    routes: Mapping[str, float]
    policies: Mapping[str, TakenScore]


def gains(
    queries: Sequence[LabelledQuery],
    routed: Sequence[RoutedQuery],
    *,
    modalities: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Gains | None:
    """Return what a router gains, over the questions with outcomes; None if none has any.

    A label that a question has no outcome for has no corpus, and gives way as `route.corpora` lets
    it; `none` needs none, and counts with 0 where it was not tried.

    Args:
        queries: labelled; each with the score of its own routes.
        routed: the same queries, as the router sends them.
        modalities: by label, for routes whose label has no corpus.
        seed: of the intervals.
    """
    pairs = [pair for pair in zip(queries, routed, strict=True) if pair[0].outcomes]
    if not pairs:
        return None
    outcomes = [query.outcomes for query, _ in pairs]
    counted = all(query.costs for query, _ in pairs)
    costs = [query.costs for query, _ in pairs] if counted else []
    labels = sorted(
        {label for one in outcomes for label in one}
        | {label for _, one in pairs for label in (*one.route.labels, *one.route.probs)}
    )
    kinds = MODALITIES if modalities is None else {**MODALITIES, **modalities}
    policies = {
        name: [_asked(take, one.route, query.outcomes, kinds) for query, one in pairs]
        for name, take in measured_policies(labels).items()
    }
    single = best_single(outcomes, costs)
    return Gains(
        len(pairs),
        taken_score([_best(query) for query, _ in pairs], outcomes, costs, seed=seed),
        single,
        taken_score(
            [[single] if single in one else [] for one in outcomes], outcomes, costs, seed=seed
        ),
        mean_scores(outcomes),
        {name: taken_score(taken, outcomes, costs, seed=seed) for name, taken in policies.items()},
    )


def _asked(
    take: Take, route: Route, outcomes: Mapping[str, float], modalities: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the labels that are asked where a policy takes some of a route."""
    corpora = tuple(sorted(outcomes.keys() - {NONE}))
    chosen = tuple(take(route)) or route.labels[:1]
    if not corpora:
        return (NONE,) if NONE in chosen else ()
    asking = CorpusRouter(corpora, modalities=modalities, policy="all")
    return asking(replace(route, labels=chosen)).labels


def _best(query: LabelledQuery) -> list[str]:
    """Return a question's best route, the cheapest of several."""
    ranked = sorted(
        query.outcomes, key=lambda label: (-query.outcomes[label], query.costs.get(label, 0), label)
    )
    return ranked[:1]

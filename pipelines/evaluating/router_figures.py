"""Figures of a router: on the queries it learns from, by folds and sources, or on given routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.evaluating.routing_policies import measured_policies
from rag.evaluation.router_validation import Train, routed_by_folds, routed_by_source
from rag.evaluation.routing import Reach, RoutedQuery, reach, routing_figures, sent_right
from rag.evaluation.statistics import Interval, bootstrap_interval
from rag.routing.training.router_card import RouterFigures

if TYPE_CHECKING:
    from rag.routing.labelled_queries import LabelledQuery
    from rag.training.watching import Watcher


def figures_of_training(
    queries: Sequence[LabelledQuery],
    train: Train,
    *,
    modalities: Mapping[str, str] | None = None,
    folds: int = 5,
    seed: int = 0,
    watcher: Watcher | None = None,
) -> RouterFigures:
    """Return the figures of routers on queries that they did not learn from.

    Args:
        queries: labelled.
        train: makes a router; called once a fold, and once a source that can be left out.
        modalities: by label.
        folds: at least 2.
        seed: of the folds and the intervals.
        watcher: sees the stages.

    Raises:
        ValueError: for too few or too many folds, or what `train` raises.
    """
    routed = routed_by_folds(queries, train, folds=folds, seed=seed, watcher=watcher)
    left_out = routed_by_source(queries, train, watcher=watcher)
    return RouterFigures(
        folds,
        routing_figures(routed, modalities=modalities, seed=seed),
        policy_reach(routed, seed=seed),
        accuracy_by_source(routed, seed=seed),
        accuracy_by_source(left_out, seed=seed),
    )


def policy_reach(routed: Sequence[RoutedQuery], *, seed: int = 0) -> dict[str, Reach]:
    """Return what each policy hits and costs."""
    labels = sorted({label for one in routed for label in (*one.truth, *one.route.probs)})
    return {
        name: reach(routed, [take(one.route) for one in routed], seed=seed)
        for name, take in measured_policies(labels).items()
    }


def accuracy_by_source(routed: Sequence[RoutedQuery], *, seed: int = 0) -> dict[str, Interval]:
    """Return the accuracy of each source's queries, in alphabetical order."""
    right: dict[str, list[float]] = {}
    for one, value in zip(routed, sent_right(routed), strict=True):
        right.setdefault(one.source, []).append(value)
    return {
        source: bootstrap_interval(values, seed=seed) for source, values in sorted(right.items())
    }

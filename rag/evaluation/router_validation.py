"""Routers on queries that they have not learned from: by folds, and with whole sources left out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from rag.evaluation.cross_validation import fold_rows
from rag.evaluation.routing import RoutedQuery
from rag.records import Query, Route
from rag.training.watching import Unwatched, Watcher

if TYPE_CHECKING:
    from rag.routing.labelled_queries import LabelledQuery


class BatchRouter(Protocol):
    """A router that is asked many queries at once."""

    def batch(self, queries: Sequence[Query], /) -> list[Route]:
        """Return what a call returns for each query."""


Train: TypeAlias = "Callable[[Sequence[LabelledQuery]], BatchRouter]"
"""Makes a router of labelled queries."""


def routed_queries(queries: Sequence[LabelledQuery], router: BatchRouter) -> list[RoutedQuery]:
    """Return the queries with where a router sends them, in order."""
    routes = router.batch([Query(one.text) for one in queries])
    return [
        RoutedQuery(one.id, one.labels, route, one.source)
        for one, route in zip(queries, routes, strict=True)
    ]


def routed_by_folds(
    queries: Sequence[LabelledQuery],
    train: Train,
    *,
    folds: int = 5,
    seed: int = 0,
    watcher: Watcher | None = None,
) -> list[RoutedQuery]:
    """Return every query as a router sends it that learned from the other folds, in order.

    Equal texts are in one fold, whatever their ids.

    Args:
        queries: with at least as many different texts as folds.
        train: makes a router.
        folds: at least 2.
        seed: of the folds.
        watcher: sees a stage, a step for each fold.

    Raises:
        ValueError: for too few or too many folds; or what `train` raises, as where all queries of a
            label are in one fold.
    """
    rows_of: dict[str, list[int]] = {}
    for row, one in enumerate(queries):
        rows_of.setdefault(one.text, []).append(row)
    texts = list(rows_of)
    parts = [
        [row for place in part for row in rows_of[texts[place]]]
        for part in fold_rows(texts, folds, seed)
    ]
    return _without_each(queries, parts, train, watcher, f"{folds} folds")


def routed_by_source(
    queries: Sequence[LabelledQuery],
    train: Train,
    *,
    sources: Collection[str] | None = None,
    watcher: Watcher | None = None,
) -> list[RoutedQuery]:
    """Return the queries of some sources, each as routed without its source, in order.

    Args:
        queries: labelled.
        train: makes a router.
        sources: to leave out, one at a time; by default `shared_sources`.
        watcher: sees a stage, a step for each source.

    Raises:
        ValueError: what `train` raises.
    """
    parts = [
        [row for row, one in enumerate(queries) if one.source == source]
        for source in (shared_sources(queries) if sources is None else sorted(set(sources)))
    ]
    return _without_each(queries, parts, train, watcher, "sources left out")


def shared_sources(queries: Sequence[LabelledQuery]) -> list[str]:
    """Return the sources whose every label some other source has too, in alphabetical order.

    Without any other source a router could not learn such a label: leaving it out tells nothing.
    Queries without a source count as one.
    """
    sources = sorted({one.source for one in queries})
    labels = {
        source: {label for one in queries if one.source == source for label in one.labels}
        for source in sources
    }
    return [
        source
        for source in sources
        if labels[source] <= set().union(*(of for other, of in labels.items() if other != source))
    ]


def _without_each(
    queries: Sequence[LabelledQuery],
    parts: Sequence[Collection[int]],
    train: Train,
    watcher: Watcher | None,
    stage: str,
) -> list[RoutedQuery]:
    """Return the queries of all parts, sorted by row; each part's router learned from the rest."""
    watcher = watcher or Unwatched()
    watcher.stage(stage, len(parts))
    found: dict[int, RoutedQuery] = {}
    for part in parts:
        asked = sorted(part)
        left_out = set(asked)
        try:
            router = train([one for row, one in enumerate(queries) if row not in left_out])
        except ValueError as error:
            raise ValueError(
                f"{stage}, without {len(asked)} of {len(queries)} queries: {error}"
            ) from error
        routed = routed_queries([queries[row] for row in asked], router)
        found.update(zip(asked, routed, strict=True))
        watcher.advance()
    return [found[row] for row in sorted(found)]

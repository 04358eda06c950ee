"""The routers of the routing benchmark: how each is made of the queries that it may learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rag.evaluation.router_validation import BatchRouter
from rag.protocols import Encoder, Router
from rag.records import Query, Route
from rag.routing.ensemble import EnsembleRouter, Rule
from rag.routing.labelled_queries import LabelledQuery

CLASSIFIER = "classifier"
Make = Callable[[Sequence[LabelledQuery], Encoder], BatchRouter]


def learned_routers() -> dict[str, Make]:
    """Return the routers that are made of queries or descriptions, the simplest first."""
    return {
        "descriptions": _descriptions,
        "prototypes": _prototypes,
        "examples": _examples,
        CLASSIFIER: _classifier,
    }


ENSEMBLES: Mapping[str, tuple[Rule, tuple[str, ...]]] = {
    "ensemble": ("confidence", (CLASSIFIER, "descriptions")),
    "ensemble of three": ("confidence", (CLASSIFIER, "examples", "descriptions")),
    "ensemble majority": ("majority", (CLASSIFIER, "examples", "descriptions")),
    "ensemble mean": ("mean", (CLASSIFIER, "examples", "descriptions")),
}
"""By name: the rule, and the routers that it asks, in order."""


def ensembles(routers: Mapping[str, Router]) -> dict[str, BatchRouter]:
    """Return the ensembles whose every router is there."""
    return {
        name: EnsembleRouter(tuple(routers[member] for member in members), rule)
        for name, (rule, members) in ENSEMBLES.items()
        if all(member in routers for member in members)
    }


def _descriptions(queries: Sequence[LabelledQuery], encoder: Encoder) -> BatchRouter:
    from rag.routing.descriptions import DescriptionRouter

    return DescriptionRouter(encoder).fitted_to(queries)


def _prototypes(queries: Sequence[LabelledQuery], encoder: Encoder) -> BatchRouter:
    from rag.routing.examples import ExampleRouter

    return ExampleRouter(encoder, _by_label(queries), k=0)


def _examples(queries: Sequence[LabelledQuery], encoder: Encoder) -> BatchRouter:
    from rag.routing.examples import ExampleRouter

    return ExampleRouter(encoder, _by_label(queries))


def _classifier(queries: Sequence[LabelledQuery], encoder: Encoder) -> BatchRouter:
    from rag.routing.training.train_router import train_router

    return train_router(queries, encoder)


def _by_label(queries: Sequence[LabelledQuery]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in queries:
        for label in one.labels:
            found.setdefault(label, []).append(one.text)
    return found


@dataclass(frozen=True)
class Replayed:
    """A router that says again what was written down.

    Attributes:
        routes: by the text of the query.
    """

    routes: Mapping[str, Route]

    def __call__(self, query: Query) -> Route:
        """Return what was said."""
        return self.routes[query.text]

    def batch(self, query: Sequence[Query]) -> list[Route]:
        """Return what was said of each."""
        return [self(one) for one in query]

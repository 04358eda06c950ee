"""Ensemble routing: several routers, of which one decides, or all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from rag.bounds import Bounds
from rag.protocols import Router
from rag.records import Query, Route
from rag.routing.decision import chosen_labels
from rag.routing.labels import MODALITIES

Rule = Literal["confidence", "majority", "mean"]


@dataclass(frozen=True)
class EnsembleRouter:
    """Routes a question by several routers, the most trusted one first.

    `confidence`: the first router that is sure decides, as long as its own most probable label
    reaches the threshold and its route is no fallback. Where none is sure, their mean does.
    `majority`: the first label of most routers; ties go to the one with the largest sum of
    probabilities. `mean`: the label of the largest mean probability, modality first.
    A label that a router does not know has probability 0 there.
    Source: Yeo et al. 2026 (UniversalRAG, version 3), arXiv:2504.20734.

    Attributes:
        routers: at least one.
        rule: who decides.
        threshold: of `confidence`: least probability of a sure router, in [0, 1].
        modalities: of labels; one that is not there is a modality of its own.

    Raises:
        ValueError: for no router, an unknown rule or a threshold outside its range.
    """

    routers: tuple[Router, ...]
    rule: Rule = "confidence"
    threshold: Annotated[float, Bounds(0, 1)] = 0.6
    modalities: Mapping[str, str] = field(default_factory=lambda: dict(MODALITIES))

    def __post_init__(self) -> None:
        if not self.routers:
            raise ValueError("routers must hold at least one router, got none")
        if self.rule not in get_args(Rule):
            raise ValueError(f"rule must be one of {', '.join(get_args(Rule))}, got {self.rule!r}")
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}")

    def __call__(self, query: Query) -> Route:
        """Return the route; its source is `ensemble/` and whoever decided."""
        return self.batch(query=[query])[0]

    def batch(self, query: Sequence[Query]) -> list[Route]:
        """Return what a call returns for each query; `confidence` passes only doubts on."""
        if self.rule == "confidence":
            return self._by_confidence(query)
        each = [_routes(router, query) for router in self.routers]
        decide = self._by_majority if self.rule == "majority" else self._by_mean
        return [decide(list(routes)) for routes in zip(*each, strict=True)]

    def _by_confidence(self, query: Sequence[Query]) -> list[Route]:
        asked: list[list[Route]] = [[] for _ in query]
        found: dict[int, Route] = {}
        for router in self.routers:
            open_rows = [row for row in range(len(query)) if row not in found]
            routes = _routes(router, [query[row] for row in open_rows]) if open_rows else []
            for row, route in zip(open_rows, routes, strict=True):
                asked[row].append(route)
                if not route.fallback and _confidence(route) >= self.threshold:
                    source = f"ensemble/{route.source}"
                    found[row] = Route(route.labels, route.probs, source, len(asked[row]) > 1)
        return [
            found[row] if row in found else self._by_mean(asked[row], fallback=True)
            for row in range(len(query))
        ]

    def _by_majority(self, routes: Sequence[Route]) -> Route:
        votes: dict[str, int] = {}
        for route in routes:
            for label in route.labels[:1]:
                votes[label] = votes.get(label, 0) + 1
        probs = _mean(routes)
        if not votes:
            return Route((), probs, "ensemble/majority", fallback=True)
        winner = max(votes, key=lambda label: (votes[label], probs.get(label, 0.0)))
        split = 2 * votes[winner] <= len(routes)
        return Route((winner,), probs, "ensemble/majority", split)

    def _by_mean(self, routes: Sequence[Route], *, fallback: bool = False) -> Route:
        probs = _mean(routes)
        labels = chosen_labels(probs, self.modalities) if probs else ()
        return Route(labels, probs, "ensemble/mean", fallback or all(r.fallback for r in routes))


def _routes(router: Router, query: Sequence[Query]) -> list[Route]:
    batch = getattr(router, "batch", None)
    if batch is None:
        return [router(one) for one in query]
    return list(batch(query=query))


def _confidence(route: Route) -> float:
    return route.probs.get(route.labels[0], 0.0) if route.labels else 0.0


def _mean(routes: Sequence[Route]) -> dict[str, float]:
    labels = dict.fromkeys(label for route in routes for label in route.probs)
    return {
        label: sum(route.probs.get(label, 0.0) for route in routes) / len(routes)
        for label in labels
    }

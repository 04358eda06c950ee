"""Rocchio over terms: a query moved towards the passages that it finds first."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.records import Hit, Query
from retrievers.sparse.expanded import ExpandedSearch
from retrievers.sparse.index import SparseIndex


@dataclass(frozen=True)
class SparseRocchio(ExpandedSearch):
    """Ranks by `alpha * q + beta * mean(best passages) - gamma * mean(worst passages)` over terms.

    q is the query's term counts and a passage's vector its term counts, or impacts where the index
    holds those, of the terms of 2 to 20 characters that few passages hold, each vector scaled to
    length 1 (Euclidean): the most frequent terms of a text are those that say nothing. Of the sum
    the heaviest terms are kept beside the query's own; terms of negative weight are dropped, as in
    Rocchio 1971 (in Salton, The SMART Retrieval System). Defaults and the choice of terms are those
    of Anserini, whose negatives are off too; it also scales each mean to length 1 after cutting it
    to so many terms, which here ranked worse on two of three collections.

    Attributes:
        index: its weighting ranks both rounds.
        alpha: weight of the query, at least 0.
        beta: weight of the best passages, at least 0.
        gamma: weight of the worst passages, at least 0; read only if `bottom` is not 0.
        passages: best passages of the first round that are read, at least 1.
        terms: terms that are added at most, at least 1.
        bottom: how many of the worst of the first 1,000 are read, at least 0.
        common: largest share of all passages that may hold a term that feedback weighs, in [0, 1].
    """

    index: SparseIndex
    alpha: Annotated[float, Bounds(low=0)] = 1.0
    beta: Annotated[float, Bounds(low=0)] = 0.75
    gamma: Annotated[float, Bounds(low=0)] = 0.15
    passages: Annotated[int, Bounds(low=1)] = 10
    terms: Annotated[int, Bounds(low=1)] = 10
    bottom: Annotated[int, Bounds(low=0)] = 0
    common: Annotated[float, Bounds(low=0, high=1)] = 0.1

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            weight = getattr(self, name)
            if not (weight >= 0.0 and math.isfinite(weight)):
                raise ValueError(f"{name} must be at least 0 and finite, got {weight}")
        for name in ("passages", "terms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.bottom < 0:
            raise ValueError(f"bottom must be at least 0, got {self.bottom}")
        if not 0.0 <= self.common <= 1.0:
            raise ValueError(f"common must be in [0, 1], got {self.common}")

    def expand(self, query: Query, *, within: frozenset[str] | None = None) -> dict[str, float]:
        """Return the weights of the moved query's terms, all above 0.

        Args:
            query: what to look for.
            within: the only passages that may give feedback; None means all.
        """
        return self.expand_terms(self.index.query_weights(query), within=within)

    def expand_terms(
        self, weights: dict[str, float], *, within: frozenset[str] | None = None
    ) -> dict[str, float]:
        """Return what `expand` does for a query of weighted terms, such as learned ones."""
        own = _unit(weights)
        depth = 1000 if self.bottom and self.gamma else self.passages
        hits = self.index.search_terms(weights, depth, within=within)
        best, rest = hits[: self.passages], hits[self.passages :]
        moved = {term: self.alpha * weight for term, weight in own.items()}
        self._add(moved, best, self.beta)
        if self.bottom and self.gamma:
            self._add(moved, rest[-self.bottom :], -self.gamma)
        positive = {term: weight for term, weight in moved.items() if weight > 0.0}
        new = sorted(positive.keys() - own.keys(), key=lambda term: (-positive[term], term))
        kept = {*own, *new[: self.terms]}
        return {term: weight for term, weight in positive.items() if term in kept}

    def _add(self, moved: dict[str, float], hits: Sequence[Hit], weight: float) -> None:
        read, most = self.contents(hits), self.common * len(self.index)
        for _, counts in read:
            telling = {
                term: count
                for term, count in counts.items()
                if 2 <= len(term) <= 20 and self.index.df(term) <= most
            }
            for term, value in _unit(telling).items():
                moved[term] = moved.get(term, 0.0) + weight * value / len(read)


def _unit(weights: dict[str, float]) -> dict[str, float]:
    norm = math.sqrt(math.fsum(weight * weight for weight in weights.values()))
    return {term: weight / norm for term, weight in weights.items()} if norm else {}

"""RM3: a query expanded by a relevance model of the passages that it finds first."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.records import Hit, Query
from retrievers.sparse.expanded import ExpandedSearch
from retrievers.sparse.index import SparseIndex

_EXPANDING = re.compile(r"[a-z0-9]{2,20}")
_COMMON = 0.1  # a term in a larger share of the passages says nothing
_SHORTEST = 0.001


@dataclass(frozen=True)
class RM3(ExpandedSearch):
    """Ranks by the query's own terms and by those of the best passages it finds.

    Of each feedback passage the most frequent terms are taken, as shares of their sum, and weighed
    by the passage's score; the sums over passages are cut to the heaviest terms again, scaled to 1,
    and mixed with the query's terms, scaled to 1 too. Only terms of 2 to 20 letters and digits that
    at most a tenth of all passages hold can be added. If none can, the query stays as it is; so
    with an original weight of 1.

    Source: Abdul-Jaleel et al. 2004 (TREC, University of Massachusetts), with the conventions and
    defaults of Anserini; of passages that have as many of two terms it takes the term that comes
    first in the alphabet.

    Attributes:
        index: of counts; its weighting ranks both rounds.
        feedback_passages: best passages of the first round that are read, at least 1.
        feedback_terms: terms taken of each, and in the end of all, at least 1.
        original_weight: share of the query's own terms, in [0, 1].
    """

    index: SparseIndex
    feedback_passages: Annotated[int, Bounds(low=1)] = 10
    feedback_terms: Annotated[int, Bounds(low=1)] = 10
    original_weight: Annotated[float, Bounds(low=0, high=1)] = 0.5

    def __post_init__(self) -> None:
        for name in ("feedback_passages", "feedback_terms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 <= self.original_weight <= 1.0:
            raise ValueError(f"original_weight must be in [0, 1], got {self.original_weight}")

    def expand(self, query: Query, *, within: frozenset[str] | None = None) -> dict[str, float]:
        """Return the weights of the expanded query's terms; they add up to 1.

        A query without a known term gives its own terms, as nothing is found to expand it by.

        Args:
            query: what to look for.
            within: the only passages that may give feedback; None means all.
        """
        own = _shares(self.index.query_weights(query))
        if self.original_weight == 1.0:
            return own
        hits = self.index.search(query, self.feedback_passages, within=within)
        model = self._relevance_model(hits)
        if not model:
            return own
        mixed = {term: self.original_weight * share for term, share in own.items()}
        for term, share in model.items():
            mixed[term] = mixed.get(term, 0.0) + (1.0 - self.original_weight) * share
        return {term: weight for term, weight in mixed.items() if weight > 0.0}

    def _relevance_model(self, hits: Sequence[Hit]) -> dict[str, float]:
        """Return shares of the terms that the hits speak for; empty if there are none."""
        most = _COMMON * len(self.index)
        summed: dict[str, float] = {}
        for hit, counts in self.contents(hits):
            kept = {
                term: count
                for term, count in counts.items()
                if _EXPANDING.fullmatch(term) and self.index.df(term) <= most
            }
            best = _heaviest(kept, self.feedback_terms)
            norm = sum(best.values())
            if norm <= _SHORTEST:
                continue
            for term, count in best.items():
                summed[term] = summed.get(term, 0.0) + hit.score * count / norm
        best = {t: w for t, w in _heaviest(summed, self.feedback_terms).items() if w > 0.0}
        return _shares(best)


def _heaviest(weights: dict[str, float], count: int) -> dict[str, float]:
    """Return the heaviest terms, ties by the alphabet."""
    return dict(sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:count])


def _shares(weights: dict[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {term: weight / total for term, weight in weights.items()} if total else {}

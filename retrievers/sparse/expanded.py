"""Searching by an expanded query: what RM3 and Rocchio do once they have its terms."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from rag.records import Hit, Query
from retrievers.sparse.index import SparseIndex


class ExpandedSearch(ABC):
    """A `SparseSearch` over an index that asks it an expanded query.

    Attributes:
        index: ranks the first round, whose passages give feedback, and the second.
    """

    index: SparseIndex

    @abstractmethod
    def expand(self, query: Query, *, within: frozenset[str] | None = None) -> dict[str, float]:
        """Return the weights of the expanded query's terms.

        Args:
            query: what to look for.
            within: the only passages that may give feedback; None means all.
        """

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all passages, ascending."""
        return self.index.ids

    def search(
        self, query: Query, top_k: int, *, within: frozenset[str] | None = None
    ) -> list[Hit]:
        """Return at most `top_k` hits for the expanded query, best first, ties by id.

        Args:
            query: what to look for.
            top_k: at least 1; may exceed the index.
            within: the only ids that may be returned or give feedback; None means all.

        Raises:
            ValueError: if top_k is below 1.
        """
        return self.index.search_terms(self.expand(query, within=within), top_k, within=within)

    def search_batch(
        self, queries: Sequence[Query], top_k: int, *, within: frozenset[str] | None = None
    ) -> list[list[Hit]]:
        """Return what `search` returns for each query."""
        return [self.search(query, top_k, within=within) for query in queries]

    def scores_of(
        self, query: Query, ids: Sequence[str], *, within: frozenset[str] | None = None
    ) -> np.ndarray:
        """Return the scores of given passages for the expanded query, float64 (n,).

        Raises:
            KeyError: for an unknown id.
        """
        return self.index.scores_of_terms(self.expand(query, within=within), ids)

    def contents(self, hits: Sequence[Hit]) -> list[tuple[Hit, dict[str, float]]]:
        """Return hits with their terms' counts or impacts, without those deleted meanwhile."""
        found = []
        for hit in hits:
            with contextlib.suppress(KeyError):
                found.append((hit, self.index.term_counts(hit.id)))
        return found

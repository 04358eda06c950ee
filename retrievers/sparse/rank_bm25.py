"""BM25 by the package rank-bm25: the plain reference that `SparseIndex` is compared with."""

from collections.abc import Sequence

import numpy as np

from rag.records import Hit, Query
from retrievers.sparse.frozen import FrozenRanking
from retrievers.sparse.index import TermAnalyser


class RankBM25:
    """A `SparseSearch` over `rank_bm25.BM25Okapi`. Immutable; every query scans every passage.

    Passages that score 0 are left out, those below 0 are not. Source: the package rank-bm25.
    """

    def __init__(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        *,
        k1: float = 1.5,
        b: float = 0.75,
        analyser: TermAnalyser | None = None,
    ) -> None:
        """Index passages.

        Args:
            ids: unique; may be empty.
            texts: one an id.
            k1: how slowly repetition saturates.
            b: how far length counts.
            analyser: makes terms; `Analyser()` if None.

        Raises:
            ValueError: if the lengths differ, or an id occurs twice.
        """
        self._ranking = FrozenRanking(ids, texts, analyser)
        terms = self._ranking.terms_of(texts)
        self._okapi = None
        if any(terms):  # the package divides by the number of terms
            from rank_bm25 import BM25Okapi

            self._okapi = BM25Okapi(terms, k1=k1, b=b)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all passages, ascending."""
        return self._ranking.ids

    def search(
        self, query: Query, top_k: int, *, within: frozenset[str] | None = None
    ) -> list[Hit]:
        """Return at most `top_k` hits, best first, ties by id; see `SparseSearch`.

        Raises:
            ValueError: if top_k is below 1.
        """
        return self._ranking.best(self._scores(query), top_k, within)

    def search_batch(
        self, queries: Sequence[Query], top_k: int, *, within: frozenset[str] | None = None
    ) -> list[list[Hit]]:
        """Return what `search` returns for each query."""
        return [self.search(query, top_k, within=within) for query in queries]

    def scores_of(self, query: Query, ids: Sequence[str]) -> np.ndarray:
        """Return the scores of given passages, float64 (n,).

        Raises:
            KeyError: for an unknown id.
        """
        return self._scores(query)[self._ranking.rows(ids)]

    def _scores(self, query: Query) -> np.ndarray:
        if self._okapi is None:
            return np.zeros(len(self.ids))
        scores: np.ndarray = self._okapi.get_scores(self._ranking.query_terms(query))
        return scores

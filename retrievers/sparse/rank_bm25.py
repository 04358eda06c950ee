"""BM25 by the package rank-bm25: the plain reference that `SparseIndex` is compared with."""

from collections.abc import Sequence

import numpy as np

from retrievers.sparse.frozen import FrozenSearch
from retrievers.sparse.index import TermAnalyser


class RankBM25(FrozenSearch):
    """A `SparseSearch` over `rank_bm25.BM25Okapi`. Immutable; every query scans every passage.

    Source: the package rank-bm25.
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
        super().__init__(ids, texts, analyser)
        self._okapi = None
        if any(self.terms):  # the package divides by the number of terms
            from rank_bm25 import BM25Okapi

            self._okapi = BM25Okapi(self.terms, k1=k1, b=b)

    def scores(self, terms: Sequence[str]) -> np.ndarray:
        """Return the score of every passage for a query's terms, float64 (n,)."""
        found = np.zeros(len(self.ids))
        if self._okapi is None:
            return found
        for term in terms:
            # Of a passage without the term the package makes 0 / 0 if k1 is 0, and of one without
            # any if b is 1.
            with np.errstate(invalid="ignore"):
                found += np.nan_to_num(self._okapi.get_scores([term]))
        return found

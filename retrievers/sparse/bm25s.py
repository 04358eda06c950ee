"""BM25 by the package bm25s: scores computed when a corpus is indexed, for corpora that stay."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal

import numpy as np

from rag.errors import MissingExtraError
from rag.records import Hit, Query
from retrievers.sparse.frozen import FrozenRanking
from retrievers.sparse.index import TermAnalyser

Method = Literal["robertson", "lucene", "atire", "bm25l", "bm25+"]


class BM25S:
    """A `SparseSearch` over `bm25s.BM25`. Immutable: another passage means another index.

    Scores are float32, as the package keeps them; passages that score 0 are left out. Source: Lù
    2024, arXiv:2407.03618.
    """

    def __init__(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        *,
        method: Method = "lucene",
        k1: float = 0.9,
        b: float = 0.4,
        analyser: TermAnalyser | None = None,
    ) -> None:
        """Index passages.

        Args:
            ids: unique; may be empty.
            texts: one an id.
            method: which formula, by the package's names.
            k1: how slowly repetition saturates.
            b: how far length counts.
            analyser: makes terms; `Analyser()` if None.

        Raises:
            MissingExtraError: if bm25s is not installed.
            ValueError: if the lengths differ, or an id occurs twice.
        """
        if find_spec("bm25s") is None:
            raise MissingExtraError("bm25s is not installed; pip install 'dovetail-rag[bm25s]'")
        self._ranking = FrozenRanking(ids, texts, analyser)
        terms = self._ranking.terms_of(texts)
        self._index = None
        self._known: dict[str, int] = {}
        for of_passage in terms:
            for term in of_passage:
                self._known.setdefault(term, len(self._known))
        if self._known:
            import bm25s

            self._index = bm25s.BM25(method=method, k1=k1, b=b)
            rows = [[self._known[term] for term in of_passage] for of_passage in terms]
            self._index.index((rows, self._known), show_progress=False)

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
        terms = [term for term in self._ranking.query_terms(query) if term in self._known]
        if self._index is None or not terms:
            return np.zeros(len(self.ids))
        scores: np.ndarray = self._index.get_scores(terms).astype(np.float64)
        return scores

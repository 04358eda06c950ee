"""BM25 by the package bm25s: scores computed when a corpus is indexed, for corpora that stay."""

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import chain
from typing import Literal

import numpy as np

from rag.errors import MissingExtraError
from retrievers.sparse.frozen import FrozenSearch
from retrievers.sparse.index import TermAnalyser

Method = Literal["robertson", "lucene", "atire", "bm25l", "bm25+"]


class BM25S(FrozenSearch):
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
        super().__init__(ids, texts, analyser)
        self._index = None
        self._known: dict[str, int] = {}
        for term in chain.from_iterable(self.terms):
            self._known.setdefault(term, len(self._known))
        if self._known:
            import bm25s

            self._index = bm25s.BM25(method=method, k1=k1, b=b)
            rows = [[self._known[term] for term in of_passage] for of_passage in self.terms]
            self._index.index((rows, self._known), show_progress=False)

    def scores(self, terms: Sequence[str]) -> np.ndarray:
        """Return the score of every passage for a query's terms, float64 (n,)."""
        known = [term for term in terms if term in self._known]
        if self._index is None or not known:
            return np.zeros(len(self.ids))
        found: np.ndarray = self._index.get_scores(known).astype(np.float64)
        return found

"""What the alternative BM25 backends share: a corpus that never changes, scored as a whole."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from rag.records import Hit, Query
from rag.text.analyser import Analyser
from retrievers.ranking import best_rows, rows_by_id
from retrievers.sparse.index import TermAnalyser


class FrozenSearch(ABC):
    """A `SparseSearch` that scores every passage for every query.

    Passages that score 0 are left out, those below 0 are not.

    Attributes:
        ids: passage ids, ascending; a passage's row is its place in them.
        analyser: makes terms of queries.
        terms: terms of each passage, in the order of `ids`.
    """

    def __init__(
        self, ids: Sequence[str], texts: Sequence[str], analyser: TermAnalyser | None
    ) -> None:
        """Put passages in the order of their ids.

        Raises:
            ValueError: if the lengths differ, or an id occurs twice.
        """
        if len(ids) != len(texts):
            raise ValueError(f"ids and texts must be as long, got {len(ids)} and {len(texts)}")
        order = rows_by_id(list(ids))
        self.ids = tuple(ids[row] for row in order)
        self.analyser: TermAnalyser = Analyser() if analyser is None else analyser
        self.terms = [self.analyser.terms(texts[row]) for row in order]
        self._row = {id_: row for row, id_ in enumerate(self.ids)}

    @abstractmethod
    def scores(self, terms: Sequence[str]) -> np.ndarray:
        """Return the score of every passage for a query's terms, float64 (n,)."""

    def search(
        self, query: Query, top_k: int, *, within: frozenset[str] | None = None
    ) -> list[Hit]:
        """Return at most `top_k` hits, best first, ties by id; see `SparseSearch`.

        Raises:
            ValueError: if top_k is below 1.
        """
        scores = self.scores(self.analyser.query_terms(query.text))
        rows = np.flatnonzero(scores)
        if within is not None:
            allowed = np.zeros(len(self.ids), bool)
            allowed[[self._row[id_] for id_ in within if id_ in self._row]] = True
            rows = rows[allowed[rows]]
        return [Hit(self.ids[row], float(scores[row])) for row in best_rows(scores, rows, top_k)]

    def search_batch(
        self, queries: Sequence[Query], top_k: int, *, within: frozenset[str] | None = None
    ) -> list[list[Hit]]:
        """Return what `search` returns for each query."""
        return [self.search(query, top_k, within=within) for query in queries]

    def scores_of(
        self,
        query: Query,
        ids: Sequence[str],
        *,
        within: frozenset[str] | None = None,  # noqa: ARG002 (no passage has a say in the query)
    ) -> np.ndarray:
        """Return the scores of given passages, float64 (n,).

        Raises:
            KeyError: for an unknown id.
        """
        for id_ in ids:
            if id_ not in self._row:
                raise KeyError(f"no passage {id_!r} in the index")
        scores = self.scores(self.analyser.query_terms(query.text))
        return scores[[self._row[id_] for id_ in ids]]

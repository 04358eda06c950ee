"""What the alternative BM25 backends share: a corpus that never changes, ranked as a whole."""

from collections.abc import Sequence

import numpy as np

from rag.records import Hit, Query
from rag.text.analyser import Analyser
from retrievers.ranking import best_rows, rows_by_id
from retrievers.sparse.index import TermAnalyser


class FrozenRanking:
    """Ids in order, terms of queries, and rankings from the scores of all passages.

    Attributes:
        ids: passage ids, ascending; a passage's row is its place in them.
        analyser: makes terms of queries.
        order: for each row the place of its passage as it was given.
    """

    def __init__(self, ids: Sequence[str], texts: Sequence[str], analyser: TermAnalyser | None):
        """Put passages in the order of their ids.

        Raises:
            ValueError: if the lengths differ, or an id occurs twice.
        """
        if len(ids) != len(texts):
            raise ValueError(f"ids and texts must be as long, got {len(ids)} and {len(texts)}")
        self.order = rows_by_id(list(ids))
        self.ids = tuple(ids[row] for row in self.order)
        self.analyser: TermAnalyser = Analyser() if analyser is None else analyser
        self._row = {id_: row for row, id_ in enumerate(self.ids)}

    def terms_of(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the terms of the passages, in the order of `ids`."""
        return [self.analyser.terms(texts[row]) for row in self.order]

    def query_terms(self, query: Query) -> list[str]:
        """Return the terms that a query is searched by."""
        return self.analyser.query_terms(query.text)

    def best(self, scores: np.ndarray, top_k: int, within: frozenset[str] | None) -> list[Hit]:
        """Return the best passages that do not score 0, ties by id."""
        rows = np.flatnonzero(scores)
        if within is not None:
            allowed = np.zeros(len(self.ids), bool)
            allowed[[self._row[id_] for id_ in within if id_ in self._row]] = True
            rows = rows[allowed[rows]]
        return [Hit(self.ids[row], float(scores[row])) for row in best_rows(scores, rows, top_k)]

    def rows(self, ids: Sequence[str]) -> list[int]:
        """Return the rows of passages.

        Raises:
            KeyError: for an unknown id.
        """
        for id_ in ids:
            if id_ not in self._row:
                raise KeyError(f"no passage {id_!r} in the index")
        return [self._row[id_] for id_ in ids]

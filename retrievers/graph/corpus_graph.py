"""The corpus graph: passages, the edges between them by kind, and what they are called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import scipy.sparse as sp

from rag.records import Edge
from retrievers.graph.lists import Lists
from retrievers.graph.names import Names
from retrievers.graph.pagerank import Walk
from retrievers.graph.settings import KINDS, RULES, EdgeWeights, GraphSettings
from retrievers.ranking import best_rows
from retrievers.sorted_strings import SortedStrings

_WALKS = 4  # prepared walks that are kept


@dataclass(frozen=True, eq=False)
class Facts:
    """What was read in the passages' texts; kept so that a text is read once.

    Attributes:
        digests: of what was read of each passage, uint8 (n, 16).
        names: every name, ascending.
        named: names of each passage, as rows of `names`.
        mentions: names that each passage mentions, as rows of `names`.
        phrases: every capitalised phrase, ascending.
        phrased: phrases of each passage, as rows of `phrases`.
        initial: for each entry of `phrased` whether it is only a word that begins a sentence.
    """

    digests: np.ndarray
    names: SortedStrings
    named: Lists
    mentions: Lists
    phrases: SortedStrings
    phrased: Lists
    initial: np.ndarray

    @cached_property
    def bearers(self) -> dict[str, list[int]]:
        """The rows of the passages that bear each name, ascending."""
        found: dict[int, list[int]] = {}
        for row in range(len(self.named)):
            for name in self.named[row].tolist():
                found.setdefault(name, []).append(row)
        strings = self.names.all()
        return {strings[name]: rows for name, rows in found.items()}


class CorpusGraph:
    """Passages as nodes, and weighted, directed edges of several kinds. Nothing ever changes it.

    `build_graph` makes one, also from an older one; `save_graph` and `open_graph` keep it on disk.
    Rows are the passages in the order of their ids. Safe to share between threads.

    Attributes:
        settings: how it was made.
        ids: of the passages, ascending.
        edges: the edges of each kind, scipy CSR, float32 (n, n), `[u, v]` from u to v.
        facts: what was read in the texts.
        language: of the texts.
        unplaced: a line on each end of a triple that nothing in the corpus is called.
        rules: number of the rules by which the texts were read.
    """

    def __init__(
        self,
        settings: GraphSettings,
        ids: SortedStrings,
        edges: Mapping[str, Any],
        facts: Facts,
        language: str,
        unplaced: Sequence[str] = (),
        rules: int = RULES,
    ) -> None:
        """Wrap finished arrays; `build_graph` and `open_graph` make them."""
        self.settings = settings
        self.ids = ids
        self.edges = edges
        self.facts = facts
        self.language = language
        self.unplaced = tuple(unplaced)
        self.rules = rules
        self._walks: dict[tuple[EdgeWeights, frozenset[str] | None], Walk] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many edges of each kind there are, as they are directed."""
        return {kind: int(self.edges[kind].nnz) for kind in KINDS if kind in self.edges}

    @cached_property
    def names(self) -> Names:
        """What the passages are called."""
        return Names(self.facts.bearers)

    def walk(self, weights: EdgeWeights, within: frozenset[str] | None = None) -> Walk:
        """Return the walk over all edges together; it is made at first use and kept.

        Each kind is symmetrised by the larger of both directions (`knn` as the weights say), kinds
        are added up by their weights, and of the edges that leave a passage the heaviest are kept.

        Args:
            weights: what each kind counts.
            within: ids of the passages that exist; a walk passes through no other.
        """
        asked = (weights, within)
        with self._lock:
            if asked not in self._walks:
                while len(self._walks) >= _WALKS:
                    self._walks.pop(next(iter(self._walks)))
                self._walks[asked] = self._prepared(weights, within)
            return self._walks[asked]

    def allowed(self, within: frozenset[str] | None) -> np.ndarray | None:
        """Return which rows exist, bool (n,), or None for all."""
        if within is None:
            return None
        rows = self.ids.rows(sorted(within))
        found = np.zeros(len(self), bool)
        found[rows[rows >= 0]] = True
        return found

    def between(self, ids: Sequence[str], weights: EdgeWeights | None = None) -> list[Edge]:
        """Return the edges among some passages, by source in their order, target and kind.

        Args:
            ids: of passages, unique; one that the graph does not hold has no edge.
            weights: leaves out kinds that count 0; None leaves out none.
        """
        rows = self.ids.rows(ids)
        known = [place for place, row in enumerate(rows.tolist()) if row >= 0]
        chosen = rows[known]
        found = []
        for rank, kind in enumerate(KINDS):
            if not self.counts.get(kind) or (weights is not None and not weights.of(kind)):
                continue
            part = self.edges[kind][chosen][:, chosen].tocoo()
            for source, target, weight in zip(
                part.row.tolist(), part.col.tolist(), part.data.tolist(), strict=True
            ):
                edge = Edge(ids[known[source]], ids[known[target]], kind, float(f"{weight:.6g}"))
                found.append((source, target, rank, edge))
        return [edge for *_, edge in sorted(found, key=lambda one: one[:3])]

    def around(
        self, ids: Sequence[str], most: int, weights: EdgeWeights | None = None
    ) -> list[str]:
        """Return the nearest neighbours of some passages, those with the heaviest edges first.

        Args:
            ids: of passages, unique; they are not returned.
            most: neighbours to return, at least 0.
            weights: what each kind counts; `EdgeWeights()` by default.
        """
        rows = self.ids.rows(ids)
        rows = rows[rows >= 0]
        total = np.zeros(len(self))
        for kind in KINDS:
            counts = (weights or EdgeWeights()).of(kind)
            if counts and self.counts.get(kind):
                edges = self.edges[kind]
                total += counts * (edges[rows].sum(axis=0) + edges[:, rows].sum(axis=1))
        total[rows] = 0.0
        if not most:
            return []
        return self.ids.take(best_rows(total, np.flatnonzero(total), most))

    def _prepared(self, weights: EdgeWeights, within: frozenset[str] | None) -> Walk:
        total = sp.csr_array((len(self), len(self)), dtype=np.float64)
        for kind in KINDS:
            counts = weights.of(kind)
            if counts and self.counts.get(kind):
                one = self.edges[kind].astype(np.float64)
                mutual = kind == "knn" and weights.knn_symmetry == "mutual"
                both = one.minimum(one.T) if mutual else one.maximum(one.T)
                total = total + counts * both
        allowed = self.allowed(within)
        if allowed is not None:
            exists = sp.diags_array(allowed.astype(np.float64))
            total = exists @ total @ exists
        return Walk.over(_capped(sp.csr_array(total), weights.degree_cap))


def _capped(weights: Any, most: int) -> Any:
    """Return the matrix with the `most` largest entries of each row, ties to the lower column."""
    weights.sort_indices()
    degrees = np.diff(weights.indptr)
    if not len(degrees) or degrees.max() <= most:
        return weights
    rows = np.repeat(np.arange(len(degrees)), degrees)
    order = np.lexsort((weights.indices, -weights.data, rows))
    rank = np.arange(len(rows)) - weights.indptr[rows]  # rows are in order, so is their block
    kept = np.sort(order[rank < most])
    return sp.csr_array(
        (weights.data[kept], (rows[kept], weights.indices[kept])), shape=weights.shape
    )

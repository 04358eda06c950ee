"""Approximate search by a graph of near neighbours: HNSW."""

from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar

import numpy as np

from retrievers.dense.faiss_rows import FEW, FaissRows, Selection, approximate, faiss, need_faiss
from retrievers.dense.kinds import Engine, KindName
from retrievers.dense.scan import Allowed
from retrievers.dense.vectors import VectorStore

_EXTRA = 32  # so that ties at the last place are mostly among the candidates
_WORTH = 30  # rows that are scanned in the time that one place of the beam takes


@dataclass(frozen=True, slots=True)
class HNSW:
    """Walks a layered graph from neighbour to neighbour; made for more than about 300k vectors.

    Filtered and dead rows are walked through but not returned, so the beam widens by their share.
    Source: Malkov and Yashunin 2018, arXiv 1603.09320, as in faiss.

    Attributes:
        m: neighbours of a row on an upper layer, twice as many on the lowest; in [2, 512].
        ef_construction: beam width while building, at least 1; more is better and slower to build.
        ef_search: beam width while searching, at least 1, raised to twice the number of results;
            more is better and slower.
        scan_up_to: up to how many allowed rows are compared one and all instead, at least 0; None
            takes 2000, or 30 times the beam, since either walk then takes about as long.
    """

    name: ClassVar[KindName] = "hnsw"
    exact: ClassVar[bool] = False

    m: int = 32
    ef_construction: int = 80
    ef_search: int = 128
    scan_up_to: int | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.m <= 512:
            raise ValueError(f"m must be in [2, 512], got {self.m}")
        for field, low in (("ef_construction", 1), ("ef_search", 1), ("scan_up_to", 0)):
            value = getattr(self, field)
            if value is not None and value < low:
                raise ValueError(f"{field} must be at least {low}, got {value}")

    def open(self, store: VectorStore) -> Engine:
        """Return an engine over a store.

        Raises:
            MissingExtraError: if faiss is not installed.
        """
        need_faiss("HNSW")
        return _Graph(store, self)

    def least_vectors(self, dim: int) -> int:  # noqa: ARG002 - any width will do
        """Return 0."""
        return 0

    def structure(self) -> tuple[object, ...]:
        """Return what decides the graph."""
        return (self.m, self.ef_construction)


class _Graph(FaissRows):
    """Rows in an `IndexHNSWFlat`."""

    def __init__(self, store: VectorStore, kind: HNSW) -> None:
        super().__init__(store, self._empty)
        self._kind = kind

    def candidates(self, units: np.ndarray, top_k: int, allowed: Allowed) -> list[np.ndarray]:
        """Return rows that are probably the best."""
        beam = ceil(max(self._kind.ef_search, 2 * top_k) / allowed.share)
        fetch = min(top_k + _EXTRA, len(allowed.rows))

        def search(selection: Selection) -> np.ndarray:
            asked = faiss().SearchParametersHNSW(efSearch=max(beam, fetch))
            asked.sel = selection.selector
            return np.asarray(self.index.search(units, fetch, params=asked)[1])

        few = self._kind.scan_up_to
        few = max(FEW, _WORTH * beam) if few is None else few
        return approximate(self._store, units, top_k, allowed, scan_up_to=few, search=search)

    def _empty(self, store: VectorStore) -> Any:
        index = faiss().IndexHNSWFlat(store.dim, self._kind.m, faiss().METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self._kind.ef_construction
        return index

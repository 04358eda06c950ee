"""Approximate search by lists of compressed vectors: IVF-PQ."""

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any, ClassVar

import numpy as np

from retrievers.dense.faiss_rows import FEW, FaissRows, Selection, approximate, faiss, need_faiss
from retrievers.dense.kinds import Engine, KindName
from retrievers.dense.scan import Allowed, scan
from retrievers.dense.vectors import VectorStore

_PER_CENTROID = 4  # fewest training vectors of a centroid
_SAMPLE = 256  # most training vectors of a centroid, as faiss advises


@dataclass(frozen=True, slots=True)
class IVFPQ:
    """Looks into the nearest lists of a coarse clustering, at vectors kept as a few bytes each.

    Centroids and codebooks are learnt once, from the vectors of the first build; what is added
    later is coded by them. An index that starts empty scans until there are enough to learn from.
    The store's own vectors rank what the codes found.
    Source: Jegou et al. 2011, doi:10.1109/TPAMI.2010.57, as in faiss.

    Attributes:
        lists: clusters; None takes 4 sqrt(n), at most n / 39, of the vectors trained on.
        sub_quantisers: parts that a vector is coded in, a divisor of its width; None takes the
            largest whose parts have at least 8 components. A code takes this many times `bits`.
        bits: of one part's code, in [4, 12].
        probes: lists looked into, at least 1, raised until they hold twice the candidates; more is
            better and slower.
        refine: candidates for each result asked for, at least 1, that exact scores then rank.
        scan_up_to: up to how many allowed rows are compared one and all instead, at least 0; None
            takes 2000, a quarter of the rows in the lists looked into, or 8 times the candidates.
    """

    name: ClassVar[KindName] = "ivfpq"
    exact: ClassVar[bool] = False

    lists: int | None = None
    sub_quantisers: int | None = None
    bits: int = 8
    probes: int = 32
    refine: int = 4
    scan_up_to: int | None = None

    def __post_init__(self) -> None:
        if not 4 <= self.bits <= 12:
            raise ValueError(f"bits must be in [4, 12], got {self.bits}")
        lows = {"lists": 1, "sub_quantisers": 1, "probes": 1, "refine": 1, "scan_up_to": 0}
        for field, low in lows.items():
            value = getattr(self, field)
            if value is not None and value < low:
                raise ValueError(f"{field} must be at least {low}, got {value}")

    def open(self, store: VectorStore) -> Engine:
        """Return an engine over a store; until there are enough vectors to train, it scans.

        Raises:
            MissingExtraError: if faiss is not installed.
            ValueError: if `sub_quantisers` does not divide the width.
        """
        need_faiss("IVFPQ")
        self.parts(store.dim)
        return _Lists(store, self)

    def least_vectors(self, dim: int) -> int:
        """Return the fewest vectors to train on: 4 a centroid, of the lists and of a codebook.

        Raises:
            ValueError: if `sub_quantisers` does not divide the width.
        """
        self.parts(dim)
        return _PER_CENTROID * max(self.lists or 1, (1 << self.bits))

    def structure(self) -> tuple[object, ...]:
        """Return what decides the lists and codes."""
        return (self.lists, self.sub_quantisers, self.bits)

    def parts(self, dim: int) -> int:
        """Return in how many parts vectors of a width are coded.

        Raises:
            ValueError: if `sub_quantisers` does not divide the width.
        """
        if self.sub_quantisers is None:
            parts = range(max(dim // 8, 1), 0, -1)
            return next(part for part in parts if dim % part == 0)
        if dim % self.sub_quantisers:
            raise ValueError(f"sub_quantisers must divide {dim}, got {self.sub_quantisers}")
        return self.sub_quantisers


class _Lists(FaissRows):
    """Rows in an `IndexIVFPQ`."""

    def __init__(self, store: VectorStore, kind: IVFPQ) -> None:
        super().__init__(store, self._trained)
        self._kind = kind

    def candidates(self, units: np.ndarray, top_k: int, allowed: Allowed) -> list[np.ndarray]:
        """Return rows that are probably the best."""
        if self.index is None:
            return scan(self._store, units, top_k, allowed)
        fetch = min(self._kind.refine * top_k, len(allowed.rows))
        size = self._store.rows / self.index.nlist
        probes = ceil(max(self._kind.probes, 2 * fetch / size) / allowed.share)
        asked = faiss().SearchParametersIVF(nprobe=min(probes, self.index.nlist))

        def search(selection: Selection) -> np.ndarray:
            asked.sel = selection.selector
            # One by one: faiss adds up a batch in another way, which may choose other lists.
            found = [self.index.search(unit[None], fetch, params=asked)[1] for unit in units]
            return np.concatenate(found)

        few = self._kind.scan_up_to
        few = max(FEW, int(probes * size / 4), 8 * fetch) if few is None else few
        return approximate(self._store, units, top_k, allowed, scan_up_to=few, search=search)

    def _trained(self, store: VectorStore) -> Any:
        if len(store) < self._kind.least_vectors(store.dim):
            return None
        lists = self._kind.lists or max(1, min(round(4 * sqrt(len(store))), len(store) // 39))
        quantiser = faiss().IndexFlatIP(store.dim)
        parts = self._kind.parts(store.dim)
        index = faiss().IndexIVFPQ(
            quantiser, store.dim, lists, parts, self._kind.bits, faiss().METRIC_INNER_PRODUCT
        )
        for training in (index.cp, index.pq.cp):
            training.min_points_per_centroid = 1  # fewer than 39 are worse, and no news
        rows = store.in_order()
        most = _SAMPLE * max(lists, (1 << self._kind.bits))
        if len(rows) > most:
            rows = np.random.default_rng(0).choice(rows, most, replace=False)
        index.train(store.stored(rows).astype(np.float32, copy=False))
        return index

"""Exact search by faiss: `IndexFlatIP`, in memory or on a GPU."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rag.errors import MissingExtraError
from retrievers.dense.exact import Scan
from retrievers.dense.faiss_rows import FaissRows, Selection, faiss, installed, need_faiss
from retrievers.dense.kinds import Engine, KindName
from retrievers.dense.scan import MARGIN, Allowed, scan
from retrievers.dense.vectors import VectorStore

_EXTRA = 32  # a few more than asked for nearly always reach below the margin
_SCAN_SHARE = 0.25  # faiss asks its selector row by row; below this share gathering is faster
_BATCH = 16  # queries of which one matrix product in numpy is faster than as many walks here
_GPU_LIMIT = 2_048  # most results that faiss gives on a GPU


@dataclass(frozen=True, slots=True)
class Flat:
    """Compares the query with every vector, in faiss's float32 copy of the store.

    Without faiss, numpy scans the store itself: slower by little, with the same results.

    Source: Douze et al. 2024, arXiv 2401.08281.

    Attributes:
        gpu: whether the copy is on the first GPU; needs a build of faiss for GPUs.
    """

    name: ClassVar[KindName] = "flat"
    exact: ClassVar[bool] = True

    gpu: bool = False

    def open(self, store: VectorStore) -> Engine:
        """Return an engine over a store.

        Raises:
            MissingExtraError: if `gpu` is set and faiss is not installed, or not for GPUs.
        """
        if self.gpu:
            need_faiss("Flat(gpu=True)", extra="gpu")
            if not hasattr(faiss(), "StandardGpuResources"):
                raise MissingExtraError(
                    "Flat(gpu=True) needs faiss for GPUs, and the one installed is not; "
                    "pip install 'dovetail-rag[gpu]'"
                )
        return _Flat(store, gpu=self.gpu) if installed("faiss") else Scan(store)

    def least_vectors(self, dim: int) -> int:  # noqa: ARG002 - any width will do
        """Return 0."""
        return 0

    def structure(self) -> tuple[object, ...]:
        """Return nothing, since copying is quick."""
        return ()


class _Flat(FaissRows):
    """Rows in an `IndexFlatIP`."""

    def __init__(self, store: VectorStore, *, gpu: bool) -> None:
        super().__init__(store, self._on_gpu if gpu else _in_memory)
        self._gpu = gpu
        self._resources: Any = None

    def candidates(self, units: np.ndarray, top_k: int, allowed: Allowed) -> list[np.ndarray]:
        """Return rows that surely include the best."""
        count = len(allowed.rows)
        fetch = min(top_k + _EXTRA, count)
        if self._gpu:
            in_numpy = fetch > _GPU_LIMIT or allowed.share < 1.0
        else:
            in_numpy = len(units) >= _BATCH or allowed.share < _SCAN_SHARE
        if in_numpy or top_k >= count:
            return scan(self._store, units, top_k, allowed)
        scores, places = self._search(units, fetch, allowed)
        found = []
        for unit, score, rows in zip(units, scores, places, strict=True):
            floor = score[top_k - 1] - MARGIN
            if fetch < count and score[-1] >= floor:  # so many near ties that some may be missing
                found.extend(scan(self._store, unit[None], top_k, allowed))
            else:
                found.append(rows[score >= floor])
        return found

    def dump(self) -> np.ndarray | None:
        """Return None: the vectors are all there is."""
        return None

    def _search(
        self, units: np.ndarray, fetch: int, allowed: Allowed
    ) -> tuple[np.ndarray, np.ndarray]:
        selection = Selection.of(allowed)
        if selection.selector is None:
            scores, places = self.index.search(units, fetch)
        else:
            asked = faiss().SearchParameters(sel=selection.selector)
            scores, places = self.index.search(units, fetch, params=asked)
        return scores, places

    def _on_gpu(self, store: VectorStore) -> Any:
        self._resources = faiss().StandardGpuResources()
        return faiss().GpuIndexFlatIP(self._resources, store.dim)


def _in_memory(store: VectorStore) -> Any:
    return faiss().IndexFlatIP(store.dim)

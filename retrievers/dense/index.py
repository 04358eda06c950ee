"""Dense search: a mutable index of unit vectors over one store, with candidates of any kind."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np

from rag.records import Hit
from retrievers.dense import files
from retrievers.dense.exact import Exact
from retrievers.dense.faiss_rows import FaissRows, need_faiss
from retrievers.dense.flat import Flat
from retrievers.dense.kinds import Kind
from retrievers.dense.recall import EXACT, Recall, measure_recall
from retrievers.dense.scan import Allowed, scan
from retrievers.dense.vectors import VectorDtype, VectorStore

Backend = Literal["faiss", "numpy"]
_DEAD = 0.2  # share of dead rows above which the store is compacted
_FILTERS = 16  # filters whose rows are remembered


@dataclass(frozen=True, slots=True)
class DenseStatistics:
    """What an index holds.

    Attributes:
        vectors: that can be found.
        dead: rows that were deleted or replaced and still take space.
        tail: rows that are in memory only, dead ones included; the others may be a map of a file.
        vector_bytes: size of all rows, without what the kind of index holds beside them.
    """

    vectors: int
    dead: int
    tail: int
    vector_bytes: int


class DenseIndex:
    """Ranks passages by the inner product of unit vectors, that is by cosine.

    The kind finds candidates. All are then scored in float64 against the stored vectors, row by
    row, and ranked with ties by id; so exact kinds give the same ranking and the same scores, and
    an approximate kind may miss a passage but never misjudges one.

    `add`, `delete` and `compact` change the index, and must have it to themselves; everything else
    may run in any number of threads. Deleted and replaced vectors never come back, whatever the
    kind, but take space until a compaction, which happens by itself once they are over a fifth of
    the rows.
    """

    def __init__(
        self, dim: int, *, kind: Kind | None = None, dtype: VectorDtype = "float32"
    ) -> None:
        """Make an empty index; or use `build` or `load`.

        Args:
            dim: width of a vector, at least 1.
            kind: how candidates are found; by default `Flat()`.
            dtype: how vectors are kept; see `VectorStore`.

        Raises:
            ValueError: if dim or dtype is none of that, or the kind cannot index this width.
            MissingExtraError: if the kind needs a package that is not installed.
        """
        self._kind: Kind = Flat() if kind is None else kind
        self._recall: Recall | None = None
        self._ids: tuple[str, ...] | None = None
        self._filters: dict[frozenset[str] | None, Allowed] = {}
        self._lock = threading.Lock()
        self._restore: Callable[[], object] | None = None
        self._open(VectorStore(dim, dtype=dtype))

    @classmethod
    def build(
        cls,
        ids: Sequence[str],
        vectors: np.ndarray,
        *,
        kind: Kind | None = None,
        backend: Backend | None = None,
        dtype: VectorDtype = "float32",
    ) -> Self:
        """Index passages; the order in which they come makes no difference.

        Args:
            ids: unique passage ids; may be empty.
            vectors: (n, dim), of unit length within 1e-3.
            kind: how candidates are found.
            backend: short for a kind: `faiss` for `Flat()`, `numpy` for `Exact("numpy")`.
            dtype: how vectors are kept; see `VectorStore`.

        Raises:
            ValueError: if shapes do not fit, an id occurs twice, a vector is not of unit length
                (the message names its id), there are too few vectors for the kind, or both kind
                and backend are given.
            MissingExtraError: if the kind needs a package that is not installed.
        """
        if vectors.ndim != 2 or len(vectors) != len(ids) or vectors.shape[1] < 1:
            raise ValueError(f"vectors must be ({len(ids)}, dim), got {vectors.shape}")
        index = cls(vectors.shape[1], kind=_chosen(kind, backend), dtype=dtype)
        least = index.kind.least_vectors(index.dim)
        if len(ids) < least:
            raise ValueError(
                f"{index.kind} needs at least {least} vectors to train, got {len(ids)}"
            )
        index.add(ids, vectors)
        return index

    def __len__(self) -> int:
        return len(self._store)

    def __contains__(self, id_: object) -> bool:
        return id_ in self._store

    @property
    def ids(self) -> tuple[str, ...]:
        """Passage ids, ascending."""
        if self._ids is None:
            self._ids = self._store.ids()
        return self._ids

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self._store.dim

    @property
    def dtype(self) -> VectorDtype:
        """How vectors are kept."""
        return self._store.dtype

    @property
    def kind(self) -> Kind:
        """How candidates are found."""
        return self._kind

    @property
    def backend(self) -> Backend:
        """Which package finds the candidates; torch counts as numpy."""
        return "faiss" if isinstance(self._engine, FaissRows) else "numpy"

    @property
    def recall(self) -> Recall | None:
        """Recall as last measured; None once the index has changed. Exact kinds have 1."""
        return EXACT if self._kind.exact else self._recall

    @property
    def statistics(self) -> DenseStatistics:
        """Counts and sizes."""
        store = self._store
        row_bytes = store.dim * np.dtype(store.dtype).itemsize
        return DenseStatistics(len(store), store.dead, store.tail, store.rows * row_bytes)

    def add(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        """Add passages; a vector replaces an earlier one of its id.

        An approximate kind takes them in at once, an exact one when it is next asked.

        Args:
            ids: unique; may be empty.
            vectors: (n, dim), of unit length within 1e-3.

        Raises:
            ValueError: if shapes do not fit, an id occurs twice, or a vector is not of unit length;
                the message names its id. Nothing has changed then.
        """
        self._take_in(sync=False)
        self._store.add(ids, vectors)
        self._changed()

    def delete(self, ids: Iterable[str]) -> int:
        """Forget passages; return how many there were. Unknown ids are no error."""
        self._take_in(sync=False)
        count = self._store.delete(ids)
        self._changed()
        return count

    def compact(self) -> None:
        """Drop the space of what was deleted or replaced; an approximate kind is built again."""
        self._take_in(sync=False)
        self._compact()
        self._changed()

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return the stored vectors of passages: float32 (n, dim), in the order asked for.

        Raises:
            KeyError: for an unknown id.
        """
        return self._store.vectors(ids)

    def scores_of(self, vector: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """Return the inner products of given passages with a vector: float64 (n,), in their order.

        They are, to the last bit, the scores that a search returns.

        Raises:
            KeyError: for an unknown id.
            ValueError: if the vector is not (dim,), finite and not zero.
        """
        exact, _ = self._checked(vector)
        return self._store.scores(self._store.rows_of(ids), exact)

    def search_vector(
        self, vector: np.ndarray, top_k: int, *, within: frozenset[str] | None = None
    ) -> list[Hit]:
        """Return at most `top_k` hits by inner product, best first, ties by id.

        Args:
            vector: shape (dim,), finite, of any norm but 0.
            top_k: at least 1; may exceed n.
            within: the only ids that may be returned; None means all. Unknown ones are no error.

        Raises:
            ValueError: if the vector or top_k is none of that.
        """
        return self._search([self._checked(vector)], top_k, within)[0]

    def search_vectors(
        self,
        vectors: np.ndarray,
        top_k: int,
        *,
        within: frozenset[str] | None = None,
        exact: bool = False,
    ) -> list[list[Hit]]:
        """Return what `search_vector` returns for each vector, to the last bit, in less time.

        Args:
            vectors: (queries, dim), finite, of any norm but 0; queries may be 0.
            top_k: at least 1; may exceed n.
            within: the only ids that may be returned; None means all. Unknown ones are no error.
            exact: whether to compare every vector even if the kind is approximate.

        Raises:
            ValueError: if the vectors or top_k are none of that.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise ValueError(f"vectors must be (queries, {self.dim}), got {vectors.shape}")
        return self._search([self._checked(one) for one in vectors], top_k, within, exact=exact)

    def measure(
        self,
        queries: np.ndarray | None = None,
        *,
        top_k: int = 100,
        sample: int = 100,
        seed: int = 0,
    ) -> Recall:
        """Measure recall as `measure_recall` does, and keep it: `recall` returns it, `save` too."""
        if self._kind.exact:
            return EXACT
        self._recall = measure_recall(self, queries, top_k=top_k, sample=sample, seed=seed)
        return self._recall

    def save(self, folder: Path) -> None:
        """Write the index into a folder, made if need be, as `.npy` and JSON files.

        An approximate kind is saved with its engine, and with its recall, which is measured if it
        was not since the last change. It keeps dead rows on disk too; `compact` before saving
        where a deleted vector must be gone. Indexes loaded from the folder before stay valid.
        """
        self._take_in(sync=not self._kind.exact)
        if self.recall is None:
            self.measure()
        files.write(folder, self._store, self._kind, self.recall, self._engine.dump())

    @classmethod
    def load(
        cls, folder: Path, *, kind: Kind | None = None, backend: Backend | None = None
    ) -> Self:
        """Open a saved index; vectors are mapped, and the engine is read when first needed.

        An engine that is missing, or not the one that was saved, is built again.

        Args:
            folder: what `save` wrote, now or in the first format.
            kind: how candidates are found; by default as saved.
            backend: short for a kind, as in `build`.

        Raises:
            IndexFolderError: if a file is missing, damaged, or of another format.
            MissingExtraError: if the kind needs a package that is not installed.
            ValueError: if both kind and backend are given.
        """
        saved = files.read(folder)
        index = cls(saved.store.dim, kind=_chosen(kind, backend) or saved.kind)
        index._open(saved.store)
        made, sha256 = saved.kind, saved.engine
        if made is not None and (made.name, made.structure()) == (
            index.kind.name,
            index.kind.structure(),
        ):
            index._restore = lambda: _restore(index, folder, sha256)
        index._recall = saved.recall if index.kind == made else None
        return index

    def _open(self, store: VectorStore) -> None:
        self._store = store
        self._engine = self._kind.open(store)

    def _checked(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a query in float64, and as a float32 unit vector."""
        if vector.shape != (self.dim,):
            raise ValueError(f"vector must be ({self.dim},), got {vector.shape}")
        exact = vector.astype(np.float64)
        with np.errstate(over="ignore"):
            norm = np.linalg.norm(exact)
        if not (np.isfinite(norm) and norm > 0.0):
            raise ValueError(f"vector must be finite and not zero, got norm {norm}")
        return exact, (exact / norm).astype(np.float32)

    def _search(
        self,
        queries: list[tuple[np.ndarray, np.ndarray]],
        top_k: int,
        within: frozenset[str] | None,
        *,
        exact: bool = False,
    ) -> list[list[Hit]]:
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        allowed = self._allowed(within)
        if not (len(queries) and len(allowed.rows)):
            return [[] for _ in queries]
        units = np.stack([unit for _, unit in queries])
        if exact:
            found = scan(self._store, units, top_k, allowed)
        else:
            self._take_in(sync=True)
            found = self._engine.candidates(units, top_k, allowed)
        return [
            self._ranked(rows, query, top_k)
            for (query, _), rows in zip(queries, found, strict=True)
        ]

    def _ranked(self, rows: np.ndarray, query: np.ndarray, top_k: int) -> list[Hit]:
        scores = self._store.scores(rows, query)
        if len(rows) > top_k:
            # Everything that ties with the last place stays until ids have decided.
            last = np.partition(scores, len(scores) - top_k)[len(scores) - top_k]
            rows, scores = rows[scores >= last], scores[scores >= last]
        hits = [
            Hit(self._store.name(row), score)
            for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
        ]
        hits.sort(key=lambda hit: (-hit.score, hit.id))
        return hits[:top_k]

    def _allowed(self, within: frozenset[str] | None) -> Allowed:
        known = self._filters.get(within)
        if known is not None:
            return known
        mask = self._store.alive
        if within is not None:
            mask = np.zeros(self._store.rows, np.bool_)
            mask[self._store.known_rows(within)] = True
        allowed = Allowed.of(mask)
        with self._lock:
            while len(self._filters) >= _FILTERS:
                del self._filters[next(iter(self._filters))]
            self._filters[within] = allowed
        return allowed

    def _take_in(self, *, sync: bool) -> None:
        """Read the saved engine if that is still to be done, and the store's new rows."""
        with self._lock:
            if self._restore is not None:
                self._restore()
                self._restore = None
            if sync:
                self._engine.sync()

    def _changed(self) -> None:
        self._filters.clear()
        self._ids = None
        self._recall = None
        if self._store.dead > _DEAD * self._store.rows:
            self._compact()
        if not self._kind.exact:
            self._engine.sync()

    def _compact(self) -> None:
        self._store.compact()
        self._engine.reset()


def _restore(index: DenseIndex, folder: Path, sha256: str | None) -> None:
    data = None if sha256 is None else files.read_engine(folder, sha256)
    if data is not None:
        index._engine.restore(data)  # noqa: SLF001 - a part of loading


def _chosen(kind: Kind | None, backend: Backend | None) -> Kind | None:
    if backend is None:
        return kind
    if kind is not None:
        raise ValueError(f"kind or backend, not both, got {kind} and {backend!r}")
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {get_args(Backend)}, got {backend!r}")
    if backend == "faiss":
        need_faiss("backend 'faiss'")
        return Flat()
    return Exact("numpy")

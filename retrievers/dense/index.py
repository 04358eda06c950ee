"""Dense search: exact inner products with every vector."""

import importlib.util
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from rag.errors import IndexFolderError, MissingExtraError
from rag.files import write_atomically
from rag.records import Hit
from retrievers.arrays import write_array
from retrievers.ranking import best_rows, rows_by_id

Backend = Literal["faiss", "numpy"]
_FORMAT = 1
# Largest error of a float32 inner product of unit vectors, with room to spare: what lies this
# close to the last place is compared again in float64.
_MARGIN = 1e-5


class DenseIndex:
    """Ranks passages by the inner product of unit vectors, that is by cosine. Immutable once built.

    faiss, or numpy without it, finds the candidates; both then score them in float64 row by row, so
    the ranking and its scores are the same, and equal vectors tie exactly.

    Attributes:
        ids: passage ids, ascending; a passage's row is its place in them.
    """

    def __init__(
        self, ids: Sequence[str], vectors: np.ndarray, *, backend: Backend | None = None
    ) -> None:
        """Wrap finished arrays; use `build` or `load`.

        Args:
            ids: passage ids, ascending, unique.
            vectors: float32 (n, dim), unit length.
            backend: which finds candidates; by default faiss where it is installed.

        Raises:
            MissingExtraError: if faiss is asked for and not installed.
        """
        installed = importlib.util.find_spec("faiss") is not None
        if backend == "faiss" and not installed:
            raise MissingExtraError("faiss is not installed; pip install 'dovetail-rag[cpu]'")
        self.ids = tuple(ids)
        self._vectors = vectors
        self._backend: Backend = backend or ("faiss" if installed else "numpy")
        self._row = {id_: row for row, id_ in enumerate(self.ids)}

    @classmethod
    def build(
        cls, ids: Sequence[str], vectors: np.ndarray, *, backend: Backend | None = None
    ) -> Self:
        """Index passages; the order in which they come makes no difference.

        Args:
            ids: unique passage ids; may be empty.
            vectors: (n, dim), of unit length within 1e-3; kept as float32.
            backend: which finds candidates; by default faiss where it is installed.

        Raises:
            ValueError: if shapes do not fit, an id occurs twice, or a vector is not of unit length;
                the message names its id.
            MissingExtraError: if faiss is asked for and not installed.
        """
        if vectors.ndim != 2 or len(vectors) != len(ids) or vectors.shape[1] < 1:
            raise ValueError(f"vectors must be ({len(ids)}, dim), got {vectors.shape}")
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        wrong = np.flatnonzero(~(np.abs(norms - 1.0) <= 1e-3))  # a NaN is no comparison's friend
        if len(wrong):
            row = int(wrong[0])
            raise ValueError(f"vectors must have unit length, got {norms[row]} for {ids[row]!r}")
        order = rows_by_id(list(ids))
        kept = np.ascontiguousarray(vectors[order], dtype=np.float32)
        return cls([ids[row] for row in order], kept, backend=backend)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return int(self._vectors.shape[1])

    @property
    def backend(self) -> Backend:
        """What finds the candidates."""
        return self._backend

    def search_vector(self, vector: np.ndarray, top_k: int) -> list[Hit]:
        """Return at most `top_k` hits by inner product, best first, ties by id.

        Args:
            vector: shape (dim,), finite, of any norm but 0.
            top_k: at least 1; may exceed n.

        Raises:
            ValueError: if the vector or top_k is none of that.
        """
        if vector.shape != (self.dim,):
            raise ValueError(f"vector must be ({self.dim},), got {vector.shape}")
        exact = vector.astype(np.float64)
        norm = np.linalg.norm(exact)
        if not (np.isfinite(norm) and norm > 0.0):
            raise ValueError(f"vector must be finite and not zero, got norm {norm}")
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        rows = np.arange(len(self))
        if top_k < len(self):
            rows = self._candidates((exact / norm).astype(np.float32), top_k)
        # einsum adds up each row by itself; a matrix product may add up equal rows differently.
        scores = np.einsum("nd,d->n", self._vectors[rows].astype(np.float64), exact)
        best = best_rows(scores, np.arange(len(rows)), top_k)
        return [Hit(self.ids[rows[place]], float(scores[place])) for place in best]

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return the vectors of passages: float32 (n, dim), in the order asked for.

        Raises:
            KeyError: for an unknown id.
        """
        unknown = [id_ for id_ in ids if id_ not in self._row]
        if unknown:
            raise KeyError(f"no vector for passage {unknown[0]!r}")
        return np.asarray(self._vectors[[self._row[id_] for id_ in ids]], np.float32)

    def save(self, folder: Path) -> None:
        """Write the index into a folder, made if need be, as `.npy` and JSON files."""
        folder.mkdir(parents=True, exist_ok=True)
        write_array(folder / "vectors.npy", self._vectors)
        about = json.dumps({"format": _FORMAT, "dim": self.dim, "ids": self.ids}).encode()
        write_atomically(folder / "dense.json", lambda file: file.write(about))

    @classmethod
    def load(cls, folder: Path, *, backend: Backend | None = None) -> Self:
        """Open a saved index; its vectors are mapped, not read, until faiss copies them.

        Raises:
            IndexFolderError: if a file is missing, damaged, or of another format.
        """
        try:
            about = json.loads((folder / "dense.json").read_bytes())
            ids, dim = about["ids"], about["dim"]
            vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IndexFolderError(f"{folder} holds no readable dense index: {error!r}") from error
        fits = vectors.shape == (len(ids), dim) and vectors.dtype == np.float32
        if about.get("format") != _FORMAT or not fits:
            raise IndexFolderError(
                f"{folder} holds a dense index of another format, or parts of several; index again"
            )
        return cls(ids, vectors, backend=backend)

    def _candidates(self, unit: np.ndarray, top_k: int) -> np.ndarray:
        """Return ascending rows that surely include the best `top_k`, which is below n."""
        if self._backend == "numpy":
            scores = self._vectors @ unit
            last = np.partition(scores, len(scores) - top_k)[len(scores) - top_k]
            return np.flatnonzero(scores >= last - _MARGIN)
        # A few more than asked for nearly always reach below the margin; many near ties do not.
        found, places = self._flat.search(unit[None], min(top_k + 32, len(self)))
        floor = float(found[0, top_k - 1]) - _MARGIN
        if found[0, -1] >= floor and len(found[0]) < len(self):
            _, _, places = self._flat.range_search(unit[None], floor)
            return np.sort(places)
        return np.sort(places[0][found[0] >= floor])

    @cached_property
    def _flat(self) -> Any:
        """The vectors in faiss, which copies them."""
        import faiss

        index = faiss.IndexFlatIP(self.dim)
        index.add(np.ascontiguousarray(self._vectors))
        return index

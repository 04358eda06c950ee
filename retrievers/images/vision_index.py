"""Vectors of pictures, one or many for a passage: the best picture of a passage counts."""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from rag.errors import IndexFolderError
from rag.files import sync_folder, write_atomically
from rag.protocols import ImageEncoder
from rag.records import Hit
from retrievers.arrays import write_array
from retrievers.dense.index import DenseIndex

FORMAT = 1
ABOUT = "vision.json"
_VECTORS_NAME = re.compile(r"vision\.[0-9a-f]{8}\.npy")


@dataclass(frozen=True, slots=True)
class VisionIdentity:
    """The image encoder that made the vectors.

    Attributes:
        name: what the user called it.
        fingerprint: hash of its weights and settings.
        dim: width of a vector.
    """

    name: str
    fingerprint: str
    dim: int


class VisionIndex:
    """Ranks passages by the cosine of a query and their best picture; never changes.

    A passage has one row for an image, and one a frame for a clip. Search is exact, over the same
    engine as `retrievers.dense`, and satisfies `rag.protocols.VectorSearch`. All methods may run in
    any number of threads.

    Attributes:
        made_by: the image encoder of the rows.
        encoder: encodes queries, where one was given.
        shas: what the rows of a passage were made of, by passage id: an incremental build compares.
    """

    def __init__(
        self,
        rows: Mapping[str, np.ndarray],
        made_by: VisionIdentity,
        *,
        encoder: ImageEncoder | None = None,
        shas: Mapping[str, str] | None = None,
    ) -> None:
        """Index passages; the order in which they come makes no difference.

        Args:
            rows: vectors of each passage's pictures, (at least 1, dim), of unit length within 1e-3.
            made_by: the image encoder of the rows.
            encoder: encodes queries; None leaves that to whoever searches.
            shas: of what the rows were made of; of passages in `rows` only.

        Raises:
            ValueError: if shapes do not fit, a vector is not of unit length, or `shas` knows
                another passage.
            IndexFolderError: if the encoder is another than that of the rows; it names both.
        """
        for id_, vectors in rows.items():
            if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] != made_by.dim:
                raise ValueError(
                    f"rows of {id_!r} must be (at least 1, {made_by.dim}), got {vectors.shape}"
                )
        others = sorted((shas or {}).keys() - rows.keys())
        if others:
            raise ValueError(f"shas must be of passages with rows, got one of {others[0]!r}")
        self.made_by = made_by
        self.encoder = encoder
        self.shas = dict(shas or {})
        if encoder is not None:
            self.check_encoder(encoder)
        self._owners: list[str] = []
        self._rows: dict[str, list[str]] = {}
        # Rows are named so that ties between rows fall as ties between the ids of their passages.
        for id_ in sorted(rows):
            names = [f"{len(self._owners) + row:012d}" for row in range(len(rows[id_]))]
            self._owners += [id_] * len(names)
            self._rows[id_] = names
        self._most = max(map(len, self._rows.values()), default=1)
        stacked = [np.empty((0, made_by.dim), np.float32), *(rows[id_] for id_ in self._rows)]
        names = [name for of_passage in self._rows.values() for name in of_passage]
        try:
            self._index = DenseIndex.build(names, np.concatenate(stacked).astype(np.float32))
        except ValueError as error:
            raise ValueError(f"rows must be vectors of unit length: {error}") from error

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, id_: object) -> bool:
        return id_ in self._rows

    @property
    def ids(self) -> tuple[str, ...]:
        """Passage ids, ascending."""
        return tuple(self._rows)

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self.made_by.dim

    def search_vectors(
        self, vectors: np.ndarray, top_k: int, *, within: frozenset[str] | None = None
    ) -> list[list[Hit]]:
        """Return at most `top_k` passages for each vector by their best rows, ties by id.

        Args:
            vectors: (queries, dim), finite, of any norm but 0.
            top_k: at least 1; may exceed the passages.
            within: the only ids that may be returned; None means all. Unknown ones are no error.

        Raises:
            ValueError: if the vectors or top_k are none of that.
        """
        allowed = None if within is None else frozenset(self._names(within & self._rows.keys()))
        # So many rows are of `top_k` passages at least, however they are shared out.
        depth = top_k * self._most
        rankings = self._index.search_vectors(vectors, depth, within=allowed)
        return [self._best(hits)[:top_k] for hits in rankings]

    def scores_of(self, vector: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """Return the best inner product of each passage's rows with a vector: float64 (n,).

        They are, to the last bit, the scores that a search returns.

        Raises:
            KeyError: for an unknown id.
            ValueError: if the vector is not (dim,), finite and not zero.
        """
        self._check_known(ids)
        scores = self._index.scores_of(vector, self._names(ids))
        ends = np.cumsum([len(self._rows[id_]) for id_ in ids], dtype=np.int64)
        return np.array([part.max() for part in np.split(scores, ends)[: len(ids)]], np.float64)

    def rows_of(self, id_: str) -> np.ndarray:
        """Return the vectors of a passage's pictures, float32 (pictures, dim), in their order.

        Raises:
            KeyError: for an unknown id.
        """
        self._check_known([id_])
        return self._index.vectors(self._rows[id_])

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return a vector for each passage, float32 (n, dim): the direction of its rows' mean.

        Of rows that cancel out it is the first row.

        Raises:
            KeyError: for an unknown id.
        """
        found = np.empty((len(ids), self.dim), np.float32)
        for place, id_ in enumerate(ids):
            rows = self.rows_of(id_)
            mean = rows.mean(axis=0)
            norm = float(np.linalg.norm(mean))
            found[place] = mean / norm if norm > 1e-6 else rows[0]
        return found

    def check_encoder(self, encoder: ImageEncoder) -> None:
        """Make sure that the rows were made with this encoder.

        Raises:
            IndexFolderError: if not; the message names both.
        """
        made = self.made_by
        if made.fingerprint != encoder.fingerprint:
            raise IndexFolderError(
                f"the image vectors were made with encoder {made.name!r} "
                f"({made.fingerprint[:12]}), got {encoder.name!r} ({encoder.fingerprint[:12]}); "
                "use that one, or index the images again"
            )

    def save(self, folder: Path) -> None:
        """Write the index into a folder, made if need be; it holds the old one or the new.

        `vision.json` comes last and names the file of the vectors. Indexes loaded from the folder
        before stay valid.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        standing = [path for path in folder.iterdir() if _VECTORS_NAME.fullmatch(path.name)]
        name = f"vision.{secrets.token_hex(4)}.npy"
        vectors = self._index.vectors(self._names(self._rows))
        write_array(folder / name, vectors)
        about = {
            "format": FORMAT,
            "encoder": asdict(self.made_by),
            "vectors": name,
            "sha256": hashlib.sha256(vectors.data).hexdigest(),
            "ids": self._owners,
            "shas": self.shas,
        }
        text = json.dumps(about).encode()
        write_atomically(folder / ABOUT, lambda file: file.write(text))
        for path in standing:
            path.unlink(missing_ok=True)
        sync_folder(folder)

    @classmethod
    def load(cls, folder: Path, *, encoder: ImageEncoder | None = None) -> Self:
        """Read a saved index into memory.

        Args:
            folder: what `save` wrote.
            encoder: encodes queries; None leaves that to whoever searches.

        Raises:
            IndexFolderError: if a file is missing, damaged or of another format, or the encoder is
                another than the index's.
        """
        try:
            about = json.loads((folder / ABOUT).read_bytes())
            _check_format(folder, about["format"])
            vectors = np.load(folder / _vectors_name(about["vectors"]), allow_pickle=False)
            made_by = _identity(about["encoder"])
            _check_stored(vectors, about, made_by.dim)
            rows = _by_owner(about["ids"], vectors)
            index = cls(rows, made_by, shas=about["shas"])
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise IndexFolderError(
                f"{folder} holds no readable image vectors: {error!r}"
            ) from error
        if encoder is not None:
            index.check_encoder(encoder)
            index.encoder = encoder
        return index

    @staticmethod
    def remove(folder: Path) -> None:
        """Delete a saved index from a folder, if there is one; other files stay."""
        (folder / ABOUT).unlink(missing_ok=True)
        for path in folder.iterdir() if folder.is_dir() else ():
            if _VECTORS_NAME.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _best(self, hits: Sequence[Hit]) -> list[Hit]:
        """Return the passages of a ranking of rows, each at its best row."""
        best: dict[str, Hit] = {}
        for hit in hits:
            id_ = self._owners[int(hit.id)]
            best.setdefault(id_, Hit(id_, hit.score))
        return list(best.values())

    def _names(self, ids: Iterable[str]) -> list[str]:
        return [name for id_ in ids for name in self._rows[id_]]

    def _check_known(self, ids: Sequence[str]) -> None:
        for id_ in ids:
            if id_ not in self._rows:
                raise KeyError(f"no image vector for passage {id_!r}")


def _check_format(folder: Path, recorded: object) -> None:
    """Raise IndexFolderError if the format is none that is read here."""
    if recorded != FORMAT:
        raise IndexFolderError(
            f"{folder} holds image vectors of format {recorded!r}, and this Dovetail reads format "
            f"{FORMAT}; index the images again"
        )


def _vectors_name(recorded: str) -> str:
    """Return the name of the vectors' file, or raise ValueError if it is none of ours."""
    if not _VECTORS_NAME.fullmatch(recorded):
        raise ValueError(f"vectors must be a file of ours, got {recorded!r}")
    return recorded


def _identity(recorded: Mapping[str, object]) -> VisionIdentity:
    name, fingerprint, dim = (recorded[field] for field in ("name", "fingerprint", "dim"))
    if not (isinstance(name, str) and isinstance(fingerprint, str) and type(dim) is int):
        raise ValueError(f"encoder must have a name, a fingerprint and a dim, got {recorded!r}")
    return VisionIdentity(name, fingerprint, dim)


def _check_stored(vectors: np.ndarray, about: Mapping[str, object], dim: int) -> None:
    """Raise ValueError if the vectors are not those that `vision.json` speaks of."""
    ids, shas = about["ids"], about["shas"]
    if not (isinstance(ids, list) and all(type(id_) is str for id_ in ids)):
        raise ValueError("ids must be a list of passage ids")
    if not isinstance(shas, dict):
        raise ValueError(f"shas must be an object, got {shas!r}")  # noqa: TRY004 it is data
    if vectors.shape != (len(ids), dim) or vectors.dtype != np.float32:
        raise ValueError(
            f"vectors must be float32 ({len(ids)}, {dim}), got {vectors.dtype} {vectors.shape}"
        )
    if hashlib.sha256(np.ascontiguousarray(vectors).data).hexdigest() != about["sha256"]:
        raise ValueError("vectors are damaged: another SHA-256 than when they were written")


def _by_owner(owners: Sequence[str], vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Return the rows of each passage, in their order."""
    places: dict[str, list[int]] = {}
    for row, id_ in enumerate(owners):
        places.setdefault(id_, []).append(row)
    return {id_: vectors[rows] for id_, rows in places.items()}

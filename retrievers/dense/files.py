"""Dense indexes on disk: `vectors.npy`, `dense.json`, and an `index.faiss` as a mere cache."""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from rag.errors import IndexFolderError
from rag.files import sync_folder, write_atomically
from retrievers.arrays import write_array
from retrievers.dense.kinds import Kind, index_kind
from retrievers.dense.recall import Recall
from retrievers.dense.vectors import VectorStore

FORMAT = 2
ABOUT = "dense.json"
VECTORS = "vectors.npy"
ENGINE = "index.faiss"
_VECTORS_NAME = re.compile(r"vectors(\.[0-9a-f]{8})?\.npy")


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """What a folder holds.

    Attributes:
        store: its base is mapped, not read.
        kind: which made it; None in folders of the first format, which did not say.
        recall: as measured when it was saved; None where it was not.
        engine: SHA-256 of `index.faiss`, or None where there is none.
    """

    store: VectorStore
    kind: Kind | None
    recall: Recall | None
    engine: str | None


def write(
    folder: Path, store: VectorStore, kind: Kind, recall: Recall | None, engine: np.ndarray | None
) -> None:
    """Write an index into a folder, made if need be; it holds the old one or the new at any time.

    `dense.json` comes last and names the file of the vectors, so one that stands is not touched.

    Args:
        folder: where.
        store: written as it is for an approximate kind, whose rows must stay where they are; for an
            exact one without its dead rows, ordered by id.
        kind: recorded by name and settings.
        recall: recorded where measured.
        engine: bytes of `index.faiss`, uint8, or None.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    rows = store.in_order() if kind.exact else np.arange(store.rows)
    names = store.names()
    standing = [path for path in folder.iterdir() if _VECTORS_NAME.fullmatch(path.name)]
    vectors = f"vectors.{secrets.token_hex(4)}.npy" if standing else VECTORS
    write_array(folder / vectors, store.stored(rows))
    about: dict[str, Any] = {
        "format": FORMAT,
        "dim": store.dim,
        "dtype": store.dtype,
        "kind": {"name": kind.name, **_settings(kind)},
        "recall": None if recall is None else _recorded(recall),
        "vectors": vectors,
        "engine": None,
        "ids": [names[row] for row in rows],
    }
    if engine is not None:
        about["engine"] = hashlib.sha256(engine.data).hexdigest()
        write_atomically(folder / ENGINE, lambda file: file.write(engine.data))
    text = json.dumps(about).encode()
    write_atomically(folder / ABOUT, lambda file: file.write(text))
    for path in standing:
        path.unlink()
    if engine is None:
        (folder / ENGINE).unlink(missing_ok=True)
    sync_folder(folder)


def read(folder: Path) -> Saved:
    """Open a folder.

    Raises:
        IndexFolderError: if a file is missing, damaged, or of another format.
    """
    try:
        about = json.loads((folder / ABOUT).read_bytes())
        format_, ids, dim = about["format"], about["ids"], about["dim"]
        first = format_ == 1
        dtype = "float32" if first else about["dtype"]
        name = VECTORS if first else about["vectors"]
        if format_ not in (1, FORMAT) or not _VECTORS_NAME.fullmatch(name):
            raise _foreign(folder)
        vectors = np.load(folder / name, mmap_mode="r", allow_pickle=False)
        if vectors.shape != (len(ids), dim) or vectors.dtype not in (np.float32, np.float16):
            raise _foreign(folder)
        if vectors.dtype != np.dtype(dtype) or not all(
            id_ is None or type(id_) is str for id_ in ids
        ):
            raise _foreign(folder)
        store = VectorStore.wrap(ids, vectors)
        if first:
            return Saved(store, None, None, None)
        recall = None if about["recall"] is None else _recall(about["recall"])
        return Saved(store, _kind(about["kind"]), recall, about["engine"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexFolderError(f"{folder} holds no readable dense index: {error!r}") from error


def read_engine(folder: Path, sha256: str) -> np.ndarray | None:
    """Return the bytes of `index.faiss`, uint8, or None if it is missing or not that one."""
    try:
        data = np.fromfile(folder / ENGINE, np.uint8)
    except OSError:
        return None
    return data if hashlib.sha256(data.data).hexdigest() == sha256 else None


def _foreign(folder: Path) -> IndexFolderError:
    return IndexFolderError(
        f"{folder} holds a dense index of another format, or parts of several; index again"
    )


def _settings(kind: Kind) -> dict[str, object]:
    return {field.name: getattr(kind, field.name) for field in fields(kind)}  # type: ignore[arg-type]


def _kind(recorded: Mapping[str, Any]) -> Kind:
    settings = {name: value for name, value in recorded.items() if name != "name"}
    return index_kind(recorded["name"], **settings)


def _recorded(recall: Recall) -> dict[str, object]:
    return {"value": 1.0, "exact": True} if recall.exact else asdict(recall)


def _recall(recorded: Mapping[str, Any]) -> Recall:
    return Recall(**recorded)

"""Kinds of dense index: what each promises, and their names."""

from importlib import import_module
from typing import Any, ClassVar, Literal, Protocol, cast, get_args

import numpy as np

from retrievers.dense.scan import Allowed
from retrievers.dense.vectors import VectorStore

KindName = Literal["exact", "flat", "hnsw", "ivfpq"]
_HOMES: dict[KindName, tuple[str, str]] = {
    "exact": ("retrievers.dense.exact", "Exact"),
    "flat": ("retrievers.dense.flat", "Flat"),
    "hnsw": ("retrievers.dense.hnsw", "HNSW"),
    "ivfpq": ("retrievers.dense.ivfpq", "IVFPQ"),
}


class Engine(Protocol):
    """Finds candidates among the rows of a store; the index scores and ranks them."""

    def sync(self) -> None:
        """Take in the rows that the store got since the last time. Changes the engine."""

    def reset(self) -> None:
        """Forget all rows, since the store has moved them. Changes the engine."""

    def candidates(self, units: np.ndarray, top_k: int, allowed: Allowed) -> list[np.ndarray]:
        """Return candidate rows of each query, int64, unique, all of them allowed.

        There are at least `min(top_k, len(allowed.rows))`; an exact kind's surely include the best.
        What a query gets does not depend on the others. Only reads, after `sync`.

        Args:
            units: float32 (queries, dim), of unit length.
            top_k: at least 1.
            allowed: at least one row.
        """

    def dump(self) -> np.ndarray | None:
        """Return all that is slow to make again as bytes, uint8; None if nothing is. Reads."""

    def restore(self, data: np.ndarray) -> bool:
        """Take up what `dump` gave; return whether it fits the store. Changes the engine."""


class Kind(Protocol):
    """How candidates are found: a frozen dataclass of settings that makes an engine.

    Attributes:
        name: what an index folder calls it.
        exact: whether rankings equal those of comparing every vector.
    """

    name: ClassVar[KindName]
    exact: ClassVar[bool]

    def open(self, store: VectorStore) -> Engine:
        """Return an engine over a store; it may read rows only when they are first needed.

        Raises:
            MissingExtraError: if a package that it needs is not installed.
        """

    def least_vectors(self, dim: int) -> int:
        """Return the fewest vectors, of this width, that an index of this kind is built of.

        Raises:
            ValueError: if no index of this width can be built.
        """

    def structure(self) -> tuple[object, ...]:
        """Return the settings that decide what `dump` holds; searching's own are not among them."""


def index_kind(name: KindName, **settings: Any) -> Kind:
    """Return the kind of a name, with its defaults where no setting is given.

    Raises:
        ValueError: for an unknown name, or a setting out of range.
        TypeError: for an unknown setting.
    """
    if name not in get_args(KindName):
        raise ValueError(f"kind must be one of {get_args(KindName)}, got {name!r}")
    module, made = _HOMES[name]
    return cast("Kind", getattr(import_module(module), made)(**settings))

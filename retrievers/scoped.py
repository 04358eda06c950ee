"""Scopes: an index of which only some passages exist, for tenants that share one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rag.protocols import SparseSearch, VectorSearch
from rag.records import Hit, Passage, Query


@dataclass(frozen=True)
class ScopedSparse:
    """A `SparseSearch` that knows the passages of a scope only; callers can narrow it further.

    Scores are those of the whole index: document frequencies count every tenant's passages.

    Attributes:
        inner: searches the whole index.
        scope: ids of the passages that exist.
    """

    inner: SparseSearch
    scope: frozenset[str]

    def search(
        self, query: Query, top_k: int, *, within: frozenset[str] | None = None
    ) -> list[Hit]:
        """Return at most `top_k` hits of the scope, best first, ties by id."""
        return self.inner.search(query, top_k, within=_narrowed(self.scope, within))

    def search_batch(
        self, queries: Sequence[Query], top_k: int, *, within: frozenset[str] | None = None
    ) -> list[list[Hit]]:
        """Return what `search` returns for each query."""
        return self.inner.search_batch(queries, top_k, within=_narrowed(self.scope, within))

    def scores_of(
        self, query: Query, ids: Sequence[str], *, within: frozenset[str] | None = None
    ) -> np.ndarray:
        """Return the scores of given passages, float64 (n,).

        Raises:
            KeyError: for an id that is unknown or outside the scope.
        """
        _refuse_others(self.scope, ids)
        return self.inner.scores_of(query, ids, within=_narrowed(self.scope, within))


@dataclass(frozen=True)
class ScopedVectors:
    """A `VectorSearch` that knows the passages of a scope only; callers can narrow it further.

    Attributes:
        inner: searches the whole index.
        scope: ids of the passages that exist.
    """

    inner: VectorSearch
    scope: frozenset[str]

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self.inner.dim

    def search_vectors(
        self, vectors: np.ndarray, top_k: int, *, within: frozenset[str] | None = None
    ) -> list[list[Hit]]:
        """Return at most `top_k` hits of the scope for each vector, best first, ties by id."""
        return self.inner.search_vectors(vectors, top_k, within=_narrowed(self.scope, within))

    def scores_of(self, vector: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """Return the inner products of given passages with a vector, float64 (n,).

        Raises:
            KeyError: for an id that is unknown or outside the scope.
        """
        _refuse_others(self.scope, ids)
        return self.inner.scores_of(vector, ids)

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return the stored vectors of passages, float32 (n, dim).

        Raises:
            KeyError: for an id that is unknown or outside the scope.
        """
        _refuse_others(self.scope, ids)
        return self.inner.vectors(ids)

    def __contains__(self, id_: object) -> bool:
        return id_ in self.scope and id_ in self.inner


class ScopedPassages(Mapping[str, Passage]):
    """The passages of a scope by id; others are not there."""

    def __init__(self, inner: Mapping[str, Passage], scope: frozenset[str]) -> None:
        """Show those of `inner` whose id is in `scope`."""
        self._inner = inner
        self._scope = scope

    def __getitem__(self, id_: str) -> Passage:
        if id_ not in self._scope:
            raise KeyError(id_)
        return self._inner[id_]

    def __iter__(self) -> Iterator[str]:
        return (id_ for id_ in self._inner if id_ in self._scope)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@lru_cache(maxsize=256)
def _narrowed(scope: frozenset[str], within: frozenset[str] | None) -> frozenset[str]:
    """Return what both allow, as the same object for the same sets: engines know it again."""
    return scope if within is None else scope & within


def _refuse_others(scope: frozenset[str], ids: Sequence[str]) -> None:
    for id_ in ids:
        if id_ not in scope:
            raise KeyError(f"no passage {id_!r} in this scope")

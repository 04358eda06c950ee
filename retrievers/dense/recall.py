"""Recall: how many of the truly nearest vectors an approximate index finds, measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rag.records import Hit

_NOISE = 0.25  # length of what is added to a stored vector to make a query of it


@dataclass(frozen=True, slots=True)
class Recall:
    """A measured recall.

    Attributes:
        value: mean over the queries of the share of the `at` nearest that were found; in [0, 1].
        at: results asked for; None where nothing was measured, since the index is exact.
        queries: how many.
        seed: what drew them, or None for queries that were given.
        exact: whether the index compares every vector, so that nothing need be measured.
    """

    value: float
    at: int | None = None
    queries: int = 0
    seed: int | None = None
    exact: bool = False


EXACT = Recall(1.0, exact=True)


class _Searched(Protocol):
    @property
    def ids(self) -> tuple[str, ...]: ...
    def vectors(self, ids: Sequence[str]) -> np.ndarray: ...
    def search_vectors(
        self, vectors: np.ndarray, top_k: int, *, exact: bool = False
    ) -> list[list[Hit]]: ...


def measure_recall(
    index: _Searched,
    queries: np.ndarray | None = None,
    *,
    top_k: int = 100,
    sample: int = 100,
    seed: int = 0,
) -> Recall:
    """Compare an index with exact search over the same stored vectors.

    A result counts if its score reaches that of the last true one, so it makes no difference which
    of several equal vectors was found. Without queries, stored vectors are drawn and moved by noise
    of length 0.25 in a random direction (a cosine of about 0.97): easier than real questions, which
    lie outside the passages' cloud. Give real queries where there are any.

    Args:
        index: a `DenseIndex`.
        queries: (queries, dim), or None.
        top_k: results compared, at least 1; fewer if the index holds fewer.
        sample: stored vectors drawn without queries, at least 1; fewer if the index holds fewer.
        seed: of the draw.

    Raises:
        ValueError: if sample is below 1, or the queries cannot be searched for.
    """
    if sample < 1:
        raise ValueError(f"sample must be at least 1, got {sample}")
    drawn = queries is None
    if queries is None:
        queries = _near_stored(index, sample, np.random.default_rng(seed))
    shares = []
    for start in range(0, len(queries), 256):
        asked = queries[start : start + 256]
        true = index.search_vectors(asked, top_k, exact=True)
        for best, found in zip(true, index.search_vectors(asked, top_k), strict=True):
            if best:
                shares.append(sum(hit.score >= best[-1].score for hit in found) / len(best))
    value = float(np.mean(shares)) if shares else 1.0
    return Recall(value, top_k, len(queries), seed if drawn else None)


def _near_stored(index: _Searched, sample: int, random: np.random.Generator) -> np.ndarray:
    ids = index.ids
    chosen = random.permutation(len(ids))[:sample]
    vectors = index.vectors([ids[place] for place in chosen]).astype(np.float64)
    noise = random.standard_normal(vectors.shape)
    return np.asarray(vectors + _NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True))

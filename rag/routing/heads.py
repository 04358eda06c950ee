"""Logistic heads of a router: linear maps from a query's vector and n-grams to logits of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rag.routing.ngrams import WeightedNGrams


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A linear map to logits.

    Attributes:
        weight: float32 (features, labels).
        bias: float32 (labels,).
    """

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """A head over sentence vectors and one over each kind of n-gram; the mean of logits counts.

    For labels that exclude each other the softmax of mean logits is the geometric mean of the
    heads' own probabilities, at sum 1: a label that one head rules out is improbable.

    Attributes:
        vector: over sentence vectors of (dim,).
        ngrams: the n-grams and the head over each; may be empty.
    """

    vector: Linear
    ngrams: tuple[tuple[WeightedNGrams, Linear], ...] = ()

    def logits(self, texts: Sequence[str], vectors: np.ndarray) -> np.ndarray:
        """Return logits, float64 (n, labels).

        Args:
            texts: of queries, n; may be empty.
            vectors: of the same, (n, dim).
        """
        total = vectors.astype(np.float64) @ self.vector.weight + self.vector.bias
        for weighted, head in self.ngrams:
            for row, text in enumerate(texts):
                features, weights = weighted(text)
                total[row] += weights @ head.weight[features] + head.bias
        mean: np.ndarray = total / (1 + len(self.ngrams))
        return mean

"""The objective read literally, one number at a time; shares no code with what is tested."""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pytest


@dataclass
class Literal:
    """A pool, and the value of any set of its rows."""

    vectors: np.ndarray
    relevance: np.ndarray
    weights: np.ndarray
    groups: np.ndarray

    def __post_init__(self):
        self.rows = range(len(self.vectors))
        self.cos = [[self.cosine(u, v) for v in self.rows] for u in self.rows]

    def cosine(self, u, v):
        one, other = self.vectors[u].astype(float).tolist(), self.vectors[v].astype(float).tolist()
        lengths = math.sqrt(sum(x * x for x in one)) * math.sqrt(sum(x * x for x in other))
        return math.fsum(x * y for x, y in zip(one, other, strict=True)) / lengths if lengths else 0

    def similar(self, u, v):
        return max(0.0, self.cos[u][v])

    def distance(self, u, v):
        def scaled(row):
            numbers = self.vectors[row].astype(float).tolist()
            length = math.sqrt(sum(x * x for x in numbers)) or 1.0
            return [x / length for x in numbers]

        return math.dist(scaled(u), scaled(v)) / 2

    def parts(self, objective, chosen):
        """Relevance, coverage and diversity of a set, coefficients included."""
        covered = [
            self.weights[v] * max((self.similar(u, v) for u in chosen), default=0.0)
            for v in self.rows
        ]
        return (
            objective.relevance * sum(self.relevance[u] for u in chosen),
            objective.coverage * sum(covered),
            objective.diversity * self.diversity(objective.kind, list(chosen)),
        )

    def value(self, objective, chosen):
        return sum(self.parts(objective, chosen))

    def diversity(self, kind, chosen):
        pairs = list(combinations(chosen, 2))
        r = self.relevance
        if kind == "redundancy":
            return -sum(self.similar(u, t) for u, t in pairs)
        if kind == "dispersion":
            return sum(self.distance(u, t) for u, t in pairs)
        if kind == "groups":
            sums = {}
            for u in chosen:
                sums[self.groups[u]] = sums.get(self.groups[u], 0.0) + r[u]
            return sum(math.sqrt(total) for total in sums.values())
        if kind == "logdet":
            matrix = [
                [float(u == v) + math.sqrt(r[u] * r[v]) * self.cos[u][v] for v in chosen]
                for u in chosen
            ]
            return math.log(np.linalg.det(np.array(matrix))) if chosen else 0.0
        return 0.0


@pytest.fixture(scope="session")
def pool_of():
    """A maker of pools with some near copies, a copy, zero vectors and opposites."""

    def make(n, seed, dim=4):
        rng = np.random.default_rng(seed)
        vectors = rng.normal(size=(n, dim)) * rng.uniform(0.1, 10.0, size=(n, 1))
        if n > 3:
            vectors[1] = vectors[0]
            vectors[2] = 0.0
            vectors[3] = -3.0 * vectors[0]
        relevance = rng.random(n)
        weights = rng.random(n) * rng.integers(0, 2, n)
        return Literal(vectors, relevance, weights, rng.integers(-1, 3, n))

    return make

"""The sentences of all passages given, and how a value of each relates to the others'."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pruners.features.asked import QuestionFacts
from pruners.features.facts import PassageFacts

_NEAR = 32  # strongest sentences that all are compared with: bounds time and memory
_FLOOR = -6.0  # of what is counted in standard deviations below the best
_GAP_WEIGHT = 0.2  # cosine that a strong sentence may lack for one standard deviation of strength
_LEAST_SPREAD = 1e-3

RELATIONS = (
    "value",
    "to_passage_best",
    "to_passage_mean",
    "passage_to_best",
    "to_other_passages",
    "before",
    "after",
    "log_rank",
    "rank_share",
    "log_passage_rank",
)
"""Columns of `SentenceSet.relations`."""
BRIDGES = ("like_strong", "like_any", "named_by_strong", "names_strong", "passage_strength")
"""Columns of `SentenceSet.bridges`."""


class SentenceSet:
    """A question's sentences with their vectors, passages one after another.

    A value of a sentence depends on the set, but neither on the order of the passages nor, but for
    the last bits of a sum, on what computes it.

    Attributes:
        asked: facts of the question.
        passages: facts of the passages, m of them, each with at least one sentence.
        query: vector of the question, float64 (dim,).
        vectors: of the sentences, float32 (n, dim).
        owner: row of each sentence's passage, int64 (n,).
        starts: row of each passage's first sentence, int64 (m,).
        ends: row after its last one, int64 (m,).
        cosine: of question and sentence, float64 (n,).
    """

    def __init__(
        self,
        asked: QuestionFacts,
        query: np.ndarray,
        passages: Sequence[PassageFacts],
        vectors: np.ndarray,
    ) -> None:
        sizes = np.array([len(one.counts) for one in passages], np.int64)
        self.asked = asked
        self.passages = passages
        self.query = query.astype(np.float64)
        self.vectors = vectors.astype(np.float32)
        self.ends = np.cumsum(sizes)
        self.starts = self.ends - sizes
        self.owner = np.repeat(np.arange(len(passages)), sizes)
        self.cosine = self.dots(self.query)
        self._naming = self._names()

    def __len__(self) -> int:
        return len(self.owner)

    def dots(self, vector: np.ndarray) -> np.ndarray:
        """Return the product of each sentence's vector with one: float64 (n,).

        Summed row by row: equal sentences get equal values wherever they stand, which a product of
        matrices does not promise.
        """
        products: np.ndarray = (self.vectors * vector).sum(axis=1, dtype=np.float64)
        return products

    def passage_best(self, values: np.ndarray) -> np.ndarray:
        """Return each passage's largest value, (m,)."""
        best: np.ndarray = np.maximum.reduceat(values, self.starts)
        return best

    def passage_mean(self, values: np.ndarray) -> np.ndarray:
        """Return each passage's mean of values (n, ...): (m, ...)."""
        sizes = (self.ends - self.starts).reshape(-1, *[1] * (values.ndim - 1))
        mean: np.ndarray = np.add.reduceat(values, self.starts, axis=0) / sizes
        return mean

    def others_best(self, values: np.ndarray) -> np.ndarray:
        """Return for each sentence the best of the other passages, (n,); alone the least of all."""
        best = self.passage_best(values)
        if len(best) == 1:
            return np.full(len(self), values.min())
        second, first = np.argsort(best, kind="stable")[-2:]
        others = np.full(len(best), best[first])
        others[first] = best[second]
        return others[self.owner]

    def relations(self, values: np.ndarray) -> list[np.ndarray]:
        """Return `RELATIONS` of values (n,): against neighbours, passage and all, each (n,)."""
        best = self.passage_best(values)[self.owner]
        before, after = np.roll(values, 1), np.roll(values, -1)
        before[self.starts] = values[self.starts]
        after[self.ends - 1] = values[self.ends - 1]
        above = _above(values, np.zeros_like(self.owner))
        return [
            values,
            values - best,
            values - self.passage_mean(values)[self.owner],
            best - values.max(),
            values - self.others_best(values),
            before - values,
            after - values,
            np.log1p(above),
            above / len(self),
            np.log1p(_above(values, self.owner)),
        ]

    def bridges(self, values: np.ndarray) -> list[np.ndarray]:
        """Return `BRIDGES`: how sentences hang together with strong ones of other passages, (n,).

        A question of two hops names what the first passage is about; what the second one is about
        stands in the first. A sentence is as strong as its value is close to the best of all, in
        standard deviations.
        """
        strength = (values - values.max()) / max(_LEAST_SPREAD, float(values.std()))
        near = self._near(values)
        alike = self.vectors @ self.vectors[near].T  # (n, near)
        alike[self.owner[:, None] == self.owner[near]] = -1.0
        passage = np.maximum(_FLOOR, self.passage_best(strength))
        sentences, named = self._naming
        by = np.full(len(passage), _FLOOR)
        of = np.full(len(self), _FLOOR)
        np.maximum.at(by, named, strength[sentences])
        np.maximum.at(of, sentences, passage[named])
        like_strong = (alike + _GAP_WEIGHT * strength[near]).max(axis=1)
        return [
            np.maximum(-1.0, like_strong),
            alike.max(axis=1),
            by[self.owner],
            of,
            passage[self.owner],
        ]

    def _near(self, values: np.ndarray) -> np.ndarray:
        """Return the rows of the strongest sentences; ties at the border stay, within reason."""
        if len(values) <= _NEAR:
            return np.arange(len(values))
        rows = np.flatnonzero(values >= np.partition(values, -_NEAR)[-_NEAR])
        return rows[np.argsort(-values[rows], kind="stable")[: 4 * _NEAR]]

    def _names(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rows of sentences, and of the other passages whose subject they name."""
        subjects: dict[str, list[int]] = {}
        for place, one in enumerate(self.passages):
            if one.subject:
                subjects.setdefault(one.subject.split(" ", 2)[1], []).append(place)
        pairs = [
            (self.starts[place] + row, other)
            for place, one in enumerate(self.passages)
            for term in subjects.keys() & one.vocabulary
            for other in subjects[term]
            if other != place
            for row, line in enumerate(one.lines)
            if self.passages[other].subject in line
        ]
        found = np.array(pairs, np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]


def _above(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return how many values of its group are larger than each one: int64 (n,)."""
    order = np.lexsort((-values, group))
    value, of = values[order], group[order]
    new_group = np.append(True, of[1:] != of[:-1])
    new_value = new_group | np.append(True, value[1:] != value[:-1])
    rows = np.arange(len(order))
    above = np.empty(len(order), np.int64)
    above[order] = np.maximum.accumulate(np.where(new_value, rows, 0)) - np.maximum.accumulate(
        np.where(new_group, rows, 0)
    )
    return above

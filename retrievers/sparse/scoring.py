"""Scoring: weighted terms against a snapshot of postings, by a weighting."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rag.records import Hit
from retrievers.ranking import best_rows
from retrievers.sparse.postings import Snapshot
from retrievers.sparse.weighting import Weighting

_CACHE_BYTES = 64 << 20
_DENSE = 8  # a term in more than one of this many rows is added to all of them: that is faster
_FEW = 16  # where fewer than one of this many rows matter, all of them are not gone through


@dataclass(frozen=True, slots=True)
class _Weights:
    """What one term is worth in the passages of one segment.

    Attributes:
        rows: live rows that hold the term, ascending.
        scores: the term's score in each of them, float64.
        every: the scores of all rows, zeros included; None for a term that is not frequent.
    """

    rows: np.ndarray
    scores: np.ndarray
    every: np.ndarray | None

    def add_to(self, scores: np.ndarray, weight: float) -> None:
        """Add the weighted scores to those of all rows."""
        if self.every is not None:
            scores += self.every if weight == 1.0 else weight * self.every
        else:
            np.add.at(scores, self.rows, self.scores if weight == 1.0 else weight * self.scores)

    def add_at(self, wanted: np.ndarray, scores: np.ndarray, weight: float) -> None:
        """Add the weighted scores to those of the wanted rows."""
        if self.every is not None:
            scores += weight * self.every[wanted]
        elif len(self.rows):
            places = np.minimum(np.searchsorted(self.rows, wanted), len(self.rows) - 1)
            hit = self.rows[places] == wanted
            scores[hit] += weight * self.scores[places[hit]]


class Scorer:
    """Scores the passages of a snapshot. Keeps what recent terms are worth; safe for many threads.

    A passage's score is summed in float64 in the order of the terms' names, so it is the same to
    the last bit whatever segment holds the passage and whichever way it was asked for.
    """

    def __init__(self, snapshot: Snapshot, weighting: Weighting) -> None:
        """Read nothing yet.

        Raises:
            ValueError: if the weighting needs counts and the snapshot holds impacts.
        """
        if snapshot.holds_impacts and weighting.over == "counts":
            raise ValueError(
                f"an index of impacts needs weighting=Impact(), got weighting={weighting!r}"
            )
        self.snapshot = snapshot
        self.weighting = weighting
        mean = snapshot.total_length / snapshot.passages if snapshot.total_length else 1.0
        self._mean_length = mean
        self._norms: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()
        self._known: OrderedDict[str, list[_Weights | None]] = OrderedDict()
        self._known_bytes = 0
        self._spare: list[list[np.ndarray]] = []

    def df(self, term: str) -> int:
        """Return how many passages hold a term."""
        found = 0
        for part in self.snapshot.parts:
            column = part.segment.terms.row(term)
            found += len(part.postings(column)[0]) if column >= 0 else 0
        return found

    def idf(self, term: str) -> float:
        """Return a term's weight in the corpus; 0 for a term that no passage holds."""
        found = self.df(term)
        return self._idf(found) if found else 0.0

    def search(
        self, weights: Mapping[str, float], top_k: int, within: frozenset[str] | None
    ) -> list[Hit]:
        """Return at most `top_k` hits, best first, ties by id; scores of exactly 0 are left out."""
        terms = self._terms(weights)
        if not terms:
            return []
        buffers = self._borrow() if within is None else None
        found = [
            self._best(place, terms, top_k, within, buffers)
            for place in range(len(self.snapshot.parts))
        ]
        if buffers is not None:
            self._spare.append(buffers)
        if len(found) > 1:
            # Most of what the segments found falls below the last place: no need for its ids.
            every = np.concatenate([scores for _, scores in found])
            if len(every) > top_k:
                last = np.partition(every, len(every) - top_k)[len(every) - top_k]
                found = [(rows[scores >= last], scores[scores >= last]) for rows, scores in found]
        ranked = [
            pair
            for part, (rows, scores) in zip(self.snapshot.parts, found, strict=True)
            for pair in zip((-scores).tolist(), part.segment.ids.take(rows), strict=True)
        ]
        if len(found) > 1:
            ranked.sort()
        return [Hit(id_, -lost) for lost, id_ in ranked[:top_k]]

    def scores_of(self, weights: Mapping[str, float], ids: Sequence[str]) -> np.ndarray:
        """Return the scores of given passages, float64 (n,).

        Raises:
            KeyError: for an unknown id.
        """
        terms = self._terms(weights)
        scores = np.zeros(len(ids))
        missing = np.ones(len(ids), bool)
        for place, part in enumerate(self.snapshot.parts):
            rows = part.rows(ids)
            here = np.flatnonzero(rows >= 0)
            missing[here] = False
            scores[here] = self._scores_at(place, terms, rows[here])
        if missing.any():
            raise KeyError(f"no passage {ids[int(missing.argmax())]!r} in the sparse index")
        return scores

    def _terms(self, weights: Mapping[str, float]) -> list[tuple[float, list[_Weights | None]]]:
        """Return the terms that count, by name: each one's weight, and its worth by segment."""
        return [
            (float(weights[term]), worth)
            for term in sorted(weights)
            if weights[term] and (worth := self._worth(term))
        ]

    def _worth(self, term: str) -> list[_Weights | None]:
        """Return what a term is worth in each segment; nothing for an unknown term."""
        with self._lock:
            if term in self._known:
                self._known.move_to_end(term)
                return self._known[term]
        held: list[tuple[np.ndarray, np.ndarray] | None] = []
        for part in self.snapshot.parts:
            column = part.segment.terms.row(term)
            held.append(part.postings(column) if column >= 0 else None)
        found = sum(len(one[0]) for one in held if one)
        worth: list[_Weights | None] = []
        if found:
            idf = self._idf(found)
            worth = [self._weigh(place, one, idf) for place, one in enumerate(held)]
        self._remember(term, worth)
        return worth

    def _weigh(
        self, place: int, held: tuple[np.ndarray, np.ndarray] | None, idf: float
    ) -> _Weights | None:
        if held is None:
            return None
        rows, values = held
        part = self.snapshot.parts[place]
        if place not in self._norms:
            self._norms[place] = self.weighting.norms(part.segment.lengths, self._mean_length)
        scores = idf * self.weighting.inside(values, self._norms[place][rows])
        every = None
        if len(rows) * _DENSE > len(part.segment):
            every = np.zeros(len(part.segment))
            every[rows] = scores
        return _Weights(rows, scores, every)

    def _idf(self, found: int) -> float:
        snapshot = self.snapshot
        return self.weighting.idf(found, snapshot.passages, lambda: snapshot.frequencies)

    def _remember(self, term: str, worth: list[_Weights | None]) -> None:
        with self._lock:
            if term not in self._known:
                self._known[term] = worth
                self._known_bytes += _nbytes(worth)
            while self._known_bytes > _CACHE_BYTES and len(self._known) > 1:
                _, forgotten = self._known.popitem(last=False)
                self._known_bytes -= _nbytes(forgotten)

    def _scores_at(
        self, place: int, terms: list[tuple[float, list[_Weights | None]]], rows: np.ndarray
    ) -> np.ndarray:
        """Return the scores of some rows of a segment, in their order."""
        scores = np.zeros(len(rows))
        for weight, worth in terms:
            if (here := worth[place]) is not None:
                here.add_at(rows, scores, weight)
        return scores

    def _best(
        self,
        place: int,
        terms: list[tuple[float, list[_Weights | None]]],
        top_k: int,
        within: frozenset[str] | None,
        buffers: list[np.ndarray] | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best rows of a segment, best first, and their scores."""
        part = self.snapshot.parts[place]
        if within is not None:
            allowed = part.allowed(within)
            if len(allowed) * _FEW < len(part.segment):
                found = self._scores_at(place, terms, allowed)
            else:
                everything = np.zeros(len(part.segment))
                self._add_up(place, terms, everything)
                found = everything[allowed]
            best = best_rows(found, np.flatnonzero(found), top_k)
            return allowed[best], found[best]
        assert buffers is not None
        scores = buffers[place]  # zeros, and to be left so
        here = [worth[place] for _, worth in terms]
        used = [one for one in here if one is not None]
        self._add_up(place, terms, scores)
        few = sum(len(one.rows) for one in used) * _FEW < len(scores)
        if few:
            touched = _unique([one.rows for one in used])
            best = touched[best_rows(scores[touched], np.flatnonzero(scores[touched]), top_k)]
        else:
            best = best_rows(scores, _candidates(scores, top_k), top_k)
        found = scores[best]
        scores[touched if few else slice(None)] = 0.0
        return best, found

    def _add_up(
        self, place: int, terms: list[tuple[float, list[_Weights | None]]], scores: np.ndarray
    ) -> None:
        for weight, worth in terms:
            if (here := worth[place]) is not None:
                here.add_to(scores, weight)

    def _borrow(self) -> list[np.ndarray]:
        """Return zeros for the rows of every segment, used before if possible."""
        try:
            return self._spare.pop()
        except IndexError:
            return [np.zeros(len(part.segment)) for part in self.snapshot.parts]


def _candidates(scores: np.ndarray, top_k: int) -> np.ndarray:
    """Return ascending rows among which are the best `top_k` that do not score 0."""
    depth = min(64, len(scores) // (8 * top_k))
    if depth >= 4:
        # The best of each column are scores of different rows, so the top_k-th largest of them is
        # at most the top_k-th largest score.
        width = len(scores) // depth
        columns = scores[: width * depth].reshape(depth, width).max(axis=0)
        floor = np.partition(columns, width - top_k)[width - top_k]
        if floor > 0.0:
            return np.flatnonzero(scores >= floor)
    return np.flatnonzero(scores)


def _unique(arrays: list[np.ndarray]) -> np.ndarray:
    """Return the different rows of several arrays, ascending."""
    if len(arrays) == 1:
        return arrays[0]
    rows = np.sort(np.concatenate(arrays)) if arrays else np.empty(0, np.int32)
    return rows[np.diff(rows, prepend=-1) > 0]


def _nbytes(worth: list[_Weights | None]) -> int:
    used = (one for one in worth if one is not None)
    return 64 + sum(
        one.rows.nbytes + one.scores.nbytes + (0 if one.every is None else one.every.nbytes)
        for one in used
    )

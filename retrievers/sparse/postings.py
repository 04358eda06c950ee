"""Postings: the changing set of segments behind a sparse index, with exact statistics."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from retrievers.sparse.segment import Batch, LiveSegment, build_segment, merged_segment

_MOST_SEGMENTS = 8
_MOST_DEAD = 0.2  # of a segment


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The live passages at one moment. Immutable, safe for many threads.

    Attributes:
        parts: the segments; every passage is alive in exactly one.
    """

    parts: tuple[LiveSegment, ...] = ()

    @cached_property
    def passages(self) -> int:
        """How many passages are alive."""
        return sum(map(len, self.parts))

    @cached_property
    def total_length(self) -> int:
        """Sum of the lengths of live passages."""
        return sum(part.total_length for part in self.parts)

    @property
    def holds_impacts(self) -> bool:
        """Whether values are impacts; False for an empty one."""
        return bool(self.parts) and self.parts[0].segment.holds_impacts

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """All live ids, ascending."""
        live = (part.segment.ids.take(np.flatnonzero(part.alive)) for part in self.parts)
        return tuple(sorted(id_ for ids in live for id_ in ids))

    @cached_property
    def frequencies(self) -> np.ndarray:
        """How many live passages hold each term that any holds: int64 (vocabulary,), any order."""
        if not self.parts:
            return np.empty(0, np.int64)
        base, *others = sorted(self.parts, key=lambda part: -len(part.segment.terms))
        found = base.found.copy()
        beyond: dict[str, int] = {}
        for part in others:
            terms = part.segment.terms.all()
            columns = base.segment.terms.rows(terms)
            known = columns >= 0
            found[columns[known]] += part.found[known]
            for column in np.flatnonzero(~known).tolist():
                term = terms[column]
                beyond[term] = beyond.get(term, 0) + int(part.found[column])
        every = np.concatenate([found, np.fromiter(beyond.values(), np.int64, len(beyond))])
        return every[every > 0]

    def place(self, id_: str) -> tuple[LiveSegment, int]:
        """Return where a passage is: its segment and row.

        Raises:
            KeyError: for an unknown id.
        """
        for part in self.parts:
            if (row := part.row(id_)) >= 0:
                return part, row
        raise KeyError(f"no passage {id_!r} in the sparse index")


class Postings:
    """Segments that take and lose passages. Readers work on snapshots, which never change.

    What is added waits in a tail until somebody reads. One lock guards all changes, so many threads
    may read and write; a read that finds a tail turns it into a segment first.
    """

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        """Begin with a snapshot, or empty."""
        self._lock = threading.RLock()
        self._snapshot = snapshot or Snapshot()
        self._tail: dict[Batch, None] = {}
        self._waiting: dict[str, Batch] = {}  # id of every passage in the tail

    def snapshot(self) -> Snapshot:
        """Return what there is now, the tail included."""
        if self._waiting or self._tail:
            with self._lock:
                self._drain()
        return self._snapshot

    def add(self, batch: Batch) -> None:
        """Take a batch, which belongs to the postings from now on; known ids are replaced.

        Raises:
            ValueError: if it holds impacts and the postings hold counts, or the other way round.
        """
        if not batch.passages:
            return
        with self._lock:
            held = [waiting.impacts for waiting in self._tail] or [
                self._snapshot.holds_impacts for _ in self._snapshot.parts[:1]
            ]
            if held and held[0] is not batch.impacts:
                kinds = ("impacts", "counts") if held[0] else ("counts", "impacts")
                raise ValueError(f"an index of {kinds[0]} takes only {kinds[0]}, got {kinds[1]}")
            # First, as a reader who sees a tail waits for the lock: one who saw none while old
            # passages leave it would miss those and their replacements.
            self._tail[batch] = None
            self._forget(batch.passages)
            self._waiting.update(dict.fromkeys(batch.passages, batch))

    def delete(self, ids: Iterable[str]) -> int:
        """Delete passages and return how many there were; unknown ids are ignored."""
        with self._lock:
            before = self.snapshot()
            parts, gone = _without(before.parts, list(dict.fromkeys(ids)))
            if gone:
                self._snapshot = Snapshot(_settled(parts))
            return gone

    def merge(self) -> None:
        """Make one segment without deleted passages."""
        with self._lock:
            parts = self.snapshot().parts
            if len(parts) > 1 or any(len(part.dead) for part in parts):
                self._snapshot = Snapshot((LiveSegment(merged_segment(parts)),))

    def _forget(self, ids: Iterable[str]) -> None:
        """Drop passages from the tail."""
        for id_ in ids:
            batch = self._waiting.pop(id_, None)
            if batch is not None:
                del batch.passages[id_]
                if not batch.passages:
                    del self._tail[batch]

    def _drain(self) -> None:
        """Turn the tail into a segment."""
        if not self._tail:
            return
        segment = build_segment(list(self._tail))
        parts, _ = _without(self._snapshot.parts, list(self._waiting))
        self._snapshot = Snapshot(_settled((*parts, LiveSegment(segment))))
        self._tail, self._waiting = {}, {}


def _without(
    parts: Sequence[LiveSegment], ids: Sequence[str]
) -> tuple[tuple[LiveSegment, ...], int]:
    """Return segments without passages, and how many those were; unknown ids are ignored."""
    left, gone = [], 0
    for part in parts:
        rows = part.rows(ids)
        rows = rows[rows >= 0].astype(np.int32)
        gone += len(rows)
        left.append(part.without(rows) if len(rows) else part)
    return tuple(left), gone


def _settled(parts: Sequence[LiveSegment]) -> tuple[LiveSegment, ...]:
    """Return segments, largest first, neither too many nor with too many deleted passages.

    Those that merge are the smallest, and then each larger one that is not at least twice what has
    been gathered, so that a passage is written again only about log2(passages) times.
    """
    kept = [
        part
        if len(part.dead) <= _MOST_DEAD * len(part.segment)
        else LiveSegment(merged_segment([part]))
        for part in parts
        if len(part)
    ]
    kept.sort(key=len, reverse=True)
    while len(kept) > _MOST_SEGMENTS:
        first, gathered = len(kept) - 1, len(kept[-1])
        while first and (first == len(kept) - 1 or len(kept[first - 1]) < 2 * gathered):
            first -= 1
            gathered += len(kept[first])
        kept[first:] = [LiveSegment(merged_segment(kept[first:]))]
        kept.sort(key=len, reverse=True)
    return tuple(kept)

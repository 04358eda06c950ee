"""Segments: immutable postings of some passages, by term and by passage, in arrays."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from retrievers.sorted_strings import SortedStrings

_COUNTS = (np.uint8, np.uint16, np.int32)
VALUE_TYPES = (*_COUNTS, np.float32)
_FILTERS_KEPT = 8


@dataclass(frozen=True, eq=False)
class Segment:
    """Passages with their terms, in both directions. Its arrays never change.

    Values are counts in the smallest of uint8, uint16 and int32 that holds them, or impacts in
    float32, all above 0.

    Attributes:
        ids: passage ids; a passage's row is its place in them.
        terms: terms that some passage holds; a term's column is its place in them.
        starts: where each term's postings begin, and the end: int64 (terms + 1,).
        rows: passages that hold each term, ascending within a term: int32 (postings,).
        values: the value at each of `rows`.
        row_starts: where each passage's entries begin, and the end: int64 (passages + 1,).
        columns: terms that each passage holds, ascending within a passage: int32 (postings,).
        row_values: the value at each of `columns`.
        lengths: sum of a passage's counts, or how many impacts it has: int32 (passages,).
        name: a random name, under which it is stored.
        homes: folders that hold its files; saving appends to it.
    """

    ids: SortedStrings
    terms: SortedStrings
    starts: np.ndarray
    rows: np.ndarray
    values: np.ndarray
    row_starts: np.ndarray
    columns: np.ndarray
    row_values: np.ndarray
    lengths: np.ndarray
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    homes: list[Path] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def holds_impacts(self) -> bool:
        """Whether its values are impacts, not counts."""
        return self.values.dtype == np.float32

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (self.starts, self.rows, self.values, self.row_starts, self.columns)
        strings = self.ids.nbytes + self.terms.nbytes
        return strings + sum(a.nbytes for a in (*arrays, self.row_values, self.lengths))

    def postings(self, column: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows that hold a term, ascending, and its value in each."""
        held = slice(int(self.starts[column]), int(self.starts[column + 1]))
        return self.rows[held], self.values[held]

    def entries(self, row: int) -> dict[str, float]:
        """Return the terms of a passage with their values."""
        held = slice(int(self.row_starts[row]), int(self.row_starts[row + 1]))
        names = self.terms.take(self.columns[held])
        return dict(zip(names, map(float, self.row_values[held].tolist()), strict=True))


@dataclass(frozen=True, eq=False)
class LiveSegment:
    """A segment without the passages deleted from it. Immutable, safe for many threads.

    Attributes:
        segment: all passages.
        dead: rows that are deleted, ascending: int32 (deleted,).
    """

    segment: Segment
    dead: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    _allowed: dict[frozenset[str], np.ndarray] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self.segment) - len(self.dead)

    @cached_property
    def alive(self) -> np.ndarray:
        """Which rows are not deleted: bool (rows,)."""
        alive = np.ones(len(self.segment), bool)
        alive[self.dead] = False
        return alive

    @cached_property
    def total_length(self) -> int:
        """Sum of the lengths of live passages."""
        lengths = self.segment.lengths
        return int(lengths.sum(dtype=np.int64) - lengths[self.dead].sum(dtype=np.int64))

    @cached_property
    def found(self) -> np.ndarray:
        """How many live passages hold each term: int64 (terms,)."""
        found = np.diff(self.segment.starts)
        if not len(self.dead):
            return found
        starts = self.segment.row_starts
        each = starts[self.dead + 1] - starts[self.dead]
        # Places of all entries of the dead rows: each run counts on from its own start.
        runs = np.repeat(starts[self.dead] - (np.cumsum(each) - each), each)
        gone = self.segment.columns[runs + np.arange(len(runs))]
        return found - np.bincount(gone, minlength=len(found))

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """Return the row of each id, -1 where there is none alive: int64 (m,)."""
        rows = self.segment.ids.rows(ids)
        return np.where((rows >= 0) & self.alive[rows], rows, -1) if len(self.dead) else rows

    def row(self, id_: str) -> int:
        """Return the row of an id, -1 if there is none alive."""
        row = self.segment.ids.row(id_)
        return row if row < 0 or not len(self.dead) or self.alive[row] else -1

    def postings(self, column: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the live rows that hold a term, ascending, and its value in each."""
        rows, values = self.segment.postings(column)
        if not len(self.dead):
            return rows, values
        alive = self.alive[rows]
        return rows[alive], values[alive]

    def without(self, rows: np.ndarray) -> "LiveSegment":
        """Return the segment without some more rows, which are alive and unique."""
        return LiveSegment(self.segment, np.sort(np.concatenate([self.dead, rows]), kind="stable"))

    def allowed(self, within: frozenset[str]) -> np.ndarray:
        """Return the live rows whose id is in `within`, ascending int64; kept for the next time."""
        rows = self._allowed.get(within)
        if rows is None:
            if len(self.segment) <= len(within):
                inside = [id_ in within for id_ in self.segment.ids.all()]
                rows = np.flatnonzero(np.array(inside, bool) & self.alive)
            else:
                rows = self.rows(list(within))
                rows = np.sort(rows[rows >= 0])
            if len(self._allowed) >= _FILTERS_KEPT:
                self._allowed.clear()
            self._allowed[within] = rows
        return rows


class Batch:
    """Passages on their way into a segment, packed: terms are numbered, passages are bytes."""

    def __init__(self, *, impacts: bool) -> None:
        """Begin an empty batch, of counts or of impacts."""
        self.impacts = impacts
        self.terms: dict[str, int] = {}
        self.passages: dict[str, tuple[bytes, bytes]] = {}  # id: numbers int32, impacts float32

    def add_terms(self, id_: str, terms: Sequence[str]) -> None:
        """Take a passage as the list of its terms.

        Raises:
            TypeError: if an id or a term is not text.
        """
        known = self.terms
        _check_text(id_, terms)
        numbers = [known.setdefault(term, len(known)) for term in terms]
        self.passages[id_] = (np.array(numbers, np.int32).tobytes(), b"")

    def add_vector(self, id_: str, vector: Mapping[str, float]) -> None:
        """Take a passage as its terms with their impacts.

        Raises:
            TypeError: if an id or a term is not text.
            ValueError: if an impact is not above 0 and finite in float32.
        """
        _check_text(id_, vector)
        impacts = np.fromiter(vector.values(), np.float64, len(vector))
        with np.errstate(over="ignore", under="ignore"):
            stored = impacts.astype(np.float32)
        right = np.isfinite(stored) & (stored > 0.0)
        if not right.all():
            bad = list(vector)[int(right.argmin())]
            raise ValueError(
                f"impacts must be above 0 and finite in float32, got {vector[bad]} for {bad!r} "
                f"in passage {id_!r}"
            )
        known = self.terms
        numbers = [known.setdefault(term, len(known)) for term in vector]
        self.passages[id_] = (np.array(numbers, np.int32).tobytes(), stored.tobytes())


def _check_text(id_: object, terms: Iterable[object]) -> None:
    """Refuse what could not be sorted later, when the batch is part of the index already."""
    if not isinstance(id_, str):
        raise TypeError(f"ids must be text, got {id_!r}")
    if isinstance(terms, str) or not all(isinstance(term, str) for term in terms):
        raise TypeError(f"terms must be a list of texts, got {terms!r} for passage {id_!r}")


def build_segment(batches: Sequence[Batch]) -> Segment:
    """Return the passages of batches as one segment; batches are of one kind, ids unique."""
    vocabulary = sorted(set().union(*(batch.terms for batch in batches)))
    column = {term: place for place, term in enumerate(vocabulary)}
    ids = [id_ for batch in batches for id_ in batch.passages]
    columns, lengths, impacts = [], [], []
    for batch in batches:
        places = np.fromiter(map(column.__getitem__, batch.terms), np.int32, len(batch.terms))
        packed = list(batch.passages.values())
        numbers = np.frombuffer(b"".join(numbers for numbers, _ in packed), np.int32)
        columns.append(places[numbers])
        lengths.append(np.fromiter((len(one) // 4 for one, _ in packed), np.int64, len(packed)))
        impacts.append(np.frombuffer(b"".join(stored for _, stored in packed), np.float32))
    values = np.concatenate(impacts) if batches[0].impacts else None
    return _assembled(ids, vocabulary, np.concatenate(columns), np.concatenate(lengths), values)


def merged_segment(parts: Sequence[LiveSegment]) -> Segment:
    """Return the live passages of several segments, of one kind, as one."""
    live_terms = [part.segment.terms.take(np.flatnonzero(part.found)) for part in parts]
    vocabulary = sorted(set().union(*live_terms))
    column = {term: place for place, term in enumerate(vocabulary)}
    ids: list[str] = []
    columns, entries, values, lengths = [], [], [], []
    for part, held in zip(parts, live_terms, strict=True):
        segment = part.segment
        places = np.full(len(segment.terms), -1, np.int32)
        places[part.found > 0] = np.fromiter(map(column.__getitem__, held), np.int32, len(held))
        each = np.diff(segment.row_starts)
        live = np.repeat(part.alive, each)
        ids += segment.ids.take(np.flatnonzero(part.alive))
        columns.append(places[segment.columns[live]])
        values.append(segment.row_values[live])
        entries.append(each[part.alive])
        lengths.append(segment.lengths[part.alive])
    return _assembled(
        ids,
        vocabulary,
        np.concatenate(columns),
        np.concatenate(entries),
        np.concatenate(values),
        np.concatenate(lengths),
    )


def _assembled(
    ids: list[str],
    vocabulary: list[str],
    columns: np.ndarray,
    entries: np.ndarray,
    values: np.ndarray | None,
    lengths: np.ndarray | None = None,
) -> Segment:
    """Sort passages and postings into a segment.

    Args:
        ids: unique, in any order.
        vocabulary: ascending; terms that no passage holds are dropped.
        columns: terms of the passages, one passage after the other.
        entries: how many of `columns` belong to each passage.
        values: value of each entry, of which each passage has one a term; None counts `columns`.
        lengths: of each passage; None means `entries`.
    """
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)
    row_of = np.empty(len(ids), np.int64)
    row_of[order] = np.arange(len(ids))
    rows = np.repeat(row_of, entries)
    lengths = (entries if lengths is None else lengths)[order]
    used = np.bincount(columns, minlength=len(vocabulary)) > 0
    if not used.all():
        columns = (np.cumsum(used) - 1)[columns]
        vocabulary = [term for term, kept in zip(vocabulary, used.tolist(), strict=True) if kept]
    if values is None:
        # One number per (term, row): sorting it sorts by term, then by row.
        pairs = np.sort(columns.astype(np.int64) * len(ids) + rows)
        firsts = np.flatnonzero(np.diff(pairs, prepend=-1))
        values = np.diff(firsts, append=len(pairs))
        columns, rows = np.divmod(pairs[firsts], max(1, len(ids)))
    else:
        by_row = _stable_order(rows)
        by_term = by_row[_stable_order(columns[by_row])]
        columns, rows, values = columns[by_term], rows[by_term], values[by_term]
    values = values if values.dtype == np.float32 else _narrow(values)
    by_row = _stable_order(rows)
    return Segment(
        ids=SortedStrings.of([ids[row] for row in order.tolist()]),
        terms=SortedStrings.of(vocabulary),
        starts=_starts(columns, len(vocabulary)),
        rows=rows.astype(np.int32),
        values=values,
        row_starts=_starts(rows, len(ids)),
        columns=columns[by_row].astype(np.int32),
        row_values=values[by_row],
        lengths=lengths.astype(np.int32),
    )


def _stable_order(keys: np.ndarray) -> np.ndarray:
    """Return the order that sorts keys below 2**31, equal ones as they stood: int64 (n,)."""
    # Plain sorting of packed numbers is several times faster than a stable argsort.
    size = max(1, len(keys))
    packed = keys.astype(np.int64) * size + np.arange(len(keys))
    packed.sort()
    return packed % size


def _starts(sorted_keys: np.ndarray, size: int) -> np.ndarray:
    starts = np.zeros(size + 1, np.int64)
    np.cumsum(np.bincount(sorted_keys, minlength=size), out=starts[1:])
    return starts


def _narrow(counts: np.ndarray) -> np.ndarray:
    """Return counts in the smallest type that holds them."""
    most = int(counts.max(initial=0))
    return counts.astype(next(kind for kind in _COUNTS if most <= np.iinfo(kind).max))

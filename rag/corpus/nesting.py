"""Nesting: which passages of a document stand inside which others."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from rag.records import Passage


def covers(big: Passage, small: Passage) -> bool:
    """Tell whether a passage covers another: they share a document, and its span holds the other's.

    A passage covers itself, and two passages with one span cover each other.
    """
    return (
        big.document == small.document
        and big.span.start <= small.span.start
        and small.span.end <= big.span.end
    )


@dataclass
class _Family:
    """Passages of one document, in the order given, and what was found of each.

    Attributes:
        passages: of the document.
        parents: of each passage, the row of the smallest one that covers it, or None.
    """

    passages: list[Passage] = field(default_factory=list)
    parents: list[int | None] = field(default_factory=list)


class Nesting:
    """Small-to-big links among passages, such as a table's row, its table and its document.

    The parent of a passage is the shortest of the given ones that covers it, other than itself; on
    a tie the one that was given first. Of passages with one span, an earlier one counts as the
    larger, so that no two are each other's parent. Spans may overlap in any way.

    It takes O(n log n) to build; then links among the given passages are looked up. Nothing changes
    after that.

    Args:
        passages: of any documents and corpora.

    Raises:
        ValueError: if two passages have one id.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._families: dict[str, _Family] = {}
        self._parents: dict[str, str | None] = {}
        self._children: dict[str, list[Passage]] = {}
        for passage in passages:
            if passage.id in self._children:
                raise ValueError(f"ids of passages must be unique, got {passage.id!r} twice")
            self._children[passage.id] = []
            self._families.setdefault(passage.document, _Family()).passages.append(passage)
        for family in self._families.values():
            family.parents = _parents(family.passages)
            for passage, row in zip(family.passages, family.parents, strict=True):
                parent = None if row is None else family.passages[row].id
                self._parents[passage.id] = parent
                if parent is not None:
                    self._children[parent].append(passage)
        for children in self._children.values():
            children.sort(key=_place)

    def parent_of(self, passage: Passage) -> str | None:
        """Return the id of the smallest passage that covers this one, or None.

        A passage that was not given is compared with all of its document, as if given last.
        """
        if passage.id in self._parents:
            return self._parents[passage.id]
        family = self._families.get(passage.document, _Family())
        covering = [big for big in family.passages if covers(big, passage)]
        return min(covering, key=lambda big: len(big.span)).id if covering else None

    def children_of(self, passage: Passage) -> tuple[str, ...]:
        """Return the ids of the passages whose parent this is, in the document's order.

        A passage that was not given is compared with all of its document, as if given last.
        """
        if passage.id in self._children:
            return tuple(child.id for child in self._children[passage.id])
        family = self._families.get(passage.document, _Family())
        below = [
            small
            for small, row in zip(family.passages, family.parents, strict=True)
            if covers(passage, small)
            and small.span != passage.span
            and (row is None or len(passage.span) < len(family.passages[row].span))
        ]
        return tuple(small.id for small in sorted(below, key=_place))


def _place(passage: Passage) -> tuple[int, int]:
    """Order passages by where they begin, the longer one first."""
    return passage.span.start, -passage.span.end


def _parents(passages: Sequence[Passage]) -> list[int | None]:
    """Return the row of each passage's parent among passages of one document.

    Larger passages enter a table of their ends before smaller ones ask it: what entered begins
    no later, so among those that end no earlier the shortest is the parent.

    Args:
        passages: of one document, in the order given.
    """
    ends = sorted({passage.span.end for passage in passages})
    shortest = _SuffixMinimum(len(ends))
    parents: list[int | None] = [None] * len(passages)
    for row in sorted(range(len(passages)), key=lambda row: (*_place(passages[row]), row)):
        span = passages[row].span
        place = bisect_left(ends, span.end)
        found = shortest.of(place)
        parents[row] = None if found is None else found[1]
        shortest.put(place, (len(span), row))
    return parents


class _SuffixMinimum:
    """Smallest pair put at a place or after it: a Fenwick tree, O(log n) for each step.

    Source: Fenwick 1994, doi:10.1002/spe.4380240306, with minima in place of sums.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._least: list[tuple[int, int] | None] = [None] * (places + 1)

    def put(self, place: int, pair: tuple[int, int]) -> None:
        """Add a pair at a place, counted from 0."""
        at = self._places - place
        while at <= self._places:
            least = self._least[at]
            self._least[at] = pair if least is None else min(least, pair)
            at += at & -at

    def of(self, place: int) -> tuple[int, int] | None:
        """Return the smallest pair at the place or after it, or None."""
        at, best = self._places - place, None
        while at:
            least = self._least[at]
            if least is not None and (best is None or least < best):
                best = least
            at -= at & -at
        return best

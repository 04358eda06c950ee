"""Metadata filters: which passages a search may return, decided before anything is ranked."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from rag.records import Metadata

Value = str | int | float | bool
Op = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "exists"]
_RANGES = ("gt", "gte", "lt", "lte")
_LISTS = ("in", "nin")


@dataclass(frozen=True)
class Compare:
    """A comparison of one metadata field. A passage that lacks the field fits `exists: false` only.

    Text, numbers and flags are three kinds: a value of one kind never equals one of another. Text
    is ordered by code points, so dates compare if they are written as in ISO 8601.

    Attributes:
        field: name of the field.
        op: `eq`, `ne`, the ranges `gt`, `gte`, `lt`, `lte`, `in`, `nin`, or `exists`.
        value: one value; a tuple of them for `in` and `nin`; a flag for `exists`.

    Raises:
        ValueError: if op is unknown, or value does not suit it.
    """

    field: str
    op: Op
    value: Value | tuple[Value, ...]

    def __post_init__(self) -> None:
        name = f"filter.{self.field}.{self.op}"
        if self.op not in get_args(Op):
            raise ValueError(_unknown(f"filter.{self.field}", self.op, get_args(Op)))
        if self.op in _LISTS:
            if not isinstance(self.value, tuple):
                raise ValueError(f"{name} must be a list of values, got {self.value!r}")
            for one in self.value:
                _check_value(name, one)
        elif self.op == "exists":
            if not isinstance(self.value, bool):
                raise ValueError(f"{name} must be true or false, got {self.value!r}")
        else:
            _check_value(name, self.value)
            if self.op in _RANGES and isinstance(self.value, bool):
                raise ValueError(f"{name} must be a number or text, got {self.value!r}")

    def matches(self, metadata: Metadata) -> bool:
        """Tell whether a passage with this metadata is let through."""
        if self.op == "exists":
            return (self.field in metadata) is self.value
        if self.field not in metadata:
            return False
        found = metadata[self.field]
        if isinstance(self.value, tuple):
            return any(_equal(found, one) for one in self.value) is (self.op == "in")
        if self.op in ("eq", "ne"):
            return _equal(found, self.value) is (self.op == "eq")
        return kind_of(found) == kind_of(self.value) and _ordered(self.op, found, self.value)

    @property
    def values(self) -> tuple[Value, ...]:
        """What the field is compared with; nothing for `exists`."""
        if self.op == "exists":
            return ()
        return self.value if isinstance(self.value, tuple) else (self.value,)


@dataclass(frozen=True)
class And:
    """All parts hold; without parts, everything does."""

    parts: tuple[Node, ...]

    def matches(self, metadata: Metadata) -> bool:
        """Tell whether a passage with this metadata is let through."""
        return all(part.matches(metadata) for part in self.parts)


@dataclass(frozen=True)
class Or:
    """At least one part holds; without parts, nothing does."""

    parts: tuple[Node, ...]

    def matches(self, metadata: Metadata) -> bool:
        """Tell whether a passage with this metadata is let through."""
        return any(part.matches(metadata) for part in self.parts)


@dataclass(frozen=True)
class Not:
    """The part does not hold; a passage that lacks the field is let through."""

    part: Node

    def matches(self, metadata: Metadata) -> bool:
        """Tell whether a passage with this metadata is let through."""
        return not self.part.matches(metadata)


Node = Compare | And | Or | Not


@dataclass(frozen=True)
class Filter:
    """A condition on the metadata of passages.

    Attributes:
        node: the condition as a tree.
    """

    node: Node

    @classmethod
    def parse(cls, given: Mapping[str, Any] | Filter) -> Filter:
        """Return the filter that a mapping describes.

        `{"year": 2024}` wants a value, `{"lang": ["en", "de"]}` one of several,
        `{"year": {"gte": 2020, "lt": 2024}}` a range. Several fields must all fit. `and` and `or`
        take a list of such mappings, `not` takes one. Operators: `eq`, `ne`, `gt`, `gte`, `lt`,
        `lte`, `in`, `nin`, `exists`.

        Raises:
            ValueError: for anything else; the message names the place.
        """
        return given if isinstance(given, Filter) else cls(_all(given, "filter"))

    def __and__(self, other: Filter) -> Filter:
        return Filter(And((self.node, other.node)))

    def matches(self, metadata: Metadata) -> bool:
        """Tell whether a passage with this metadata is let through."""
        return self.node.matches(metadata)

    @property
    def comparisons(self) -> list[Compare]:
        """Every comparison in it, in order."""
        return list(_comparisons(self.node))


class MetadataIndex:
    """The metadata of a corpus, asked for the ids that a filter lets through. Immutable.

    Args:
        metadata: id of each passage with its metadata.
    """

    def __init__(self, metadata: Iterable[tuple[str, Metadata]]) -> None:
        self._metadata = dict(metadata)
        # By text, as filters that compare with 1 and with true are equal in Python.
        self._selected: dict[str, frozenset[str]] = {}

    @cached_property
    def fields(self) -> Mapping[str, frozenset[str]]:
        """Every field that some passage has, with the kinds of its values."""
        found: dict[str, set[str]] = {}
        for metadata in self._metadata.values():
            for field, value in metadata.items():
                found.setdefault(field, set()).add(kind_of(value))
        return {field: frozenset(kinds) for field, kinds in sorted(found.items())}

    def select(self, wanted: Filter) -> frozenset[str]:
        """Return the ids of the passages that a filter lets through; kept for the next time.

        Raises:
            ValueError: if no passage has a field, or none of its values is of a kind that the
                filter compares it with: such a filter is a mistake, not an empty result.
        """
        key = repr(wanted)
        if key not in self._selected:
            self._check(wanted)
            self._selected[key] = frozenset(
                id_ for id_, metadata in self._metadata.items() if wanted.matches(metadata)
            )
        return self._selected[key]

    def _check(self, wanted: Filter) -> None:
        if not self._metadata:
            return
        for compare in wanted.comparisons:
            kinds = self.fields.get(compare.field)
            if kinds is None:
                raise ValueError(_unknown("filter", compare.field, list(self.fields)))
            for value in compare.values:
                if kind_of(value) not in kinds:
                    raise ValueError(
                        f"filter.{compare.field} must be {' or '.join(sorted(kinds))}, as in the "
                        f"index, got {value!r}"
                    )


def kind_of(value: Any) -> str:
    """Return `flag`, `number` or `text`."""
    if isinstance(value, bool):
        return "flag"
    return "number" if isinstance(value, (int, float)) else "text"


def _equal(found: Any, value: Any) -> bool:
    return kind_of(found) == kind_of(value) and bool(found == value)


def _ordered(op: str, found: Any, value: Any) -> bool:
    holds = {
        "gt": found > value,
        "gte": found >= value,
        "lt": found < value,
        "lte": found <= value,
    }
    return bool(holds[op])


def _comparisons(node: Node) -> Iterable[Compare]:
    if isinstance(node, Compare):
        yield node
    elif isinstance(node, Not):
        yield from _comparisons(node.part)
    else:
        for part in node.parts:
            yield from _comparisons(part)


def _all(given: Any, name: str) -> Node:
    """Return what a mapping says: all of its keys must hold."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} must map fields to conditions, got {given!r}")  # noqa: TRY004
    parts = [part for key, value in given.items() for part in _parts(str(key), value, name)]
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _parts(key: str, value: Any, name: str) -> list[Node]:
    place = f"{name}.{key}"
    if key == "not":
        return [Not(_all(value, place))]
    if key in ("and", "or"):
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ValueError(f"{place} must be a list of conditions, got {value!r}")
        inside = tuple(_all(one, f"{place}[{row}]") for row, one in enumerate(value))
        return [And(inside) if key == "and" else Or(inside)]
    if isinstance(value, Mapping):
        if not value:
            raise ValueError(f"{place} must hold an operator such as eq or gte, got none")
        return [_compare(key, str(op), found) for op, found in value.items()]
    return [_compare(key, "in" if isinstance(value, (list, tuple)) else "eq", value)]


def _compare(field: str, op: str, value: Any) -> Compare:
    given = tuple(value) if isinstance(value, (list, tuple)) else value
    return Compare(field, op, given)  # type: ignore[arg-type]


def _check_value(name: str, value: Any) -> None:
    if not isinstance(value, (str, int, float, bool)):
        raise ValueError(f"{name} must be text, a number or a flag, got {value!r}")  # noqa: TRY004
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{name} must be a number, got nan")


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(known) or "none"
    kind = "operator" if "." in what else "field"
    return f"{what} has no {kind} {name!r}{hint} (there are: {listed})"

"""Metadata filters in the languages of vector stores, with the meaning they have here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from retrievers.filters import And, Compare, Filter, Node, Not, Value, kind_of
from retrievers.stores.capability import Capability
from retrievers.stores.documents import field_of, from_document, key_of, stored_value

if TYPE_CHECKING:
    from langchain_core.documents import Document

_KINDS = ("flag", "number", "text")
_OPPOSITE = {
    "eq": "ne",
    "ne": "eq",
    "gt": "lte",
    "gte": "lt",
    "lt": "gte",
    "lte": "gt",
    "in": "nin",
    "nin": "in",
}
_EXACT = 2**53  # below it a float64 holds every whole number


@dataclass(frozen=True, slots=True)
class Has:
    """Whether a stored key is there."""

    key: str
    present: bool


@dataclass(frozen=True, slots=True)
class Match:
    """A comparison of a stored key's value; what it says of a missing key does not matter.

    Attributes:
        key: the stored key.
        kind: kind of its values: `flag`, `number` or `text`.
        op: as in `Compare`, without `exists`.
        values: what is compared with, as stored; one but for `in` and `nin`.
    """

    key: str
    kind: str
    op: str
    values: tuple[str | float | bool, ...]


@dataclass(frozen=True, slots=True)
class Ids:
    """Whether a document has one of these ids of the store."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Joined:
    """Several conditions, at least one."""

    how: Literal["and", "or"]
    parts: tuple[Plain, ...]


Plain = Has | Match | Ids | Joined


def native_filter(
    capability: Capability, where: Filter | None = None, within: frozenset[str] | None = None
) -> Any:
    """Return a condition in the store's language; None lets every document through.

    A document passes exactly if `where` matches the passage's metadata and its id is in `within`.

    Args:
        capability: of the store.
        where: condition on the metadata; None means none.
        within: the only ids that pass; None means all.

    Raises:
        NothingPasses: if no document can pass, so there is no need to ask.
        ValueError: if the store's language cannot say it.
    """
    if where is None and within is None:
        return None
    if capability.filters is None:
        raise ValueError(f"{capability.name} takes no filters, got {where or 'ids'}")
    if capability.filters == "python":
        return _predicate(where, within)
    parts: list[Plain | bool] = []
    if within is not None:
        parts.append(Ids(tuple(sorted(map(key_of, within)))) if within else False)
    if where is not None:
        parts.append(_plain(where.node, True, capability))
    plain = _joined("and", parts)
    if plain is False:
        raise NothingPasses
    return None if plain is True else _WRITERS[capability.filters](plain, capability)


class NothingPasses(Exception):  # noqa: N818 - an outcome that needs no search, not a mistake
    """A filter lets no document through, whatever is stored."""


def _predicate(where: Filter | None, within: frozenset[str] | None) -> Callable[[Document], bool]:
    keys = None if within is None else {key_of(id_) for id_ in within}

    def passes(document: Document) -> bool:
        if keys is not None and document.id not in keys:
            return False
        return where is None or where.matches(from_document(document).metadata)

    return passes


def _plain(node: Node, wanted: bool, capability: Capability) -> Plain | bool:
    """Return a node without negation: whether it is `wanted`, missing fields looked at.

    Stores differ in what a comparison with a missing key gives, and SQL's answer is neither true
    nor false. So negations are moved to the comparisons, and say themselves what missing means.
    """
    if isinstance(node, Not):
        return _plain(node.part, not wanted, capability)
    if isinstance(node, Compare):
        return _compared(node, wanted, capability)
    how: Literal["and", "or"] = "and" if isinstance(node, And) is wanted else "or"
    return _joined(how, [_plain(part, wanted, capability) for part in node.parts])


def _joined(how: Literal["and", "or"], parts: Iterable[Plain | bool]) -> Plain | bool:
    absorbing = how == "or"
    kept: list[Plain] = []
    for part in parts:
        if isinstance(part, bool):
            if part is absorbing:
                return absorbing
        else:
            kept.append(part)
    if not kept:
        return not absorbing
    return kept[0] if len(kept) == 1 else Joined(how, tuple(kept))


def _compared(node: Compare, wanted: bool, capability: Capability) -> Plain | bool:
    if node.op == "exists":
        return _present(node.field, bool(node.value) is wanted)
    positive = {"ne": "eq", "nin": "in"}.get(node.op, node.op)
    hit = [
        _test(node.field, kind, positive, values, capability)
        for kind, values in _by_kind(node.values)
    ]
    miss = [_joined("or", [Has(one.key, False), _opposite(one)]) for one in hit]
    if positive == node.op:
        return _joined("or", hit) if wanted else _joined("and", miss)
    if wanted:  # there is a value, and it is none of these
        return _joined("and", [_present(node.field, True), *miss])
    return _joined("or", [_present(node.field, False), *hit])


def _present(field: str, present: bool) -> Plain | bool:
    return _joined(
        "or" if present else "and", [Has(field_of(kind, field), present) for kind in _KINDS]
    )


def _by_kind(values: Sequence[Value]) -> list[tuple[str, list[Value]]]:
    found: dict[str, list[Value]] = {}
    for value in values:
        found.setdefault(kind_of(value), []).append(value)
    return sorted(found.items())


def _test(field: str, kind: str, op: str, values: Sequence[Value], capability: Capability) -> Match:
    for value in values:
        if kind == "number" and not abs(float(value)) < _EXACT:
            raise ValueError(
                f"filter.{field} must be below 2**53 for {capability.name}, as larger numbers are "
                f"not exact there, got {value!r}"
            )
    return Match(field_of(kind, field), kind, op, tuple(stored_value(value) for value in values))


def _opposite(test: Match) -> Match:
    return Match(test.key, test.kind, _OPPOSITE[test.op], test.values)


def _qdrant(plain: Plain, capability: Capability) -> Any:
    from qdrant_client import models

    found = _qdrant_condition(plain, capability)
    return found if isinstance(found, models.Filter) else models.Filter(must=[found])


def _qdrant_condition(plain: Plain, capability: Capability) -> Any:
    from qdrant_client import models

    if isinstance(plain, Joined):
        parts = [_qdrant_condition(part, capability) for part in plain.parts]
        return models.Filter(must=parts) if plain.how == "and" else models.Filter(should=parts)
    if isinstance(plain, Ids):
        return models.HasIdCondition(has_id=list(plain.keys))
    key = f"{capability.metadata_field}.{plain.key}"
    if isinstance(plain, Has):
        empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
        return models.Filter(must_not=[empty]) if plain.present else empty
    if plain.op in ("ne", "nin"):
        same = _qdrant_condition(_opposite(plain), capability)
        return models.Filter(must_not=[same])
    if plain.op in ("eq", "in"):
        return models.Filter(
            should=[
                models.FieldCondition(
                    key=key,
                    range=models.Range(gte=value, lte=value),
                )
                if plain.kind == "number"
                else models.FieldCondition(key=key, match=models.MatchValue(value=value))
                for value in plain.values
            ]
        )
    if plain.kind != "number":
        raise ValueError(
            f"{capability.name} cannot order text, only numbers; {plain.op} needs a number"
        )
    return models.FieldCondition(key=key, range=models.Range(**{plain.op: plain.values[0]}))


def _postgres(plain: Plain, capability: Capability) -> dict[str, Any]:
    if isinstance(plain, Joined):
        return {f"${plain.how}": [_postgres(part, capability) for part in plain.parts]}
    if isinstance(plain, Ids):
        return {capability.id_field: {"$in": list(plain.keys)}}
    if isinstance(plain, Has):
        return {plain.key: {"$exists": plain.present}}
    if plain.op in ("in", "nin") and plain.kind == "flag":  # its lists take no flags
        each = [
            {plain.key: {"$eq" if plain.op == "in" else "$ne": value}} for value in plain.values
        ]
        return {"$or" if plain.op == "in" else "$and": each}
    value = list(plain.values) if plain.op in ("in", "nin") else plain.values[0]
    return {plain.key: {f"${plain.op}": value}}


_MILVUS_SIGNS = {"eq": "==", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def _milvus(plain: Plain, capability: Capability) -> str:
    if isinstance(plain, Joined):
        return "(" + f" {plain.how} ".join(_milvus(part, capability) for part in plain.parts) + ")"
    if isinstance(plain, Ids):
        return f"{capability.id_field} in [{', '.join(map(_milvus_literal, plain.keys))}]"
    key = f'{capability.metadata_field}["{plain.key}"]'
    if isinstance(plain, Has):
        return f"exists {key}" if plain.present else f"(not exists {key})"
    if plain.op in ("in", "nin"):
        sign, how = ("==", " or ") if plain.op == "in" else ("!=", " and ")
        return "(" + how.join(f"{key} {sign} {_milvus_literal(v)}" for v in plain.values) + ")"
    return f"{key} {_MILVUS_SIGNS[plain.op]} {_milvus_literal(plain.values[0])}"


def _milvus_literal(value: str | float | bool) -> str:
    """Write a value; text is a key or hexadecimal, so no quote or backslash can be in it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        assert value.replace("-", "").isalnum() or not value, "only UUIDs and hexadecimal text"
        return f'"{value}"'
    return repr(value)


_WRITERS: dict[str, Callable[[Plain, Capability], Any]] = {
    "qdrant": _qdrant,
    "postgres": _postgres,
    "milvus": _milvus,
}

"""Types of ports and options: written as text, compared without importing anything heavy."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from rag import records

_PLAIN: dict[str, Any] = {
    "Any": Any,
    "bool": bool,
    "dict": dict,
    "float": float,
    "int": int,
    "list": list,
    "Literal": Literal,
    "Mapping": Mapping,
    "None": None,
    "Path": Path,
    "Sequence": Sequence,
    "str": str,
    "tuple": tuple,
}
_RECORDS = {
    name: kind
    for name, kind in vars(records).items()
    if isinstance(kind, type) and kind.__module__ == records.__name__
}
VARIABLES: dict[str, str] = {
    "Query": "query",
    "list[Query]": "queries",
    "list[Passage]": "passages",
    "list[list[Passage]]": "rankings",
    "Answer": "answer",
    "list[Answer]": "answers",
    "Route": "route",
    "Judgement": "judgement",
    "Completion": "completion",
    "list[Turn]": "history",
    "str": "text",
    "float": "score",
}
"""How a variable of a type is named unless a step says otherwise."""


def parse(text: str) -> Any:
    """Return the type that a text such as `list[Passage]` or `int | None` names.

    Raises:
        ValueError: for a name that is not a record, a container or a scalar.
    """
    try:
        return _built(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is not a type") from error


def names() -> list[str]:
    """Return the names that a type may be made of."""
    return sorted({*_RECORDS, *_PLAIN} - {"None"})


def show(kind: Any) -> str:
    """Return a type as text; `parse` reads it back if it is made of records and scalars."""
    kind = _bare(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " | ".join(show(argument) for argument in arguments)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin is not None:
        inside = ", ".join("..." if one is Ellipsis else show(one) for one in arguments)
        return f"{_name(origin)}[{inside}]" if inside else _name(origin)
    return _name(kind)


def fits(given: Any, wanted: Any) -> bool:
    """Return whether every value of the type `given` is one of `wanted`; `Any` fits everywhere."""
    given, wanted = _bare(given), _bare(wanted)
    if given is Any or wanted is Any or given == wanted:
        return True
    if _is_union(given) or _is_union(wanted):
        return all(any(fits(one, part) for part in _parts(wanted)) for one in _parts(given))
    if get_origin(wanted) is Literal or get_origin(given) is Literal:
        return _literal_fits(given, wanted)
    fit = _arguments_fit if item_of(wanted) is None else _items_fit
    return (given is int and wanted is float) or (_class_fits(given, wanted) and fit(given, wanted))


def without_none(kind: Any) -> Any:
    """Return what a type is when it is not None: `Answer` for `Answer | None`."""
    if not _is_union(kind):
        return kind
    return Union[tuple(one for one in get_args(kind) if one is not type(None))]  # noqa: UP007


def item_of(kind: Any) -> Any:
    """Return the type of the items of a list, tuple or sequence type; None for another type."""
    kind = _bare(kind)
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin in (list, Sequence, Iterable, Iterator):
        return arguments[0] if arguments else Any
    if isinstance(origin, type) and issubclass(origin, list):
        return next(map(item_of, getattr(origin, "__orig_bases__", ())), Any)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return arguments[0]
        return Any if not arguments else None
    return None


def field_of(kind: Any, name: str) -> Any:
    """Return the type of a field or property of a record; None if it has none of that name."""
    kind = _bare(kind)
    kind = get_origin(kind) or kind
    if kind is Any:
        return Any
    return _fields(kind).get(name) if isinstance(kind, type) else None


def field_names(kind: Any) -> list[str]:
    """Return the fields and properties of a record type; none for another type."""
    kind = get_origin(kind) or kind
    return list(_fields(kind)) if isinstance(kind, type) else []


def variable_for(kind: Any) -> str | None:
    """Return the name of a variable of this type, or None if a step has to name it."""
    item = item_of(kind)
    if item is not None:
        inner = item_of(item)
        text = f"list[list[{show(inner)}]]" if inner is not None else f"list[{show(item)}]"
    else:
        text = show(kind)
    return VARIABLES.get(text)


@cache
def _fields(kind: type) -> dict[str, Any]:
    if not is_dataclass(kind):
        return {}
    found = {field.name: hint for field, hint in _hinted(kind)}
    for name, member in vars(kind).items():
        if isinstance(member, property) and member.fget is not None:
            found[name] = get_type_hints(member.fget).get("return", Any)
    return found


def _hinted(kind: type) -> list[tuple[Any, Any]]:
    try:
        hints = get_type_hints(kind)
    except (NameError, TypeError):  # a record of someone else's, whose types are not importable
        hints = {}
    return [(field, hints.get(field.name, Any)) for field in fields(kind)]


def _name(kind: Any) -> str:
    if kind is type(None):
        return "None"
    return getattr(kind, "__name__", None) or str(kind)


def _bare(kind: Any) -> Any:
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    return type(None) if kind is None else kind


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _parts(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if _is_union(kind) else (kind,)


def _class_fits(given: Any, wanted: Any) -> bool:
    left, right = get_origin(given) or given, get_origin(wanted) or wanted
    return isinstance(left, type) and isinstance(right, type) and issubclass(left, right)


def _items_fit(given: Any, wanted: Any) -> bool:
    if given is str:
        return False
    item = item_of(given)
    items = get_args(given) if item is None else (item,)
    return all(fits(one, item_of(wanted)) for one in items)


def _arguments_fit(given: Any, wanted: Any) -> bool:
    left, right = get_args(given), get_args(wanted)
    if not left or not right:
        return True
    return len(left) == len(right) and all(map(fits, left, right))


def _literal_fits(given: Any, wanted: Any) -> bool:
    if get_origin(given) is not Literal:
        return False
    if get_origin(wanted) is Literal:
        return set(get_args(given)) <= set(get_args(wanted))
    return all(fits(type(value), wanted) for value in get_args(given))


def _built(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and node.value is None:
        return type(None)
    if isinstance(node, ast.Name):
        kind = _RECORDS.get(node.id, _PLAIN.get(node.id, _UNKNOWN))
        if kind is _UNKNOWN:
            raise ValueError(f"{node.id!r} is not a type")
        return kind
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return Union[_built(node.left), _built(node.right)]  # noqa: UP007
    if isinstance(node, ast.Subscript):
        return _subscripted(_built(node.value), node.slice)
    raise ValueError(f"{ast.unparse(node)!r} is not a type")


def _subscripted(origin: Any, inside: ast.expr) -> Any:
    parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if origin is Literal:
        return Literal[tuple(ast.literal_eval(part) for part in parts)]
    if origin is tuple and len(parts) == 2 and _is_ellipsis(parts[1]):
        return tuple.__class_getitem__((_built(parts[0]), ...))
    found = tuple(_built(part) for part in parts)
    if len(found) != _ARGUMENTS.get(origin, len(found)):
        raise TypeError(f"{_name(origin)} takes {_ARGUMENTS[origin]} types, got {len(found)}")
    return origin[found]


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is Ellipsis


_ARGUMENTS: Mapping[Any, int] = {list: 1, Sequence: 1, dict: 2, Mapping: 2}
_UNKNOWN = object()

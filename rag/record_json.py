"""Records as plain JSON and back, by their annotations: traces, caches, files of inputs."""

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


def to_json(value: Any) -> Any:
    """Return a value made of records, containers and scalars as what `json.dumps` takes.

    A record becomes an object of its fields; one that is empty, and is so by default or has to be
    given, is left out: nothing is written that says nothing.

    Raises:
        TypeError: for a value that is none of these.
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        taken = [field for field in fields(value) if field.init]
        return {f.name: to_json(getattr(value, f.name)) for f in taken if not _implied(value, f)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return [to_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"only records, containers and scalars become JSON, got {type(value).__name__}")


def _implied(record: Any, field: Field[Any]) -> bool:
    """Return whether the field is empty, and reading the record back without it gives the same."""
    value = getattr(record, field.name)
    if not (value is None or (isinstance(value, (tuple, list, dict)) and not value)):
        return False
    if field.default_factory is not MISSING:
        return bool(field.default_factory() == value)
    if field.default is not MISSING:
        return bool(field.default == value)
    of: Any = type(record)
    kind = _shape(of)[1][field.name]
    return _may_be_empty(kind) and bool(_empty(kind) == value)


def from_json(kind: Any, data: Any, *, where: str = "value") -> Any:
    """Return the value of an annotation that `to_json` wrote, or that a person did.

    Args:
        kind: a type or annotation: a record, `list[Passage]`, `str | None`, a literal, `Any`.
        data: plain JSON.
        where: what the message of an error calls the value.

    Raises:
        ValueError: naming the place, what was allowed and what came.
    """
    if kind is Any:
        return data
    if is_dataclass(kind):
        return _record(kind, data, where)
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Annotated:
        return from_json(arguments[0], data, where=where)
    read = _READ.get(origin)
    return _scalar(kind, data, where) if read is None else read(origin, arguments, data, where)


def _scalar(kind: Any, data: Any, where: str) -> Any:
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if kind is Path and isinstance(data, str):
        return Path(data)
    wanted = type(None) if kind is None else kind
    flag = isinstance(data, bool) and wanted not in (bool, object)
    if isinstance(wanted, type) and (flag or not isinstance(data, wanted)):
        name = "null" if wanted is type(None) else wanted.__name__
        raise ValueError(f"{where} must be {name}, {_got(data)}")
    return data


def _literal(_: Any, allowed: tuple[Any, ...], data: Any, where: str) -> Any:
    if not any(type(data) is type(value) and data == value for value in allowed):
        raise ValueError(f"{where} must be one of {', '.join(map(repr, allowed))}, {_got(data)}")
    return data


def _mapping(_: Any, arguments: tuple[Any, ...], data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} must be an object, {_got(data)}")  # noqa: TRY004 it is data
    of = arguments[1] if arguments else Any
    return {str(k): from_json(of, v, where=f"{where}.{k}") for k, v in data.items()}


def _union(_: Any, arguments: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in arguments:
        return None
    errors = []
    for argument in arguments:
        try:
            return from_json(argument, data, where=where)
        except ValueError as error:
            errors.append((argument is type(None), str(error)))
    raise ValueError(min(errors, key=lambda one: one[0])[1])


def _sequence(origin: Any, arguments: tuple[Any, ...], data: Any, where: str) -> Any:
    if isinstance(data, str) or not isinstance(data, Sequence):
        raise ValueError(f"{where} must be a list, {_got(data)}")  # noqa: TRY004 it is data
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(data) != len(arguments):
            raise ValueError(f"{where} must hold {len(arguments)} values, got {len(data)}")
        kinds: Sequence[Any] = arguments
    else:
        kinds = [arguments[0] if arguments else Any] * len(data)
    found = [
        from_json(of, item, where=f"{where}[{place}]")
        for place, (of, item) in enumerate(zip(kinds, data, strict=True))
    ]
    return tuple(found) if origin is tuple else found


def _record(kind: Any, data: Any, where: str) -> Any:
    if isinstance(data, kind):
        return data
    required, hints = _shape(kind)
    if not isinstance(data, Mapping):
        # A record with one required field is written as that field alone: a query as its text.
        if len(required) == 1 and isinstance(data, str):
            data = {required[0]: data}
        else:
            raise ValueError(f"{where} must be an object with {', '.join(hints)}, {_got(data)}")
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise ValueError(f"{where} has no field {unknown[0]!r}; fields are {', '.join(hints)}")
    missing = [name for name in required if name not in data and not _may_be_empty(hints[name])]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    values = {name: from_json(hints[name], data[name], where=f"{where}.{name}") for name in data}
    for name in required:
        values.setdefault(name, _empty(hints[name]))
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


@cache
def _shape(kind: Any) -> tuple[list[str], dict[str, Any]]:
    """Return the names that `kind` needs and the annotations of all it takes."""
    hints = get_type_hints(kind)
    taken = [field for field in fields(kind) if field.init]
    required = [f.name for f in taken if f.default is MISSING and f.default_factory is MISSING]
    return required, {field.name: hints[field.name] for field in taken}


_MADE_EMPTY: Mapping[Any, Any] = {tuple: (), list: [], Sequence: [], dict: {}, Mapping: {}}


def _may_be_empty(kind: Any) -> bool:
    return get_origin(kind) in _MADE_EMPTY or type(None) in get_args(kind)


def _empty(kind: Any) -> Any:
    empty = _MADE_EMPTY.get(get_origin(kind))
    return empty.copy() if isinstance(empty, (list, dict)) else empty


def _got(data: Any) -> str:
    shown = repr(data)
    return f"got {shown if len(shown) <= 60 else shown[:57] + '...'}"


_READ: Mapping[Any, Callable[[Any, tuple[Any, ...], Any, str], Any]] = {
    Literal: _literal,
    Union: _union,
    types.UnionType: _union,
    **dict.fromkeys((list, tuple, Sequence), _sequence),
    **dict.fromkeys((dict, Mapping), _mapping),
}
"""What reads a value, by the origin of its annotation."""

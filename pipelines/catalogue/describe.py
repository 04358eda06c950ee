"""From an operator to what the engine needs to know of it: ports and options from annotations."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pipelines.catalogue.spec import REQUIRED, Need, OperatorSpec, Option, Port, ResourceSpec
from pipelines.flow.types import variable_for
from rag.bounds import Bounds

KINDS = {
    "Encoder": "encoder",
    "KVStore": "kv",
    "LocalModel": "lm",
    "OpenIndex": "index",
    "PassageCache": "kv",
    "TextModel": "lm",
}
"""Annotations that mean a resource, and its kind; matched by name, so that nothing is imported."""

_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_SECTION = re.compile(r"^(Attributes|Args|Returns|Raises|Yields):\s*$")
_ENTRY = re.compile(r"^    (\w+): (.*)$")


def describe(
    made_by: Callable[..., Any],
    name: str,
    *,
    target: str = "",
    submodule: str = "",
    extra: str = "",
) -> OperatorSpec:
    """Return what the engine knows of an operator.

    Args:
        made_by: a class or a factory, whose parameters are options and resources; an operator that
            is ready; or any function, whose parameters are ports.
        name: short name, or what errors call it.
        target: `module:attribute`, for a table.
        submodule: the paper's sub-module.
        extra: the extra that it needs.

    Raises:
        ValueError: if what it makes cannot be called, or annotations cannot be read.
    """
    made = _made(made_by, name)
    options, needs = ([], []) if made is None else _settings(made_by, name)
    called = _called(made_by if made is None else made, name)
    text, _ = _documentation(_named_by(made_by))
    kind = called.hints.get("return", Any)
    return OperatorSpec(
        name=name,
        target=target,
        submodule=submodule,
        summary=text.partition("\n")[0],
        about=text,
        options=tuple(options),
        needs=tuple(needs),
        inputs=tuple(called.ports()),
        output=Port(variable_for(kind) or "", kind),
        batched=_is_method(called.owner, "batch"),
        streams=_is_method(called.owner, "stream"),
        asynchronous=inspect.iscoroutinefunction(called.function),
        extra=extra,
    )


def describe_resource(
    made_by: Callable[..., Any], name: str, *, kind: str, target: str, extra: str = ""
) -> ResourceSpec:
    """Return what the engine knows of a resource, from the function or class that opens it."""
    options, needs = _settings(made_by, name)
    text, _ = _documentation(made_by)
    summary = text.partition("\n")[0]
    return ResourceSpec(name, kind, target, summary, text, tuple(options), tuple(needs), extra)


def resource_kind(annotation: Any) -> str | None:
    """Return the kind of resource that an annotation asks for, or None if it is an option."""
    for one in _alternatives(annotation):
        kind = KINDS.get(getattr(one, "__name__", ""))
        if kind is not None:
            return kind
    return None


def is_factory(made_by: Callable[..., Any]) -> bool:
    """Return whether calling it makes an operator: a class, or a function that returns one."""
    return _made(made_by, getattr(made_by, "__name__", "")) is not None


def _made(made_by: Callable[..., Any], name: str) -> type | None:
    """Return the class of what a class or a factory makes; None if `made_by` is itself called."""
    if inspect.isclass(made_by):
        if not _has_call(made_by):
            raise ValueError(f"{made_by.__name__} has no __call__")
        return made_by
    if inspect.isroutine(made_by):
        result = _hints(made_by, name).get("return")
        if inspect.isclass(result) and result is not Any and _has_call(result):
            return result
    return None


def _has_call(kind: type) -> bool:
    """Return whether instances can be called; every class can be, by its metaclass."""
    return any("__call__" in vars(base) for base in kind.__mro__)


def _is_method(owner: Any, name: str) -> bool:
    found = getattr(owner, name, None)
    later = inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found)
    return callable(found) and not later


@dataclass(frozen=True)
class _Called:
    """What is called when a step runs.

    Attributes:
        owner: what may have `batch` and `stream`: a class, or a function.
        function: whose signature holds the ports.
        hints: its annotations.
        is_method: whether the first parameter is the operator itself.
    """

    owner: Any
    function: Callable[..., Any]
    hints: Mapping[str, Any]
    is_method: bool

    def ports(self) -> Iterator[Port]:
        parameters = list(inspect.signature(self.function).parameters.values())
        for parameter in parameters[1:] if self.is_method else parameters:
            if parameter.kind not in _MANY:
                optional = parameter.default is not inspect.Parameter.empty
                yield Port(parameter.name, self.hints.get(parameter.name, Any), optional)


def _called(operator: Any, name: str) -> _Called:
    if isinstance(operator, partial):
        return _Called(operator, operator, _hints(operator.func, name), is_method=False)
    if inspect.isroutine(operator):
        return _Called(operator, operator, _hints(operator, name), is_method=False)
    owner = operator if inspect.isclass(operator) else type(operator)
    if not _has_call(owner):
        raise ValueError(f"{name} cannot be called: it is {owner.__name__}")
    return _Called(owner, owner.__call__, _hints(owner.__call__, name), is_method=True)


def _named_by(made_by: Any) -> Any:
    """Return what holds the docstring: a class or a function."""
    made_by = made_by.func if isinstance(made_by, partial) else made_by
    return made_by if inspect.isroutine(made_by) or inspect.isclass(made_by) else type(made_by)


def _settings(made_by: Callable[..., Any], name: str) -> tuple[list[Option], list[Need]]:
    plain = inspect.isclass(made_by) and not is_dataclass(made_by)
    hints = _hints(made_by.__init__ if plain else made_by, name)
    _, about = _documentation(made_by)
    options, needs = [], []
    for parameter, default in _parameters(made_by):
        kind = hints.get(parameter, Any)
        wanted = resource_kind(kind)
        if wanted is not None:
            needs.append(Need(parameter, wanted, default is not REQUIRED, about.get(parameter, "")))
            continue
        kind, bounds = _bounded(kind)
        if _is_setting(kind):
            options.append(Option(parameter, kind, default, about.get(parameter, ""), bounds))
        elif default is REQUIRED:
            raise ValueError(f"{name}: {parameter} is neither a setting nor a resource: {kind}")
    return options, needs


def _bounded(kind: Any) -> tuple[Any, Bounds | None]:
    """Return a type without its bounds, and them; an alternative of a union may have some too."""
    if get_origin(kind) is Annotated:
        inside, *more = get_args(kind)
        return inside, next((one for one in more if isinstance(one, Bounds)), None)
    if get_origin(kind) in (Union, UnionType):
        parts = [_bounded(one) for one in get_args(kind)]
        bounds = next((one for _, one in parts if one is not None), None)
        return Union[tuple(one for one, _ in parts)], bounds  # noqa: UP007
    return kind, None


def _parameters(made_by: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Yield each parameter and its default; private fields are left out."""
    if is_dataclass(made_by):
        for field in fields(made_by):
            if field.init and not field.name.startswith("_"):
                default = field.default
                if field.default_factory is not MISSING:
                    default = field.default_factory()
                yield field.name, REQUIRED if default is MISSING else default
        return
    for parameter in inspect.signature(made_by).parameters.values():
        if parameter.kind not in _MANY:
            empty = parameter.default is inspect.Parameter.empty
            yield parameter.name, REQUIRED if empty else parameter.default


def _is_setting(kind: Any) -> bool:
    """Return whether a file can give a value of this type: scalars, literals, and lists of them."""
    origin = get_origin(kind)
    if origin is Literal or kind in (str, int, float, bool, Path, Any, type(None)):
        return True
    if origin in (list, tuple, dict, Mapping, Sequence, Union, UnionType, Annotated):
        inside = get_args(kind)[:1] if origin is Annotated else get_args(kind)
        return all(one is Ellipsis or _is_setting(one) for one in inside)
    return False


def _hints(call: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return get_type_hints(call, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the annotations of {name} cannot be read: {error}; import its types at run time, "
            "not only for type checking"
        ) from error


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return get_args(annotation)
    return (annotation,)


def _documentation(of: Any) -> tuple[str, dict[str, str]]:
    """Return a docstring without its sections, and what it says of each attribute or argument."""
    written = inspect.getdoc(of) or ""
    if inspect.isclass(of) and written.startswith(f"{of.__name__}("):
        written = ""  # what dataclass writes where there is none
    lines = written.splitlines()
    text: list[str] = []
    about: dict[str, str] = {}
    section, entry = "", ""
    for line in lines:
        heading = _SECTION.match(line)
        if heading:
            section, entry = heading[1], ""
        elif not section:
            text.append(line)
        elif line and not line.startswith(" "):
            section = ""
            text.append(line)
        elif section in {"Attributes", "Args"}:
            begins = _ENTRY.match(line)
            if begins:
                entry = begins[1]
                about[entry] = begins[2]
            elif entry and line.strip():
                about[entry] += f" {line.strip()}"
    return "\n".join(text).strip(), about

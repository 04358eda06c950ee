"""Scalars to values by the type of the field they are for, with messages that name the field.

Only `true` and `false` are flags, numbers are decimal without leading zeros, a quoted scalar is
text, and nothing is guessed for a field that has a type.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pipelines.definition.nodes import Fields, Items, Scalar, unresolved
from pipelines.flow.diagnostics import Mistake, Place, nearest
from pipelines.flow.types import show
from rag.bounds import Bounds

_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,29})")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,4})?")
_ZEROS = re.compile(r"[-+]?0[0-9]+(\.[0-9]*)?")
_NULLS = ("", "~", "null")
_FLAGS = {"true": True, "false": False}
_FLAG_LIKE = frozenset({"yes", "no", "on", "off", "y", "n", "true", "false"})

Converted = tuple[Any, list[Mistake]]


def convert(
    kind: Any,
    given: Any,
    what: str,
    place: Place | None = None,
    *,
    bounds: Bounds | None = None,
) -> Converted:
    """Return the value of a type, and the mistakes; the value is None if there are any.

    Args:
        kind: a scalar type, `Path`, a literal, a container, a record, a union of these, `Any`.
        given: a node of a file or of `--set`, or a plain Python value.
        what: names the field in messages: `retrieve.hybrid.top_k`.
        place: of a plain value; a node knows its own.
        bounds: where a number must lie, if the type does not say.
    """
    return _Field(what, place, bounds).convert(kind, given)


def plain(given: Any) -> Any:
    """Return a node without a type as plain data; unquoted scalars may be flags, numbers, null.

    Plain values are returned as they are, with lists for tuples.
    """
    if isinstance(given, Scalar):
        return _untyped(given)
    if isinstance(given, Items):
        return [plain(item) for item in given.items]
    if isinstance(given, Fields):
        return {key: plain(value) for key, value in given.values.items()}
    if isinstance(given, Mapping):
        return {key: plain(value) for key, value in given.items()}
    if isinstance(given, (list, tuple)):
        return [plain(item) for item in given]
    return given


def looks_like_text(text: str) -> bool:
    """Return whether a scalar of this text is text even if it is not quoted."""
    return text not in _NULLS and text not in _FLAGS and _number(text) is None


_FAILED = object()


class _Field:
    """One field on its way: its name, its place and its bounds."""

    def __init__(self, what: str, place: Place | None, bounds: Bounds | None) -> None:
        self.what = what
        self.place = place
        self.bounds = bounds

    def convert(self, kind: Any, given: Any) -> Converted:
        if unresolved(given):
            return None, []
        if kind is Any:
            return plain(given), []
        origin, arguments = get_origin(kind) or kind, get_args(kind)
        if origin is Annotated:
            return self._annotated(arguments, given)
        if origin in (Union, types.UnionType):
            return self._union(kind, arguments, given)
        return self._single(kind, origin, arguments, given)

    def _single(self, kind: Any, origin: Any, arguments: tuple[Any, ...], given: Any) -> Converted:
        if origin is Literal:
            return self._literal(arguments, given)
        if origin in (list, tuple, Sequence):
            return self._sequence(kind, origin, arguments, given)
        if origin in (dict, Mapping):
            return self._mapping(kind, arguments, given)
        if is_dataclass(origin) and isinstance(origin, type):
            return self._record(origin, given)
        return self._scalar(kind, given)

    def _annotated(self, arguments: tuple[Any, ...], given: Any) -> Converted:
        bounds = next((one for one in arguments[1:] if isinstance(one, Bounds)), self.bounds)
        return _Field(self.what, self.place, bounds).convert(arguments[0], given)

    def _scalar(self, kind: Any, given: Any) -> Converted:
        value = _of_scalar(kind, given)
        if value is _FAILED:
            return self._wrong(kind, given)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.bounds is not None and number and value not in self.bounds:
            message = f"{self.what} must be {self.bounds}, got {_shown(given)}"
            return None, [Mistake("out-of-range", message, self._at(given))]
        return value, []

    def _union(self, kind: Any, arguments: tuple[Any, ...], given: Any) -> Converted:
        tried: list[list[Mistake]] = []
        for argument in sorted(arguments, key=_looseness):
            value, mistakes = self.convert(argument, given)
            if not mistakes:
                return value, []
            tried.append(mistakes)
        # A failure inside a value, or of its size, says more than that no alternative fits.
        for mistakes in tried:
            if any(m.code != "wrong-type" or self._deeper(m) for m in mistakes):
                return None, mistakes
        chosen = [one for one in arguments if one is not type(None)]
        return self.convert(chosen[0], given) if _is_literal(chosen) else self._wrong(kind, given)

    def _deeper(self, mistake: Mistake) -> bool:
        return not mistake.message.startswith(f"{self.what} ")

    def _literal(self, allowed: tuple[Any, ...], given: Any) -> Converted:
        for value in allowed:
            found = _of_scalar(type(value), given)
            if found is not _FAILED and found == value:
                return value, []
        names = [value for value in allowed if isinstance(value, str)]
        text = given.text if isinstance(given, Scalar) else given
        hint = nearest(text, names) if isinstance(text, str) and not _secret(given) else ""
        message = f"{self.what} wants {_one_of(allowed)}, got {_shown(given)}"
        hint = hint if hint.startswith("did") else ""
        return None, [Mistake("wrong-type", message, self._at(given), hint)]

    def _sequence(
        self, kind: Any, origin: Any, arguments: tuple[Any, ...], given: Any
    ) -> Converted:
        items = given.items if isinstance(given, Items) else given
        if not isinstance(items, (list, tuple)) or isinstance(given, (Scalar, Fields)):
            return self._wrong(kind, given)
        kinds: Sequence[Any] = [arguments[0] if arguments else Any] * len(items)
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            kinds = arguments
            if len(items) != len(kinds):
                message = f"{self.what} wants {len(kinds)} values, got {len(items)}"
                return None, [Mistake("wrong-type", message, self._at(given))]
        found = [
            self._inside(f"{self.what}[{number}]", given).convert(of, item)
            for number, (of, item) in enumerate(zip(kinds, items, strict=True))
        ]
        mistakes = [mistake for _, some in found for mistake in some]
        values = [value for value, _ in found]
        return None if mistakes else values if origin is list else tuple(values), mistakes

    def _mapping(self, kind: Any, arguments: tuple[Any, ...], given: Any) -> Converted:
        values = given.values if isinstance(given, Fields) else given
        if not isinstance(values, Mapping):
            return self._wrong(kind, given)
        of = arguments[1] if arguments else Any
        return self._each(dict.fromkeys(values, of), values, given)

    def _record(self, kind: type, given: Any) -> Converted:
        if isinstance(given, kind):
            return given, []
        hints, required = _taken(kind)
        values = given.values if isinstance(given, Fields) else given
        if isinstance(given, (str, Scalar)) and len(required) == 1:
            values = {required[0]: given}
        if not isinstance(values, Mapping):
            return self._wrong(kind, given)
        mistakes = [
            Mistake(
                "unknown-field",
                f"{self.what} has no field {name!r}",
                given.key_places[name] if isinstance(given, Fields) else self.place,
                nearest(str(name), hints),
            )
            for name in values
            if name not in hints
        ] + [
            Mistake("missing-field", f"{self.what} needs {name}", self._at(given))
            for name in required
            if name not in values
        ]
        known = {name: hints[name] for name in values if name in hints}
        found, wrong = self._each(known, values, given)
        if mistakes or wrong:
            return None, mistakes + wrong
        try:
            return kind(**found), []
        except ValueError as error:
            return None, [Mistake("out-of-range", f"{self.what}: {error}", self._at(given))]

    def _each(self, kinds: Mapping[Any, Any], values: Any, given: Any) -> Converted:
        found = {
            name: self._inside(f"{self.what}.{name}", given).convert(of, values[name])
            for name, of in kinds.items()
        }
        mistakes = [mistake for _, some in found.values() for mistake in some]
        return None if mistakes else {name: value for name, (value, _) in found.items()}, mistakes

    def _inside(self, what: str, given: Any) -> _Field:
        return _Field(what, self._at(given), None)

    def _wrong(self, kind: Any, given: Any) -> Converted:
        wanted = "null" if kind in (None, type(None)) else show(kind)
        message = f"{self.what} wants {wanted}, got {_shown(given)}"
        return None, [Mistake("wrong-type", message, self._at(given), _advice(kind, given))]

    def _at(self, given: Any) -> Place | None:
        return given.place if isinstance(given, (Scalar, Items, Fields)) else self.place


def _of_scalar(kind: Any, given: Any) -> Any:
    """Return a scalar of exactly this type, or `_FAILED`."""
    if isinstance(given, (Items, Fields)):
        return _FAILED
    if isinstance(given, Scalar):
        return _of_text(kind, given)
    if kind is Path and isinstance(given, str):
        return Path(given)
    if kind is float and isinstance(given, int) and not isinstance(given, bool):
        return float(given)
    return given if _is_a(type(None) if kind is None else kind, given) else _FAILED


def _is_a(kind: Any, given: Any) -> bool:
    if isinstance(given, bool) and kind is not bool:
        return False
    if isinstance(given, float) and not math.isfinite(given):
        return False
    try:
        return isinstance(given, kind)
    except TypeError:  # not a class, or a protocol that cannot be tested at run time
        return not isinstance(given, (str, int, float, list, tuple, dict, type(None)))


def _of_text(kind: Any, given: Scalar) -> Any:
    if kind in (str, Path):
        if given.text in _NULLS and not given.quoted:
            return _FAILED
        return kind(given.text)
    if kind is float:
        number = None if given.quoted else _number(given.text)
        return _FAILED if number is None else float(number)
    if kind not in (bool, int, None, type(None)):
        return _FAILED
    value = _untyped(given)
    wanted = type(None) if kind is None else kind
    return value if type(value) is wanted else _FAILED


def _untyped(given: Scalar) -> Any:
    if given.quoted:
        return given.text
    if given.text in _NULLS:
        return None
    if given.text in _FLAGS:
        return _FLAGS[given.text]
    number = _number(given.text)
    return given.text if number is None else number


def _number(text: str) -> int | float | None:
    if _INT.fullmatch(text):
        return int(text)
    number = float(text) if _FLOAT.fullmatch(text) else math.inf
    return number if math.isfinite(number) else None


def _looseness(kind: Any) -> int:
    """Order alternatives so that text is the last thing a scalar is read as."""
    if get_origin(kind) is Annotated:
        return _looseness(get_args(kind)[0])
    order = (type(None), bool, int, float)
    if kind in order:
        return order.index(kind)
    if get_origin(kind) is Literal:
        return 4
    return {Path: 6, str: 7, Any: 8}.get(kind, 5)


def _is_literal(kinds: Sequence[Any]) -> bool:
    return len(kinds) == 1 and get_origin(kinds[0]) is Literal


def _one_of(allowed: tuple[Any, ...]) -> str:
    shown = [repr(value) for value in allowed]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def _secret(given: Any) -> bool:
    return isinstance(given, Scalar) and given.secret


def _shown(given: Any) -> str:
    if isinstance(given, Scalar):
        return _shown_scalar(given)
    if isinstance(given, (Items, list, tuple)):
        return "a list"
    if isinstance(given, (Fields, Mapping)):
        return "a map"
    if given is None or isinstance(given, bool):
        return {None: "null", True: "true", False: "false"}[given]
    return _short(repr(given)) if isinstance(given, (str, int, float)) else type(given).__name__


def _shown_scalar(given: Scalar) -> str:
    if given.secret:
        return "a value of the environment"
    if not given.quoted and given.text in _NULLS:
        return "null"
    is_text = given.quoted or looks_like_text(given.text)
    return _short(repr(given.text) if is_text else given.text)


def _short(shown: str) -> str:
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _advice(kind: Any, given: Any) -> str:
    if not isinstance(given, Scalar) or given.secret:
        return ""
    if given.quoted and _of_text(kind, replace(given, quoted=False)) is not _FAILED:
        return "write it without quotes"
    if kind is bool:
        return "write true or false" if given.text.lower() in _FLAG_LIKE else ""
    if kind is str:
        return "put text in quotes"
    return _advice_on_number(kind, given.text) if kind in (int, float) else ""


def _advice_on_number(kind: Any, text: str) -> str:
    if _ZEROS.fullmatch(text):
        return "numbers are decimal, without leading zeros"
    infinite = text.lower().lstrip("+-.") in ("nan", "inf", "infinity")
    too_large = kind is float and _FLOAT.fullmatch(text)
    return "numbers are finite" if infinite or too_large else ""


@cache
def _taken(kind: type) -> tuple[dict[str, Any], list[str]]:
    hints = get_type_hints(kind, include_extras=True)
    taken = [field for field in fields(kind) if field.init]
    required = [f.name for f in taken if f.default is MISSING and f.default_factory is MISSING]
    return {field.name: hints[field.name] for field in taken}, required

"""Conditions as data, `{var: judgement.score, below: 0.6}`: checked before a run, never code."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from pipelines.flow.diagnostics import Place

if TYPE_CHECKING:
    from pipelines.flow.blocks import Step

Comparison = Literal["equals", "in", "above", "below", "empty", "contains", "true"]
COMPARISONS: tuple[Comparison, ...] = get_args(Comparison)


@dataclass(frozen=True)
class Test:
    """Compares a variable, or a field of it such as `judgement.score`.

    Attributes:
        var: a variable, with fields after dots.
        comparison: how; `true` holds for a judgement that passed, or a true flag.
        value: what with; of a YAML file still a node.
        at: where it is written.
        value_at: where the value is written.
    """

    var: str
    comparison: Comparison
    value: Any = True
    at: Place | None = field(default=None, compare=False, repr=False)
    value_at: Place | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class AllOf:
    """Holds if every part does."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class AnyOf:
    """Holds if a part does."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Negation:
    """Holds if its part does not."""

    part: Condition


@dataclass(frozen=True)
class Judged:
    """Holds if a judge passes; the judge is a step whose judgement is a variable afterwards."""

    judge: Step


Condition: TypeAlias = Test | AllOf | AnyOf | Negation | Judged


def condition(data: Mapping[str, Any] | Condition) -> Condition:
    """Return the condition that plain data describes.

    `{var: NAME}` with one of `equals, in, above, below, empty, contains`, or none of them for a
    flag; `{all: [...]}`, `{any: [...]}`, `{not: ...}`; `{judge: STEP}`.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(data, Mapping):
        return data
    keys = set(data)
    if keys == {"judge"}:
        return Judged(_judge(data["judge"]))
    if keys in ({"all"}, {"any"}):
        (key,) = keys
        parts = tuple(condition(part) for part in data[key])
        return AllOf(parts) if key == "all" else AnyOf(parts)
    if keys == {"not"}:
        return Negation(condition(data["not"]))
    comparisons = [key for key in COMPARISONS if key in keys]
    if "var" not in keys or len(comparisons) > 1 or keys - {"var", *comparisons}:
        raise ValueError(
            "a condition is {var: NAME} with one of "
            f"{', '.join(c for c in COMPARISONS if c != 'true')}, or one of all, any, not, judge; "
            f"got {dict(data)}"
        )
    if not comparisons:
        return Test(data["var"], "true")
    return Test(data["var"], comparisons[0], data[comparisons[0]])


def _judge(judge: Any) -> Step:
    from pipelines.flow.blocks import Step, step

    return judge if isinstance(judge, Step) else step(judge)


def tests(of: Condition) -> Iterator[Test]:
    """Yield every comparison in a condition."""
    if isinstance(of, Test):
        yield of
    elif isinstance(of, (AllOf, AnyOf)):
        for part in of.parts:
            yield from tests(part)
    elif isinstance(of, Negation):
        yield from tests(of.part)


def judges(of: Condition) -> Iterator[Step]:
    """Yield every judge in a condition, in order."""
    if isinstance(of, Judged):
        yield of.judge
    elif isinstance(of, (AllOf, AnyOf)):
        for part in of.parts:
            yield from judges(part)
    elif isinstance(of, Negation):
        yield from judges(of.part)


def holds(
    of: Condition,
    read: Callable[[str], Any],
    judged: Callable[[Step], bool],
    wanted: Callable[[Test], Any],
) -> bool:
    """Return whether a condition holds.

    Args:
        of: the condition.
        read: gives the value of `var`, dots included.
        judged: gives the verdict of a judge; all have been asked beforehand.
        wanted: gives the converted value that a test compares with.
    """
    if isinstance(of, Judged):
        return judged(of.judge)
    if isinstance(of, AllOf):
        return all(holds(part, read, judged, wanted) for part in of.parts)
    if isinstance(of, AnyOf):
        return any(holds(part, read, judged, wanted) for part in of.parts)
    if isinstance(of, Negation):
        return not holds(of.part, read, judged, wanted)
    return _compare(of.comparison, read(of.var), wanted(of))


def _compare(comparison: Comparison, value: Any, wanted: Any) -> bool:
    if comparison == "empty":
        empty = value is None or (hasattr(value, "__len__") and len(value) == 0)
        return empty is bool(wanted)
    if comparison == "true":
        return bool(getattr(value, "passed", value)) is bool(wanted)
    return bool(_COMPARED[comparison](value, wanted))


_COMPARED: Mapping[Comparison, Callable[[Any, Any], Any]] = {
    "equals": operator.eq,
    "in": lambda value, wanted: value in wanted,
    "above": operator.gt,
    "below": operator.lt,
    "contains": operator.contains,
}

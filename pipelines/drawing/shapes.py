"""What every drawing of a pipeline shows: steps and blocks as titled shapes with lanes inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import singledispatch
from typing import Any, Literal, get_type_hints

from pipelines.catalogue.spec import OperatorSpec
from pipelines.definition.nodes import Fields, Items, Scalar
from pipelines.flow import types
from pipelines.flow.blocks import Block, Branch, Definition, Loop, Map, Nested, Recurse, Route, Step
from pipelines.flow.conditions import AllOf, AnyOf, Condition, Judged, Negation

Kind = Literal["step", "route", "branch", "map", "loop", "recurse", "pipeline"]
Operators = Mapping[str, OperatorSpec]

_LONGEST = 60
_WORDS = {"equals": "is", "in": "is one of"}


@dataclass(frozen=True)
class Lane:
    """Shapes one after the other.

    Attributes:
        shapes: in order; may be none.
        label: the arm of a route or branch; else empty.
    """

    shapes: tuple[Shape, ...]
    label: str = ""


@dataclass(frozen=True)
class Shape:
    """A step or a block.

    Attributes:
        kind: which.
        title: a step's id, or what a block does.
        details: lines below the title.
        gives: the variables that it writes, where known; shown on the arrow that leaves it.
        before: the router of a route.
        lanes: what is inside; side by side if several.
        after: the steps that merge what several lanes gave.
    """

    kind: Kind
    title: str
    details: tuple[str, ...] = ()
    gives: str = ""
    before: tuple[Shape, ...] = ()
    lanes: tuple[Lane, ...] = ()
    after: tuple[Shape, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A pipeline to draw.

    Attributes:
        name: of the pipeline.
        description: one line, may be empty.
        inputs: variables that a run is given, as one text.
        outputs: variables that it returns, as one text.
        shapes: its blocks.
    """

    name: str
    description: str
    inputs: str
    outputs: str
    shapes: tuple[Shape, ...]


def picture(definition: Definition, operators: Operators) -> Picture:
    """Return what a drawing of a pipeline shows."""
    return Picture(
        definition.name,
        shortened(definition.description, 100),
        ", ".join(definition.inputs),
        ", ".join(definition.outputs),
        _shapes(definition.steps, operators),
    )


def value_text(value: Any) -> str:
    """Return an option's value in one short line: plain, or a node of a YAML file.

    A value that came from the environment is shown as the reference to it.
    """
    return shortened(_value(value), _LONGEST)


def condition_text(of: Condition) -> str:
    """Return a condition in words: `judgement.score below 0.6 and not (route empty)`."""
    if isinstance(of, Judged):
        return f"{_use(of.judge.use)} passes"
    if isinstance(of, (AllOf, AnyOf)):
        word = " and " if isinstance(of, AllOf) else " or "
        parts = [(part, condition_text(part)) for part in of.parts]
        return word.join(f"({t})" if isinstance(p, (AllOf, AnyOf)) else t for p, t in parts)
    if isinstance(of, Negation):
        return f"not ({condition_text(of.part)})"
    if of.comparison == "true":
        return of.var if _is_true(of.value) else f"not {of.var}"
    if of.comparison == "empty":
        return f"{of.var} is {'empty' if _is_true(of.value) else 'not empty'}"
    return f"{of.var} {_WORDS.get(of.comparison, of.comparison)} {value_text(of.value)}"


def shortened(text: str, longest: int) -> str:
    """Return a text as one line of at most `longest` characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _is_true(value: Any) -> bool:
    return value_text(value).lower() == "true"


def _value(value: Any) -> str:
    if isinstance(value, Scalar):
        return value.written if value.secret else value.text
    if isinstance(value, (Items, Fields)):
        value = value.items if isinstance(value, Items) else value.values
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_value, value))}]"
    if value is None or isinstance(value, (str, bool, int, float)):
        return str(value)
    return _use(value)


def _use(use: Any) -> str:
    return use if isinstance(use, str) else getattr(use, "__name__", None) or type(use).__name__


def _shapes(blocks: Sequence[Block], operators: Operators) -> tuple[Shape, ...]:
    return tuple(_shape(block, operators) for block in blocks)


@singledispatch
def _shape(block: Any, _: Operators) -> Shape:
    raise TypeError(f"not a block of a pipeline: {block!r}")


@_shape.register
def _(block: Step, operators: Operators) -> Shape:
    use = _use(block.use)
    details = [use] if block.id and block.id != use else []
    options = {**_configured(block.use), **block.options}
    details += [f"{name} = {value_text(value)}" for name, value in options.items()]
    if block.inputs:
        details.append(f"reads {_renamed(block.inputs)}")
    if block.output:
        details.append(f"writes {block.output}")
    if block.when is not None:
        details.append(f"when {condition_text(block.when)}")
    if block.cache:
        details.append("cached")
    return Shape("step", block.id or use, tuple(details), _written(block, operators))


@_shape.register
def _(block: Route, operators: Operators) -> Shape:
    by_variable = isinstance(block.by, str)
    details = []
    if block.policy != "single":
        threshold = "" if block.policy == "all" else f", {value_text(block.threshold)}"
        details.append(f"policy {block.policy}{threshold}")
    lanes = [Lane(_shapes(arm, operators), label) for label, arm in block.arms.items()]
    if block.otherwise is not None:
        lanes.append(Lane(_shapes(block.otherwise, operators), "else"))
    return Shape(
        "route",
        f"route by {block.by}" if isinstance(block.by, str) else "route",
        tuple(details),
        ", ".join(block.merge),
        before=() if by_variable else (_shape(block.by, operators),),
        lanes=tuple(lanes),
        after=_merges(block.merge, operators),
    )


@_shape.register
def _(block: Branch, operators: Operators) -> Shape:
    return Shape(
        "branch",
        "branch",
        gives=", ".join(block.merge),
        lanes=tuple(Lane(_shapes(arm, operators), name) for name, arm in block.arms.items()),
        after=_merges(block.merge, operators),
    )


@_shape.register
def _(block: Map, operators: Operators) -> Shape:
    return Shape(
        "map",
        f"map: each {block.item} of {block.over}",
        (_collected(block.collect),),
        ", ".join(block.collect.values()),
        lanes=(Lane(_shapes(block.steps, operators)),),
    )


@_shape.register
def _(block: Loop, operators: Operators) -> Shape:
    details = [f"{name} begins as {outer}" for name, outer in block.carry.items()]
    if block.until is not None:
        details.append(f"until {condition_text(block.until)}")
    steps = _shapes(block.steps, operators)
    return Shape(
        "loop",
        f"loop: at most {value_text(block.times)} rounds",
        tuple(details),
        steps[-1].gives if steps else "",
        lanes=(Lane(steps),),
    )


@_shape.register
def _(block: Recurse, operators: Operators) -> Shape:
    depth, nodes = value_text(block.max_depth), value_text(block.max_nodes)
    return Shape(
        "recurse",
        f"recurse: {block.item} from {block.seed}",
        (
            f"children: {block.children}",
            f"at most {depth} levels below, {nodes} nodes",
            _collected(block.collect),
        ),
        ", ".join(block.collect.values()),
        lanes=(Lane(_shapes(block.steps, operators)),),
    )


@_shape.register
def _(block: Nested, operators: Operators) -> Shape:
    details = [f"reads {_renamed(block.inputs)}"] if block.inputs else []
    details += [f"writes {_renamed(block.outputs, gives=True)}"] if block.outputs else []
    inner = block.definition
    return Shape(
        "pipeline",
        f"pipeline {inner.name}",
        tuple(details),
        ", ".join(block.outputs.get(name, name) for name in inner.outputs),
        lanes=(Lane(_shapes(inner.steps, operators)),),
    )


def _merges(merge: Mapping[str, Step], operators: Operators) -> tuple[Shape, ...]:
    shapes = []
    for variable, step in merge.items():
        shape = _shape(step, operators)
        shapes.append(
            replace(shape, details=(*shape.details, f"merges {variable}"), gives=variable)
        )
    return tuple(shapes)


def _collected(collect: Mapping[str, str]) -> str:
    return "collects " + ", ".join(f"{inner} into {outer}" for inner, outer in collect.items())


def _renamed(names: Mapping[str, str], *, gives: bool = False) -> str:
    arrow = "→" if gives else "←"
    return ", ".join(
        name if name == variable else f"{name} {arrow} {variable}"
        for name, variable in names.items()
    )


def _configured(use: Any) -> dict[str, Any]:
    """Return the settings of an operator made in Python that differ from its defaults."""
    if not is_dataclass(use) or isinstance(use, type):
        return {}
    plain = (str, bool, int, float, tuple, Mapping, type(None))
    values = {field.name: (getattr(use, field.name), field.default) for field in fields(use)}
    return {
        name: value
        for name, (value, default) in values.items()
        if isinstance(value, plain) and value != default
    }


def _written(step: Step, operators: Operators) -> str:
    if step.output:
        return step.output
    if isinstance(step.use, str):
        return operators[step.use].output.name if step.use in operators else ""
    call = step.use if hasattr(step.use, "__name__") else type(step.use).__call__
    try:
        given = get_type_hints(call).get("return")
    except (NameError, TypeError):
        return ""
    return (types.variable_for(given) or "") if given is not None else ""

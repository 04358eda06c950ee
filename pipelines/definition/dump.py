"""A definition as YAML that `load_text` reads back as the same definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from pipelines.definition.convert import looks_like_text
from pipelines.definition.interpolate import escaped
from pipelines.definition.nodes import Fields, Items, Scalar
from pipelines.flow.blocks import (
    Block,
    Branch,
    Definition,
    Loop,
    Map,
    Nested,
    Recurse,
    ResourceUse,
    Route,
    Step,
)
from pipelines.flow.conditions import AllOf, AnyOf, Condition, Judged, Negation
from pipelines.flow.naming import Named, identified, named, rebuilt
from rag.record_json import to_json

_WIDTH = 96
_STEP_DEFAULTS: Mapping[str, Any] = {
    "id": "",
    "with": {},
    "in": {},
    "out": None,
    "when": None,
    "cache": False,
}
_resolver: Any = yaml.resolver.Resolver()


def to_yaml(definition: Definition) -> str:
    """Return a pipeline as a file, keys in the order in which the documentation has them.

    What came from the environment is written as the reference that it was, so no secret gets into
    a file; what was extended, included or overridden is written out. Ids that a step would
    have anyway are left out.

    Raises:
        ValueError: for a step or resource that is an object and no short name, and for a nested
            pipeline that comes from no file.
    """
    definition = named(definition)
    _refuse_callables(definition)
    definition = _without_usual_ids(definition)
    data: dict[str, Any] = {"version": 1, "name": definition.name}
    if definition.description:
        data["description"] = definition.description
    if definition.variables:
        data["vars"] = definition.variables
    if definition.resources:
        resources = definition.resources.items()
        data["resources"] = {name: _resource(name, use) for name, use in resources}
    if definition.inputs != {"query": "Query"}:
        data["inputs"] = definition.inputs
    data["steps"] = [_block(block) for block in definition.steps]
    data["outputs"] = list(definition.outputs)
    text: str = yaml.serialize(
        _mapping(data, block=True), width=_WIDTH, allow_unicode=True, Dumper=_Dumper
    )
    return text


class _Dumper(yaml.SafeDumper):
    """Indents lists inside maps."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)


# --- blocks as plain data ------------------------------------------------------------------


def _resource(name: str, use: ResourceUse) -> dict[str, Any]:
    if not isinstance(use.use, str):
        raise ValueError(  # noqa: TRY004
            f"resource {name!r} is a {type(use.use).__name__} and has no short name; leave it "
            "unbound and give it to the run"
        )
    return {"use": use.use, **({"with": use.options} if use.options else {})}


def _block(block: Block) -> Any:
    if isinstance(block, Step):
        return _shortest(block)
    writers: Mapping[type, Any] = {
        Route: _route,
        Branch: _branch,
        Map: _map,
        Loop: _loop,
        Recurse: _recurse,
        Nested: _nested,
    }
    kind = "pipeline" if isinstance(block, Nested) else type(block).__name__.lower()
    return {kind: writers[type(block)](block)}


def _refuse_callables(definition: Definition) -> None:
    for one in identified(definition.steps):
        if isinstance(one, Step) and not isinstance(one.use, str):
            name = getattr(one.use, "__name__", "")
            kind = "function" if name else type(one.use).__name__
            kind = "lambda" if name == "<lambda>" else kind
            raise ValueError(  # noqa: TRY004
                f"step {one.id!r} is a {kind} and has no short name; register it under one, "
                "and name it in the step"
            )


def _shortest(step: Step) -> Any:
    written = _step(step)
    return written if len(written) > 1 or "." not in step.use else step.use  # type: ignore[operator]


def _step(step: Step) -> dict[str, Any]:
    data = {
        "id": step.id,
        "with": step.options,
        "in": step.inputs,
        "out": step.output,
        "when": None if step.when is None else _condition(step.when),
        "cache": step.cache,
    }
    return {"use": step.use, **_unusual(data, _STEP_DEFAULTS)}


def _route(route: Route) -> dict[str, Any]:
    by = route.by if isinstance(route.by, str) else _shortest(route.by)
    data = {
        "policy": route.policy,
        "threshold": route.threshold,
    }
    otherwise = route.otherwise
    return {
        "by": by,
        **_unusual(data, {"policy": "single", "threshold": 0.5}),
        "arms": _arms(route.arms),
        **({} if otherwise is None else {"else": [_block(block) for block in otherwise]}),
        **({"merge": _merge(route.merge)} if route.merge else {}),
    }


def _branch(branch: Branch) -> dict[str, Any]:
    return {"arms": _arms(branch.arms), "merge": _merge(branch.merge)}


def _map(block: Map) -> dict[str, Any]:
    return {
        "over": block.over,
        "as": block.item,
        **_unusual({"max_parallel": block.max_parallel}, {"max_parallel": 8}),
        "steps": [_block(inner) for inner in block.steps],
        **_collect(block.collect),
    }


def _loop(block: Loop) -> dict[str, Any]:
    until = None if block.until is None else _condition(block.until)
    return {
        "times": block.times,
        **_unusual({"carry": block.carry, "until": until}, {"carry": {}, "until": None}),
        "steps": [_block(inner) for inner in block.steps],
    }


def _recurse(block: Recurse) -> dict[str, Any]:
    return {
        "seed": block.seed,
        **_unusual({"as": block.item}, {"as": "node"}),
        "children": block.children,
        "max_depth": block.max_depth,
        "max_nodes": block.max_nodes,
        "steps": [_block(inner) for inner in block.steps],
        **_collect(block.collect),
    }


def _nested(block: Nested) -> dict[str, Any]:
    if not block.source:
        raise ValueError(
            f"pipeline {block.definition.name!r} comes from no file; write it to one, "
            "and name that file"
        )
    source = {key: value for key, value in block.source.items() if key != "with"}
    data = {
        "id": block.id,
        "with": block.source.get("with", {}),
        "in": block.inputs,
        "out": block.outputs,
    }
    return {**source, **_unusual(data, {"id": "", "with": {}, "in": {}, "out": {}})}


def _arms(arms: Mapping[str, Sequence[Block]]) -> dict[str, Any]:
    return {label: [_block(block) for block in steps] for label, steps in arms.items()}


def _merge(merge: Mapping[str, Step]) -> dict[str, Any]:
    return {name: _shortest(step) for name, step in merge.items()}


def _collect(collect: Mapping[str, str]) -> dict[str, Any]:
    if len(collect) == 1:
        ((inner, outer),) = collect.items()
        return {"collect": inner, "into": outer}
    return {"collect": collect}


def _condition(condition: Condition) -> dict[str, Any]:
    if isinstance(condition, (AllOf, AnyOf)):
        key = "all" if isinstance(condition, AllOf) else "any"
        return {key: [_condition(part) for part in condition.parts]}
    if isinstance(condition, Negation):
        return {"not": _condition(condition.part)}
    if isinstance(condition, Judged):
        return {"judge": _shortest(condition.judge)}
    if condition.comparison == "true" and condition.value is True:
        return {"var": condition.var}
    return {"var": condition.var, condition.comparison: condition.value}


def _unusual(data: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value != usual[key]}


def _without_usual_ids(definition: Definition) -> Definition:
    """Return a pipeline without the ids that naming it would give again."""
    ids = [one.id for one in identified(definition.steps)]
    kept: set[int] = set()
    while True:
        stripped = _with_ids(definition, [one if n in kept else "" for n, one in enumerate(ids)])
        again = [one.id for one in identified(named(stripped).steps)]
        differ = {n for n, (old, new) in enumerate(zip(ids, again, strict=True)) if old != new}
        if not differ:
            return stripped
        kept |= differ


def _with_ids(definition: Definition, ids: Sequence[str]) -> Definition:
    rest = iter(ids)

    def give(one: Named) -> Named:
        return replace(one, id=next(rest))

    return replace(definition, steps=rebuilt(definition.steps, give))


# --- plain data as YAML --------------------------------------------------------------------


def _node(value: Any) -> yaml.Node:
    if isinstance(value, (Fields, Mapping)):
        return _mapping(value.values if isinstance(value, Fields) else value)
    if isinstance(value, (Items, list, tuple)):
        return _sequence(value.items if isinstance(value, Items) else value)
    if isinstance(value, Scalar):
        return _written(value)
    if isinstance(value, (str, Path)):
        return _text(escaped(str(value)))
    if value is None or isinstance(value, (bool, int, float)):
        return _bare(_constant(value))
    return _node(to_json(value))


def _constant(value: float | None) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return _decimal(value) if isinstance(value, float) else str(value)


def _written(value: Scalar) -> yaml.Node:
    if value.written:
        return _text(value.written)
    if value.quoted or looks_like_text(value.text):
        return _text(escaped(value.text))
    return _bare(value.text or "null")


def _mapping(value: Mapping[str, Any], *, block: bool = False) -> yaml.Node:
    pairs = [(_text(str(key)), _node(inside)) for key, inside in value.items()]
    node = yaml.MappingNode("tag:yaml.org,2002:map", pairs, flow_style=False)
    node.flow_style = not block and _short([one for pair in pairs for one in pair])
    return node


def _sequence(values: Sequence[Any]) -> yaml.Node:
    nodes = [_node(value) for value in values]
    return yaml.SequenceNode("tag:yaml.org,2002:seq", nodes, flow_style=_short(nodes))


def _short(nodes: Sequence[yaml.Node]) -> bool:
    """Return whether nodes fit into one line of a flow list or map."""
    plain = all(isinstance(one, yaml.ScalarNode) and one.style != "|" for one in nodes)
    return plain and sum(len(one.value) + 4 for one in nodes) <= _WIDTH - 24


def _text(text: str) -> yaml.Node:
    """Return text so that neither YAML 1.1 nor we take it for anything else."""
    if "\n" in text and text.strip() == text:
        return yaml.ScalarNode("tag:yaml.org,2002:str", text, style="|")
    style = None if looks_like_text(text) else "'"
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style=style)


def _bare(text: str) -> yaml.Node:
    tag = _resolver.resolve(yaml.ScalarNode, text, (True, False))
    return yaml.ScalarNode(tag, text)


def _decimal(value: float) -> str:
    """Return a number with a dot and a signed exponent, which YAML 1.1 needs to see a number."""
    mantissa, exponent, power = repr(value).partition("e")
    if not exponent:
        return mantissa
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{mantissa}e{power if power[0] in '+-' else f'+{power}'}"

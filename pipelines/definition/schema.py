"""The JSON Schema of pipeline files, for editors: draft-07, made from the catalogue.

Where a value has a type other than text, a reference such as `${vars.k}` is accepted too. Options
are not required, because a file that extends another may leave them out; `dovetail check` knows.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pipelines.catalogue.spec import REQUIRED, Catalogue, Need, OperatorSpec, Option, ResourceSpec
from pipelines.definition.keys import BLOCKS, COMPARED
from rag.bounds import Bounds
from rag.record_json import to_json
from rag.routing.policies import POLICIES

Schema = dict[str, Any]

_REFERENCE: Schema = {"$ref": "#/definitions/reference"}
_VARIABLE: Schema = {"type": "string", "pattern": "^([A-Za-z_][A-Za-z0-9_]*|\\$\\{.*\\})$"}
_VARIABLES: Schema = {"type": "object", "additionalProperties": _VARIABLE}
_SCALARS: Mapping[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Path: {"type": "string"},
    type(None): {"type": "null"},
}


def schema(catalogue: Catalogue) -> Schema:
    """Return the schema of files that may name what is in the catalogue."""
    operators, resources = catalogue.operators.values(), catalogue.resources.values()
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Dovetail pipeline",
        "type": "object",
        "properties": _top(),
        "additionalProperties": False,
        "anyOf": [{"required": ["steps"]}, {"required": ["extends"]}],
        "definitions": {
            "reference": {"type": "string", "pattern": "\\$\\{"},
            "blocks": {"type": "array", "items": {"$ref": "#/definitions/block"}},
            "block": _block(),
            "step": _step(operators),
            "condition": _condition(),
            **{kind: _of_block(kind) for kind in BLOCKS},
            "resource": _using(resources, "resource"),
            **{f"operator.{one.name}": _settings(one) for one in operators},
            **{f"resource.{one.name}": _settings(one) for one in resources},
        },
    }


def _top() -> Schema:
    return {
        "version": {"const": 1, "description": "of this format"},
        "name": _about(_SCALARS[str], "what reports call the pipeline"),
        "description": _about(_SCALARS[str], "for a person"),
        "extends": _about(_SCALARS[str], "recipe or file that this one changes"),
        "vars": {"type": "object", "description": "values that ${vars.NAME} stands for"},
        "resources": {
            "type": "object",
            "description": "models, indexes and stores, shared by the steps",
            "additionalProperties": {"$ref": "#/definitions/resource"},
        },
        "inputs": {
            "type": "object",
            "description": "variable to type; {query: Query} by default",
            "additionalProperties": {"type": "string"},
        },
        "steps": _about({"$ref": "#/definitions/blocks"}, "what happens, in order"),
        "outputs": {
            "type": "array",
            "items": _VARIABLE,
            "description": "variables that a run returns; [answer] by default",
        },
    }


# --- blocks --------------------------------------------------------------------------------


def _block() -> Schema:
    """Tell blocks apart by their only key, so that an editor reports on the one that is meant."""
    found: Schema = {"$ref": "#/definitions/step"}
    for kind in reversed((*BLOCKS, "include")):
        inside = {"type": "string"} if kind == "include" else {"$ref": f"#/definitions/{kind}"}
        found = {
            "if": {"type": "object", "required": [kind]},
            "then": _closed({kind: inside}),
            "else": found,
        }
    return found


def _step(operators: Iterable[OperatorSpec]) -> Schema:
    more = {
        "id": {"type": "string", "description": "what --set and the trace call the step"},
        "in": _about(_VARIABLES, "input to the variable it reads, where the names differ"),
        "out": {
            "anyOf": [_VARIABLE, {**_VARIABLES, "minProperties": 1, "maxProperties": 1}],
            "description": "the variable it writes",
        },
        "when": _about({"$ref": "#/definitions/condition"}, "run only if this holds"),
        "cache": _about(_or_reference(_SCALARS[bool]), "keep results by content"),
    }
    return _using(list(operators), "operator", more)


def _using(
    specs: Iterable[OperatorSpec | ResourceSpec],
    kind: str,
    more: Mapping[str, Schema] | None = None,
) -> Schema:
    specs = list(specs)
    names = [{"const": one.name, "description": one.summary} for one in specs]
    use: Schema = {"anyOf": [*names, _REFERENCE]}
    keys = {"use": use, "with": {"type": "object"}, **(more or {})}
    long: Schema = {
        **_closed(keys),
        "allOf": [
            {
                "if": {"required": ["use"], "properties": {"use": {"const": one.name}}},
                "then": {"properties": {"with": {"$ref": f"#/definitions/{kind}.{one.name}"}}},
            }
            for one in specs
        ],
    }
    if not long["allOf"]:
        del long["allOf"]
    if kind == "resource":
        return long
    return {"if": {"type": "string"}, "then": use, "else": long}


def _of_block(kind: str) -> Schema:
    blocks, step = {"$ref": "#/definitions/blocks"}, {"$ref": "#/definitions/step"}
    merge = {"type": "object", "additionalProperties": step}
    arms = {"type": "object", "additionalProperties": blocks}
    condition = {"$ref": "#/definitions/condition"}
    collect = {"anyOf": [_VARIABLE, _VARIABLES]}
    many = _or_reference({"type": "integer", "minimum": 1})
    kinds: Mapping[str, Schema] = {
        "route": _closed(
            {
                "by": {"anyOf": [_VARIABLE, step]},
                "arms": arms,
                "policy": {"enum": list(POLICIES)},
                "threshold": _or_reference({"type": "number", "minimum": 0, "maximum": 1}),
                "else": blocks,
                "merge": merge,
            },
            needed=("by", "arms"),
        ),
        "branch": _closed({"arms": arms, "merge": merge}, needed=("arms", "merge")),
        "map": _closed(
            {
                "over": _VARIABLE,
                "as": _VARIABLE,
                "steps": blocks,
                "collect": collect,
                "into": _VARIABLE,
                "max_parallel": many,
            },
            needed=("over", "as", "steps", "collect"),
        ),
        "loop": _closed(
            {"times": many, "steps": blocks, "until": condition, "carry": _VARIABLES},
            needed=("times", "steps"),
        ),
        "recurse": _closed(
            {
                "seed": _VARIABLE,
                "as": _VARIABLE,
                "steps": blocks,
                "children": _VARIABLE,
                "max_depth": _or_reference({"type": "integer", "minimum": 0}),
                "max_nodes": many,
                "collect": collect,
                "into": _VARIABLE,
            },
            needed=("seed", "steps", "children", "max_depth", "max_nodes", "collect"),
        ),
        "pipeline": {
            **_closed(
                {
                    "file": {"type": "string"},
                    "name": {"type": "string"},
                    "id": {"type": "string"},
                    "in": _VARIABLES,
                    "out": {"anyOf": [_VARIABLE, _VARIABLES]},
                    "with": {"type": "object"},
                }
            ),
            "oneOf": [{"required": ["file"]}, {"required": ["name"]}],
        },
    }
    return kinds[kind]


def _condition() -> Schema:
    condition = {"$ref": "#/definitions/condition"}
    several = {"type": "array", "items": condition, "minItems": 1}
    test: Schema = {"var": {"type": "string"}, **{name: {} for name in COMPARED}}
    return {
        "anyOf": [
            {**_closed(test, needed=("var",)), "maxProperties": 2},
            _closed({"all": several}, needed=("all",)),
            _closed({"any": several}, needed=("any",)),
            _closed({"not": condition}, needed=("not",)),
            _closed({"judge": {"$ref": "#/definitions/step"}}, needed=("judge",)),
        ]
    }


# --- options -------------------------------------------------------------------------------


def _settings(spec: OperatorSpec | ResourceSpec) -> Schema:
    options = {option.name: _option(option) for option in spec.options}
    needs = {need.name: _need(need) for need in spec.needs}
    return {"description": spec.summary, **_closed(options | needs)}


def _option(option: Option) -> Schema:
    found = _or_reference(_of_type(option.kind, option.bounds))
    about = option.about
    if option.default is REQUIRED:
        return _about(found, f"{about} (required)".strip())
    default = str(option.default) if isinstance(option.default, Path) else option.default
    return _about({**found, "default": to_json(default)}, about)


def _need(need: Need) -> Schema:
    about = need.about or f"name of a resource of the kind {need.kind}"
    return _about({"type": "string", "default": need.name}, about)


def _of_type(kind: Any, bounds: Bounds | None = None) -> Schema:
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Annotated:
        inner = next((one for one in arguments[1:] if isinstance(one, Bounds)), bounds)
        return _of_type(arguments[0], inner)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of_type(one, bounds) for one in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if kind in (int, float):
        return {**_SCALARS[kind], **_limits(bounds)}
    if is_dataclass(origin):
        return _record(origin)
    return _container(origin, arguments) or dict(_SCALARS.get(kind, {}))


def _container(origin: Any, arguments: tuple[Any, ...]) -> Schema:
    if origin in (dict, Mapping):
        values = _of_type(arguments[1]) if arguments else {}
        return {"type": "object", "additionalProperties": _or_reference(values)}
    if origin not in (list, tuple, Sequence):
        return {}
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        items = [_or_reference(_of_type(one)) for one in arguments]
        return {"type": "array", "items": items, "minItems": len(items), "maxItems": len(items)}
    items_of = _or_reference(_of_type(arguments[0])) if arguments else {}
    return {"type": "array", "items": items_of}


def _record(kind: Any) -> Schema:
    hints = get_type_hints(kind, include_extras=True)
    taken = [field.name for field in fields(kind) if field.init]
    return _closed({name: _or_reference(_of_type(hints[name])) for name in taken})


def _limits(bounds: Bounds | None) -> Schema:
    if bounds is None:
        return {}
    low = "exclusiveMinimum" if bounds.open_low else "minimum"
    limits = {low: bounds.low, "maximum": bounds.high}
    return {key: value for key, value in limits.items() if value is not None}


def _closed(properties: Mapping[str, Schema], *, needed: Sequence[str] = ()) -> Schema:
    required = {"required": list(needed)} if needed else {}
    return {
        "type": "object",
        "properties": dict(properties),
        **required,
        "additionalProperties": False,
    }


def _or_reference(value: Schema) -> Schema:
    """Allow `${...}` beside a value that is not text anyway."""
    if not value or value.get("type") == "string":
        return value
    return {"anyOf": [value, _REFERENCE]}


def _about(value: Schema, description: str) -> Schema:
    return {**value, "description": description} if description else dict(value)

"""The catalogue as a table in a file: read in a millisecond, without importing any operator."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from pipelines.catalogue.entries import OPERATORS, RESOURCES
from pipelines.catalogue.spec import (
    REQUIRED,
    Catalogue,
    Need,
    OperatorSpec,
    Option,
    Port,
    ResourceSpec,
)
from pipelines.flow.types import parse, show
from rag.bounds import Bounds
from rag.record_json import from_json, to_json

TABLE = Path(__file__).with_name("table.json")


@cache
def catalogue() -> Catalogue:
    """Return the operators and resources that come with Dovetail."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    return Catalogue(
        {row["name"]: _operator(row) for row in table["operators"]},
        {row["name"]: _resource(row) for row in table["resources"]},
    )


def generated() -> str:
    """Return the table as the annotations and docstrings of all operators make it.

    This imports every operator. `python -m pipelines.catalogue` writes it; a test compares.
    """
    from pipelines.catalogue.describe import describe, describe_resource

    operators = [
        describe(load(entry.target), name, **asdict(entry)) for name, entry in OPERATORS.items()
    ]
    resources = [
        describe_resource(load(entry.target), name, **asdict(entry))
        for name, entry in RESOURCES.items()
    ]
    table = {
        "operators": [entry_row(operator) for operator in operators],
        "resources": [entry_row(resource) for resource in resources],
    }
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"


def load(target: str) -> Any:
    """Import what a target of our own table names, `module:attribute`."""
    module, _, attribute = target.partition(":")
    found = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def entry_row(spec: OperatorSpec | ResourceSpec) -> dict[str, Any]:
    """Return an operator or a resource as plain JSON."""
    return _operator_row(spec) if isinstance(spec, OperatorSpec) else _resource_row(spec)


def _operator_row(spec: OperatorSpec) -> dict[str, Any]:
    return {
        **_shared_row(spec),
        "submodule": spec.submodule,
        "inputs": [_port_row(port) for port in spec.inputs],
        "output": {"name": spec.output.name, "kind": show(spec.output.kind)},
        **{flag: True for flag in _FLAGS if getattr(spec, flag)},
    }


def _port_row(port: Port) -> dict[str, Any]:
    optional = {"optional": True} if port.optional else {}
    return {"name": port.name, "kind": show(port.kind), **optional}


_FLAGS = ("batched", "streams", "asynchronous")


def _resource_row(spec: ResourceSpec) -> dict[str, Any]:
    return {**_shared_row(spec), "kind": spec.kind}


def _shared_row(spec: OperatorSpec | ResourceSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "target": spec.target,
        "summary": spec.summary,
        "about": spec.about,
        "options": [_option_row(option) for option in spec.options],
        "needs": [asdict(need) for need in spec.needs],
        **({"extra": spec.extra} if spec.extra else {}),
    }


def _option_row(option: Option) -> dict[str, Any]:
    row: dict[str, Any] = {"name": option.name, "kind": show(option.kind), "about": option.about}
    if option.default is not REQUIRED:
        row["default"] = to_json(option.default)
    if option.bounds is not None:
        row["bounds"] = asdict(option.bounds)
    return row


def _operator(row: Mapping[str, Any]) -> OperatorSpec:
    return OperatorSpec(
        name=row["name"],
        target=row["target"],
        submodule=row["submodule"],
        summary=row["summary"],
        about=row["about"],
        options=_options(row["options"]),
        needs=tuple(Need(**need) for need in row["needs"]),
        inputs=tuple(
            Port(port["name"], parse(port["kind"]), port.get("optional", False))
            for port in row["inputs"]
        ),
        output=Port(row["output"]["name"], parse(row["output"]["kind"])),
        extra=row.get("extra", ""),
        **{flag: row.get(flag, False) for flag in _FLAGS},
    )


def _resource(row: Mapping[str, Any]) -> ResourceSpec:
    return ResourceSpec(
        row["name"],
        row["kind"],
        row["target"],
        row["summary"],
        row["about"],
        _options(row["options"]),
        tuple(Need(**need) for need in row["needs"]),
        row.get("extra", ""),
    )


def _options(rows: Sequence[Mapping[str, Any]]) -> tuple[Option, ...]:
    return tuple(
        Option(
            row["name"],
            parse(row["kind"]),
            _default(row),
            row["about"],
            Bounds(**row["bounds"]) if "bounds" in row else None,
        )
        for row in rows
    )


def _default(row: Mapping[str, Any]) -> Any:
    if "default" not in row:
        return REQUIRED
    return from_json(parse(row["kind"]), row["default"], where=row["name"])

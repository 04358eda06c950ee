"""The schema: current, draft-07, takes what the loader takes and refuses what it refuses."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest
import yaml

import pipelines
from pipelines.catalogue.spec import Catalogue, Need, OperatorSpec, Option, Port, ResourceSpec
from pipelines.definition.keys import KEYS
from pipelines.definition.schema import schema
from rag.bounds import Bounds
from rag.records import Passage, Query, Span

jsonschema = pytest.importorskip("jsonschema")


def operator(name, *options, needs=()):
    inputs = (Port("query", Query),)
    output = Port("passages", list[Passage])
    return OperatorSpec(name, "", "", f"Does {name}.", "", options, needs, inputs, output)


MADE_UP = Catalogue(
    operators={
        one.name: one
        for one in (
            operator(
                "retrieve.hybrid",
                Option("top_k", int, 5, "passages", Bounds(low=1)),
                Option("weight", float | None, None, "", Bounds(low=0, high=1, open_low=True)),
                Option("mode", Literal["sum", "max"], "sum"),
                Option("stop", tuple[str, ...], ()),
                Option("pair", tuple[int, str]),
                Option("path", Path, Path("a")),
                Option("each", Mapping[str, bool], {}),
                Option("span", Span | None, None),
                needs=(Need("index", "index"),),
            ),
            operator("generate.plain"),
        )
    },
    resources={
        "lm.local": ResourceSpec("lm.local", "lm", "", "A model.", "", (Option("model", str),)),
    },
)


def errors(text, catalogue=MADE_UP):
    checker = jsonschema.Draft7Validator(schema(catalogue))
    return [error.message for error in checker.iter_errors(yaml.safe_load(text))]


def test_it_is_draft_07():
    jsonschema.Draft7Validator.check_schema(schema(MADE_UP))
    assert schema(MADE_UP)["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema.Draft7Validator.check_schema(schema(Catalogue({}, {})))
    json.dumps(schema(MADE_UP))


@pytest.mark.parametrize(
    "steps",
    [
        "[retrieve.hybrid, {use: generate.plain}]",
        (
            "[{use: retrieve.hybrid, with: {top_k: 1, weight: 0.5, mode: max, "
            "stop: [a], pair: [1, b]}}]"
        ),
        (
            "[{use: retrieve.hybrid, with: {path: x, each: {a: true}, "
            "span: {start: 1, end: 2}, index: i}}]"
        ),
        (
            "[{use: retrieve.hybrid, with: {top_k: '${vars.k}', weight: null}, "
            "in: {query: q}, out: x}]"
        ),
        "[{id: retrieve, with: {top_k: 1}}]",
        "[{use: '${vars.o}', with: {anything: 1}}]",
        (
            "[{use: generate.plain, when: {all: [{var: a.b, below: 1}, "
            "{not: {judge: generate.plain}}]}}]"
        ),
        "[loop: {times: 2, carry: {a: b}, until: {var: x}, steps: [generate.plain]}]",
        (
            "[route: {by: x, arms: {a: [], b: [generate.plain]}, else: [], "
            "policy: all, merge: {a: generate.plain}}]"
        ),
        "[branch: {arms: {a: []}, merge: {a: {use: generate.plain}}}]",
        "[map: {over: a, as: b, steps: [], collect: c, into: d, max_parallel: 2}]",
        "[recurse: {seed: a, children: b, max_depth: 0, max_nodes: 1, steps: [], collect: {a: b}}]",
        "[pipeline: {name: naive, with: {k: 1}, out: {answer: a}}, include: x.yaml]",
    ],
)
def test_takes(steps):
    assert errors(f"steps: {steps}") == []


def test_takes_all_keys_at_the_top():
    text = (
        "{version: 1, name: a, description: b, extends: c, vars: {k: [1]}, inputs: {query: Query}, "
        "resources: {lm: {use: lm.local, with: {model: x}}}, outputs: [answer]}"
    )
    assert errors(text) == []


@pytest.mark.parametrize(
    "steps",
    [
        "[retrieve.hybird]",
        "[{use: retrieve.hybird}]",
        "[{use: retrieve.hybrid, wiht: {}}]",
        "[{use: retrieve.hybrid, with: {topk: 1}}]",
        "[{use: retrieve.hybrid, with: {top_k: 0}}]",
        "[{use: retrieve.hybrid, with: {top_k: many}}]",
        "[{use: retrieve.hybrid, with: {weight: 0}}]",
        "[{use: retrieve.hybrid, with: {weight: 2}}]",
        "[{use: retrieve.hybrid, with: {mode: min}}]",
        "[{use: retrieve.hybrid, with: {stop: a}}]",
        "[{use: retrieve.hybrid, with: {pair: [1]}}]",
        "[{use: retrieve.hybrid, with: {each: {a: 1}}}]",
        "[{use: retrieve.hybrid, with: {span: {from: 1}}}]",
        "[{use: generate.plain, with: {top_k: 1}}]",
        "[{use: generate.plain, cache: 1}]",
        "[{use: generate.plain, when: {var: a, above: 1, below: 2}}]",
        "[{use: generate.plain, when: {all: []}}]",
        "[loop: {steps: []}]",
        "[loop: {times: 0, steps: []}]",
        "[loop: {times: 1, steps: [retrieve.hybird]}]",
        "[{loop: {times: 1, steps: []}, id: x}]",
        "[route: {arms: {}}]",
        "[recurse: {seed: a, children: b, max_nodes: 1, steps: [], collect: {a: b}}]",
        "[pipeline: {name: a, file: b}]",
        "[map: {over: a b, as: b, steps: [], collect: c}]",
    ],
)
def test_refuses(steps):
    assert errors(f"steps: {steps}")


@pytest.mark.parametrize(
    "text",
    [
        "{name: a}",
        "{steps: [], version: 2}",
        "{steps: [], stesp: []}",
        "{steps: [], outputs: a}",
        "{steps: [], resources: {lm: {use: lm.other}}}",
        "{steps: [], resources: {lm: {use: lm.local, with: {modle: x}}}}",
    ],
)
def test_refuses_at_the_top(text):
    assert errors(text)


def test_descriptions_and_defaults_come_from_the_catalogue():
    of = schema(MADE_UP)["definitions"]["operator.retrieve.hybrid"]
    assert of["description"] == "Does retrieve.hybrid."
    assert of["properties"]["top_k"]["default"] == 5
    assert of["properties"]["top_k"]["description"] == "passages"
    assert of["properties"]["pair"]["description"] == "(required)"
    assert of["properties"]["path"]["default"] == "a"
    assert of["properties"]["index"]["default"] == "index"


def test_it_has_the_keys_that_the_loader_has():
    definitions = schema(MADE_UP)["definitions"]
    assert set(schema(MADE_UP)["properties"]) == set(KEYS["pipeline"].names)
    assert set(definitions["step"]["else"]["properties"]) == set(KEYS["step"].names)
    assert set(definitions["resource"]["properties"]) == set(KEYS["resource"].names)
    assert set(definitions["pipeline"]["properties"]) == set(KEYS["nested"].names)
    for kind in ("route", "branch", "map", "loop", "recurse"):
        assert set(definitions[kind]["properties"]) == set(KEYS[kind].names)
        assert set(definitions[kind]["required"]) == set(KEYS[kind].needed)


def test_the_committed_schema_is_current():
    from pipelines.catalogue.table import catalogue

    path = Path(pipelines.__file__).with_name("pipeline.schema.json")
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found == json.loads(json.dumps(schema(catalogue()))), "run python -m pipelines.catalogue"

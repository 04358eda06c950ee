"""Writing: what is written is read back as the same pipeline, by us and by any reader of YAML."""

from dataclasses import fields, is_dataclass

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.definition.convert import plain
from pipelines.definition.dump import to_yaml
from pipelines.definition.load import load_text
from pipelines.definition.nodes import Fields, Items, Scalar
from pipelines.flow.blocks import (
    Branch,
    Definition,
    Loop,
    Map,
    Nested,
    Recurse,
    ResourceUse,
    Route,
    Step,
    flow,
    step,
)
from pipelines.flow.conditions import AllOf, AnyOf, Judged, Negation
from pipelines.flow.conditions import Test as Compared
from pipelines.flow.naming import named

EXAMPLE = """\
version: 1
name: example
vars: {k: 5}
resources:
  kv:
    use: kv.disk
    with: {path: .cache}
steps:
  - retrieve.hybrid
  - use: generate.chat
    id: draft
    with:
      tokens: 5
      stop: ['no', '010', 1e-5, '5']
      key: a${env:KEY:-b}$${
    in: {passages: found}
    out: first
    when: {var: judgement.score, below: 0.5}
    cache: true
  - loop:
      times: 2
      carry: {search: query}
      until: {judge: judge.stable}
      steps: [retrieve.dense]
outputs: [answer]
"""


def same(text, **environ):
    definition, mistakes = load_text(text, environ=environ)
    assert mistakes == []
    written = to_yaml(definition)
    again, mistakes = load_text(written, environ=environ)
    assert mistakes == []
    assert again == definition
    return written


def test_a_file_in_the_usual_order_is_written_as_it_was():
    assert same(EXAMPLE) == EXAMPLE


def test_values_of_the_environment_are_never_written():
    written = same(EXAMPLE + "description: 'x'\n", KEY="s3cret")
    assert "s3cret" not in written
    assert "${env:KEY:-b}" in written


def test_ids_are_written_only_if_naming_would_not_give_them():
    text = (
        "steps: [{use: a.b, id: a_2}, {use: a.b, id: x}, {use: a.b}, {use: a.b, id: a_4}, a.b, "
        "{use: a.c, id: a_3}]\n"
    )
    written = same(text)
    assert written.count("id: ") < 6


def test_multi_line_text_is_a_block():
    assert "prompt: |-\n" in same('steps: [{use: a.b, with: {prompt: "one\\ntwo: x"}}]')


def test_a_step_that_is_no_name_is_refused():
    def shorten(answer): ...

    for use, shown in (
        (lambda q: q, "lambda"),
        (shorten, "function"),
        (yaml.YAMLError(), "YAMLError"),
    ):
        name = named(Definition(name="x", steps=(Step(use=use),))).steps[0].id
        with pytest.raises(
            ValueError, match=rf"^step '{name}' is a {shown} and has no short name; "
        ):
            to_yaml(Definition(name="x", steps=(Step(use=use),)))


def test_a_resource_that_is_an_object_is_refused():
    definition = Definition(name="x", steps=(), resources={"lm": ResourceUse(use=object())})
    with pytest.raises(ValueError, match=r"^resource 'lm' is a object and has no short"):
        to_yaml(definition)


def test_a_nested_pipeline_is_written_as_its_file(tmp_path):
    (tmp_path / "inner.yaml").write_text("vars: {k: 1}\nsteps: [a.b]\noutputs: [x]\n")
    text = "steps: [pipeline: {file: inner.yaml, id: in, with: {k: 2}, in: {query: q}, out: y}]\n"
    definition, mistakes = load_text(text, folder=tmp_path)
    assert mistakes == []
    again, mistakes = load_text(to_yaml(definition), folder=tmp_path)
    assert mistakes == []
    assert again == definition
    inner = Definition(name="inner", steps=())
    with pytest.raises(ValueError, match=r"^pipeline 'inner' comes from no file; write it to one"):
        to_yaml(Definition(name="x", steps=(Nested(definition=inner),)))


def test_python_values_come_back():
    values = {"a": 5, "b": 1e-5, "c": 1e22, "d": True, "e": None, "f": "no", "g": ["1", {"h": ""}]}
    values |= {"i": "${vars.x}", "j": "$${", "k": "1e-5", "l": "a: b # c", "m": "é😀\n ", "n": 1.0}
    definition = Definition(name="x", steps=flow(step("a.b", **values)))
    again, mistakes = load_text(to_yaml(definition))
    assert mistakes == []
    assert plain(again.steps[0].options) == values
    first = yaml.safe_load(to_yaml(definition))["steps"][0]["with"]
    assert {**first, "i": "${vars.x}", "j": "$${"} == values


NAMES = st.sampled_from(["a", "b", "passages", "no", "query_2", "y", "null", "true"])
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
TEXTS = TEXT | st.sampled_from(
    ["no", "010", "1e-5", "12:30", "~", "${", "a\nb", "- x", "=", "1.", ""]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-99, 10**6)
    | TEXTS
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXTS, inside, max_size=3),
    max_leaves=4,
)
USES = st.sampled_from(["a.b", "a.c", "retrieve.hybrid", "no.on", "b.x-1", "1.2"])
WIRES = st.dictionaries(NAMES, NAMES, max_size=2)


def conditions(steps):
    test = st.builds(
        Compared,
        NAMES.map(lambda n: f"{n}.score"),
        st.sampled_from(["equals", "in", "true"]),
        VALUES,
    )
    many = st.lists(test, min_size=1, max_size=2).map(tuple)
    return st.one_of(
        test,
        st.builds(Compared, NAMES, st.just("true")),
        st.builds(Judged, steps),
        st.builds(AllOf, many),
        st.builds(Negation, st.builds(AnyOf, many)),
    )


SIMPLE = st.builds(Step, use=USES, options=st.dictionaries(TEXTS, VALUES, max_size=3), inputs=WIRES)
STEPS = st.builds(
    Step,
    use=USES,
    options=st.dictionaries(NAMES, VALUES, max_size=2),
    output=st.none() | NAMES,
    when=st.none() | conditions(SIMPLE),
    cache=st.booleans(),
)
COLLECT = st.dictionaries(NAMES, NAMES, min_size=1, max_size=2)


def around(blocks):
    many = st.lists(blocks, max_size=2).map(tuple)
    arms = st.dictionaries(TEXTS, many, max_size=2)
    merge = st.dictionaries(NAMES, SIMPLE, max_size=2)
    return st.one_of(
        st.builds(Branch, arms=arms, merge=merge),
        st.builds(Map, over=NAMES, item=NAMES, steps=many, collect=COLLECT),
        st.builds(
            Loop,
            times=st.integers(1, 5),
            steps=many,
            carry=WIRES,
            until=st.none() | conditions(SIMPLE),
        ),
        st.builds(
            Recurse,
            seed=NAMES,
            item=NAMES,
            steps=many,
            children=NAMES,
            max_depth=st.integers(0, 3),
            max_nodes=st.integers(1, 9),
            collect=COLLECT,
        ),
        st.builds(
            Route,
            by=NAMES | SIMPLE,
            arms=arms,
            policy=st.sampled_from(["single", "threshold", "top_p", "all"]),
            threshold=st.floats(0, 1),
            otherwise=st.none() | many,
            merge=merge,
        ),
    )


DEFINITIONS = st.builds(
    Definition,
    name=TEXT,
    description=TEXT,
    inputs=st.dictionaries(NAMES, st.sampled_from(["Query", "list[Passage]"]), max_size=2),
    outputs=st.lists(NAMES, max_size=2).map(tuple),
    resources=st.dictionaries(
        TEXT, st.builds(ResourceUse, use=USES, options=st.dictionaries(NAMES, VALUES)), max_size=2
    ),
    steps=st.lists(st.recursive(STEPS, around, max_leaves=4), max_size=3).map(tuple),
)


@settings(max_examples=25, deadline=None)
@given(DEFINITIONS)
def test_any_pipeline_comes_back(definition):
    once, mistakes = load_text(to_yaml(definition))
    assert mistakes == []
    assert meaning(once) == meaning(named(definition))
    again, _ = load_text(to_yaml(once))
    assert again == once


def meaning(value):
    """Return a definition as plain data, nodes as what they mean without a type."""
    if isinstance(value, (Scalar, Items, Fields)):
        return plain(value)
    if is_dataclass(value):
        kept = [one.name for one in fields(value) if one.compare]
        return type(value).__name__, {name: meaning(getattr(value, name)) for name in kept}
    if isinstance(value, dict):
        return {key: meaning(one) for key, one in value.items()}
    return [meaning(one) for one in value] if isinstance(value, (tuple, list)) else value

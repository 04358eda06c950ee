"""Loading: a file becomes blocks with places; every mistake of its structure in one pass."""

from pathlib import Path

import pytest

from pipelines.definition import compose
from pipelines.definition.load import load_definition, load_text, secrets
from pipelines.definition.nodes import Scalar
from pipelines.flow.blocks import Branch, Loop, Map, Nested, Recurse, Route, Step
from pipelines.flow.conditions import AllOf, AnyOf, Judged, Negation
from pipelines.flow.conditions import Test as Compared
from pipelines.flow.diagnostics import Place


def scalar(text, *, quoted=False):
    return Scalar(text, quoted, None)


def load(text, **more):
    definition, mistakes = load_text(text, file="f.yaml", environ={}, **more)
    return definition, [str(mistake) for mistake in mistakes]


def steps(text):
    definition, mistakes = load(f"steps:\n{text}")
    assert mistakes == []
    return definition.steps


def wrong(text):
    return load(f"steps:\n{text}")[1]


EVERYTHING = """\
version: 1
name: everything
description: all blocks
vars: {k: 5}
resources:
  kv: {use: kv.disk, with: {path: .cache}}
inputs: {query: Query, history: 'list[Turn]'}
steps:
  - retrieve.hybrid
  - use: generate.chat
    id: draft
    with: {lm: lm, tokens: "${vars.k}"}
    in: {passages: found}
    out: {answer: first}
    when: {var: judgement.score, below: 0.5}
    cache: true
  - route:
      by: {use: route.rules, with: {a: b}}
      policy: top_p
      threshold: 0.9
      arms: {none: [], two: [retrieve.dense, {use: prune.x}]}
      else: [generate.plain]
      merge: {passages: fuse.rrf}
  - route: {by: route, arms: {a: [x.y]}}
  - branch: {arms: {a: [x.y]}, merge: {answer: {use: fuse.vote}}}
  - map: {over: queries, as: q, steps: [x.y], collect: passages, into: rankings, max_parallel: 2}
  - map: {over: queries, as: q, steps: [x.y], collect: {passages: rankings, answer: answers}}
  - loop:
      times: 3
      carry: {search: query}
      until: {all: [{judge: judge.stable}, {any: [{var: a, equals: 1}, {not: {var: b}}]}]}
      steps: [x.y]
  - recurse: {seed: query, children: more, max_depth: 2, max_nodes: 9, steps: [x.y],
              collect: answer, into: answers}
outputs: [answer, passages]
"""


def test_every_block_is_built():
    definition, mistakes = load(EVERYTHING)
    assert mistakes == []
    assert (definition.name, definition.description) == ("everything", "all blocks")
    assert definition.inputs == {"query": "Query", "history": "list[Turn]"}
    assert definition.outputs == ("answer", "passages")
    assert definition.variables == {"k": scalar("5")}
    assert definition.resources["kv"].options == {"path": scalar(".cache")}
    first, draft, routed, by_variable, branched, mapped, mapped_2, looped, tree = definition.steps
    assert first == Step(use="retrieve.hybrid", id="retrieve")
    assert draft == Step(
        use="generate.chat",
        id="draft",
        options={"lm": scalar("lm"), "tokens": scalar("5")},
        inputs={"passages": "found"},
        output="first",
        when=Compared("judgement.score", "below", scalar("0.5")),
        cache=True,
    )
    assert isinstance(routed, Route)
    assert (routed.policy, routed.threshold, routed.by.id) == ("top_p", 0.9, "route")
    assert [len(arm) for arm in routed.arms.values()] == [0, 2]
    assert routed.otherwise[0].use == "generate.plain"
    assert routed.merge["passages"].use == "fuse.rrf"
    assert (by_variable.by, by_variable.otherwise, by_variable.policy) == ("route", None, "single")
    assert isinstance(branched, Branch)
    assert branched.merge["answer"].use == "fuse.vote"
    assert isinstance(mapped, Map)
    assert (mapped.over, mapped.item, mapped.max_parallel) == ("queries", "q", 2)
    assert mapped.collect == {"passages": "rankings"}
    assert mapped_2.collect == {"passages": "rankings", "answer": "answers"}
    assert isinstance(looped, Loop)
    assert (looped.times, looped.carry) == (3, {"search": "query"})
    judged, either = looped.until.parts
    assert isinstance(looped.until, AllOf)
    assert isinstance(judged, Judged)
    assert either == AnyOf((Compared("a", "equals", scalar("1")), Negation(Compared("b", "true"))))
    assert tree == Recurse(
        seed="query",
        item="node",
        steps=(Step(use="x.y", id="x_6"),),
        children="more",
        max_depth=2,
        max_nodes=9,
        collect={"answer": "answers"},
    )


def test_places_of_keys_options_inputs_and_values():
    definition, _ = load(EVERYTHING)
    draft = definition.steps[1]
    assert draft.at == Place("f.yaml", 10, 5)
    assert draft.place("with.tokens") == Place("f.yaml", 12, 20)
    assert draft.place("in.passages") == Place("f.yaml", 13, 10)
    assert draft.place("out.answer") == Place("f.yaml", 14, 11)
    assert draft.options["tokens"].place == Place("f.yaml", 4, 11)
    assert draft.when.value_at == Place("f.yaml", 15, 41)
    assert definition.steps[7].place("carry.search") == Place("f.yaml", 30, 15)
    assert definition.steps[2].place("arms.two") == Place("f.yaml", 21, 24)
    assert definition.steps[2].place("merge.passages") == Place("f.yaml", 23, 15)
    assert definition.place("inputs.history") == Place("f.yaml", 7, 24)
    assert definition.place("outputs.passages") == Place("f.yaml", 35, 19)
    assert definition.resources["kv"].place("with.path") == Place("f.yaml", 6, 29)


def test_defaults_of_a_short_file():
    definition, mistakes = load("steps: [a.b]")
    assert mistakes == []
    assert (definition.name, definition.inputs, definition.outputs) == (
        "pipeline",
        {"query": "Query"},
        ("answer",),
    )


SHORT = "wants a short name such as retrieve.hybrid"
IMPORTS = "no dotted imports; own operators come by --plugin FILE"
VARIABLE = "wants a variable such as passages"
ID = "wants letters, digits, - and _"
CONDITION = (
    "when wants var with at most one of equals, in, above, below, empty, contains, true, "
    "or one of all, any, not, judge"
)
POLICY = "route.policy wants 'single', 'threshold', 'top_p', 'all' or 'unsure'"


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("- {use: a.b, wiht: {}}", 14, "step has no key 'wiht'; did you mean 'with'?"),
        ("- lop: {times: 1}", 3, "step has no key 'lop'; did you mean 'loop'?"),
        ("- {with: {}, id: a}", 3, "step needs use"),
        ("- my.module.Operator", 3, f"step.use {SHORT}, got 'my.module.Operator'; {IMPORTS}"),
        ("- {use: 'os:system'}", 9, f"step.use {SHORT}, got 'os:system'; {IMPORTS}"),
        ("- Retrieve Hybrid", 3, f"step.use {SHORT}, got 'Retrieve Hybrid'"),
        ("- [a.b]", 3, "a step wants a map, got a list"),
        ("- {use: [a]}", 9, "step.use wants str, got a list"),
        ("- {use: a.b, with: 5}", 20, "a.b.with wants a map, got '5'"),
        ("- {use: a.b, cache: on}", 21, "a.b.cache wants bool, got 'on'; write true or false"),
        ("- {use: a.b, in: {x: a b}}", 22, f"a.b.in.x {VARIABLE}, got 'a b'"),
        ("- {use: a.b, in: {x y: a}}", 19, f"a.b.in {VARIABLE}, got 'x y'"),
        ("- {use: a.b, in: {x: [y]}}", 22, "a.b.in.x wants str, got a list"),
        ("- {use: a.b, out: a.b}", 19, f"a.b.out {VARIABLE}, got 'a.b'"),
        ("- {use: a.b, out: {a: b, c: d}}", 19, "a.b.out wants one variable, got 2"),
        ("- {use: a.b, id: a.b}", 18, f"a.b.id {ID}, got 'a.b'"),
        (
            "- {use: a.b, id: vars}",
            18,
            f"a.b.id {ID}, got 'vars'; vars is what --set calls something else",
        ),
        ("- {use: a.b, id: x, when: {judge: {use: a.b, id: x}}}", 14, "two steps have the id 'x'"),
        ("- loop: {steps: [a.b]}", 9, "loop needs times: every loop is bounded"),
        ("- loop: {times: many, steps: [a.b]}", 17, "loop.times wants int, got 'many'"),
        ("- loop: {times: 1, steps: a.b}", 27, "loop.steps wants a list, got 'a.b'"),
        ("- loop: [a.b]", 9, "loop wants a map, got a list"),
        (
            "- {loop: {times: 1, steps: []}, id: x}",
            33,
            (
                "loop is the only key of its entry, but id stands beside it; "
                "indent what belongs to loop"
            ),
        ),
        (
            "- loop: {times: 1, steps: [], untill: {}}",
            31,
            "loop has no key 'untill'; did you mean 'until'?",
        ),
        (
            "- loop: {times: 1, steps: [], carry: {a: b.c}}",
            42,
            f"loop.carry.a {VARIABLE}, got 'b.c'",
        ),
        (
            "- recurse: {seed: q, steps: [], children: c, max_depth: 1, collect: {a: b}}",
            12,
            "recurse needs max_nodes: every recursion is bounded",
        ),
        (
            "- branch: {arms: {a: []}}",
            11,
            "branch needs merge: nothing else of its arms survives",
        ),
        ("- branch: {arms: [a], merge: {}}", 18, "branch.arms wants a map, got a list"),
        ("- branch: {arms: {a: b.c}, merge: {}}", 22, "branch.arms.a wants a list, got 'b.c'"),
        ("- branch: {arms: {}, merge: {a b: c.d}}", 30, f"branch.merge {VARIABLE}, got 'a b'"),
        (
            "- map: {over: q, as: a, steps: [], collect: b}",
            36,
            "map needs into: it names the list of all b; or collect: {b: LIST}",
        ),
        (
            "- map: {over: q, as: a, steps: [], collect: {b: c}, into: d}",
            53,
            "map.into goes with one collected variable, not with a map",
        ),
        (
            "- map: {over: q.x, as: a, steps: [], collect: {b: c}}",
            15,
            f"map.over {VARIABLE}, got 'q.x'",
        ),
        (
            "- route: {by: r, arms: {}, policy: threshhold}",
            36,
            f"{POLICY}, got 'threshhold'; did you mean 'threshold'?",
        ),
        (
            "- route: {by: r, arms: {}, threshold: 2}",
            39,
            "route.threshold must be in [0, 1], got 2",
        ),
        ("- route: {arms: {}}", 10, "route needs by"),
        (
            "- {use: a.b, when: {var: x, abve: 1}}",
            29,
            "when has no key 'abve'; did you mean 'above'?",
        ),
        (
            "- {use: a.b, when: {var: x, above: 1, below: 2}}",
            20,
            f"{CONDITION}; got var, above, below",
        ),
        ("- {use: a.b, when: {}}", 20, f"{CONDITION}; got nothing"),
        ("- {use: a.b, when: {not: {var: a}, in: b}}", 20, f"{CONDITION}; got not, in"),
        ("- {use: a.b, when: {all: []}}", 26, "when.all wants a list of conditions, got none"),
        (
            "- {use: a.b, when: {any: {var: a}}}",
            26,
            "when.any wants a list of conditions, got a map",
        ),
        ("- {use: a.b, when: x > 1}", 20, "when wants a map, got 'x > 1'"),
        (
            "- {use: a.b, when: {var: x > 1}}",
            26,
            "when.var wants a variable such as judgement.score, got 'x > 1'",
        ),
        ("- {use: a.b, when: {judge: {id: x}}}", 28, "step needs use"),
        ("- pipeline: {id: x}", 13, "pipeline needs file or name, got neither"),
        ("- pipeline: {file: x, name: y}", 13, "pipeline needs file or name, got both"),
        ("- pipeline: {name: [y]}", 20, "pipeline.name wants str, got a list"),
        (
            "- pipeline: {file: x.yaml}",
            20,
            "pipeline names the file 'x.yaml', but this pipeline is no file; name a recipe",
        ),
        ("- pipeline: {name: y}", 20, "there is no recipe 'y'; a file has a suffix"),
    ],
)
def test_says_what_is_wrong_with_a_block(text, column, message, tmp_path, monkeypatch):
    monkeypatch.setattr(compose, "RECIPES", tmp_path)
    assert wrong(text) == [f"f.yaml:2:{column}: {message}"]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("version: 2\nsteps: [a.b]", "1:10", "version 2 is unknown; this is version 1"),
        ("nmae: x\nsteps: [a.b]", "1:1", "pipeline has no key 'nmae'; did you mean 'name'?"),
        ("name: x", "1:1", "pipeline needs steps"),
        ("[a.b]", "1:1", "a pipeline is a map with steps, got a list"),
        (
            "steps: [a.b]\noutputs: answer",
            "2:10",
            "pipeline.outputs wants tuple[str, ...], got 'answer'",
        ),
        ("steps: [a.b]\noutputs: [a-b]", "2:11", f"pipeline.outputs {VARIABLE}, got 'a-b'"),
        ("steps: [a.b]\ninputs: [query]", "2:9", "pipeline.inputs wants a map, got a list"),
        ("steps: [a.b]\nvars: [a]", "2:7", "pipeline.vars wants a map, got a list"),
        ("steps: [a.b]\nresources: {lm: gpt}", "2:17", "resources.lm wants a map, got 'gpt'"),
        ("steps: [a.b]\nresources: {lm: {with: {}}}", "2:17", "resource needs use"),
        (
            "steps: [a.b]\nresources: {lm: {use: a.b, wth: 1}}",
            "2:28",
            "resource has no key 'wth'; did you mean 'with'?",
        ),
        (
            "steps: [a.b]\nresources: {lm: {use: a.b.c}}",
            "2:23",
            f"resource.use {SHORT}, got 'a.b.c'; {IMPORTS}",
        ),
    ],
)
def test_says_what_is_wrong_at_the_top(text, place, message):
    assert load(text)[1] == [f"f.yaml:{place}: {message}"]


def test_all_mistakes_come_in_one_pass_in_the_order_of_the_file():
    definition, mistakes = load(
        "nme: x\nsteps:\n- {use: a.b, cache: yes, with: {k: '${vars.k}', k: 1}}\n"
        "- loop: {steps: [{usse: c}]}\n"
    )
    assert definition is None
    assert [mistake.split(": ")[0] for mistake in mistakes] == [
        "f.yaml:1:1",
        "f.yaml:3:21",
        "f.yaml:3:36",
        "f.yaml:3:49",
        "f.yaml:4:9",
        "f.yaml:4:19",
    ]


def test_a_pipeline_can_be_checked_further_if_nothing_of_it_is_left_out():
    definition, mistakes = load("steps:\n- {use: a.b, cache: yes, with: {k: '${vars.k}'}}\n")
    assert len(mistakes) == 2
    assert definition.steps[0].options["k"].unresolved


@pytest.mark.parametrize("entry", ["{id: x}", "loop: {steps: []}", "include: none.yaml", "a.b.c"])
def test_a_pipeline_with_a_part_left_out_is_not_checked_further(entry, tmp_path):
    definition, mistakes = load(f"steps:\n- c.d\n- {entry}\n", folder=tmp_path)
    assert (definition, len(mistakes)) == (None, 1)


UNSET = "the environment variable NO is not set; set it, or write ${env:NO:-default}"


def test_a_wrong_reference_gives_one_mistake_wherever_it_stands():
    for place in ("use", "with", "in", "out", "when", "cache", "id"):
        text = "{a.b}" if place == "use" else "a.b"
        other = "" if place == "use" else f"use: {text}, "
        column = 5 + len(other) + len(place) + 1
        assert wrong(f"- {{{other}{place}: '${{env:NO}}'}}") == [f"f.yaml:2:{column}: {UNSET}"]
    for key in ("outputs: ['${env:NO}']", "name: '${env:NO}'", "inputs: {a: '${env:NO}'}"):
        assert len(load(f"steps: [a.b]\n{key}\n")[1]) == 1


def test_secrets_are_found_wherever_values_are_kept():
    text = (
        "vars: {a: '${env:A}'}\nresources: {lm: {use: l.m, with: {key: 'x${env:B}'}}}\nsteps:\n"
        "- {use: a.b, with: {a: ['${env:C}', '${env:DEFAULT:-d}']}}\n"
        "- loop: {times: 1, steps: [a.b], until: {not: {var: x, equals: '${env:D}'}}}\n"
    )
    environ = {name: f"secret-{name}" for name in "ABCD"}
    definition, mistakes = load_text(text, environ=environ)
    assert mistakes == []
    assert secrets(definition) == {f"secret-{name}" for name in "ABCD"}
    assert "secret-" not in repr(definition)


def test_a_file_a_recipe_and_neither(tmp_path, monkeypatch):
    monkeypatch.setattr(compose, "RECIPES", tmp_path)
    path = tmp_path / "naive.yaml"
    path.write_text("steps: [a.b]\n")
    for source in ("naive", str(path), path):
        definition, mistakes = load_definition(source)
        assert (definition.name, mistakes) == ("naive", [])
        assert definition.at.file == str(path)
    assert [str(m) for m in load_definition("naiv")[1]] == [
        "there is no recipe 'naiv'; did you mean 'naive'?"
    ]
    (mistake,) = load_definition(Path("absent.yaml"))[1]
    assert str(mistake) == "absent.yaml:1:1: cannot read absent.yaml: No such file or directory"


def test_the_place_of_a_file_is_the_path_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text("a: 1\n")
    assert str(load_definition("./x.yaml")[1][0]).startswith("./x.yaml:1:1: ")


@pytest.fixture
def inner(tmp_path):
    (tmp_path / "inner.yaml").write_text(
        "vars: {k: 1}\nsteps: [{use: a.b, with: {k: '${vars.k}'}}]\noutputs: [passages]\n"
    )
    return tmp_path


def test_a_pipeline_inside_another_with_its_variables(inner):
    text = (
        "vars: {n: 7}\nsteps:\n- pipeline: {file: inner.yaml, in: {query: q}, out: found, "
        "with: {k: '${vars.n}'}}\n- pipeline: {file: inner.yaml, id: two, out: {passages: p}}\n"
    )
    definition, mistakes = load(text, folder=inner)
    assert mistakes == []
    one, two = definition.steps
    assert isinstance(one, Nested)
    assert (one.id, one.inputs, one.outputs) == ("pipeline", {"query": "q"}, {"passages": "found"})
    assert one.definition.name == "inner"
    assert one.definition.steps[0] == Step(use="a.b", id="a", options={"k": scalar("7")})
    assert one.definition.variables == {"k": scalar("7")}
    assert (two.id, two.outputs) == ("two", {"passages": "p"})
    assert two.definition.steps[0].options == {"k": scalar("1")}


def test_what_was_resolved_outside_is_not_resolved_again_inside(inner):
    text = "steps:\n- pipeline: {file: inner.yaml, with: {k: '$${vars.z}'}}\n"
    definition, mistakes = load(text, folder=inner)
    assert mistakes == []
    assert definition.steps[0].definition.steps[0].options["k"].text == "${vars.z}"


def test_mistakes_with_pipelines_inside(inner):
    (inner / "round.yaml").write_text("steps:\n- pipeline: {file: round.yaml}\n")
    (inner / "two.yaml").write_text("steps: [a.b]\noutputs: [a, b]\n")
    text = (
        "steps:\n- pipeline: {file: round.yaml}\n- pipeline: {file: inner.yaml, with: {kk: 1}}\n"
        "- pipeline: {file: two.yaml, out: x}\n- pipeline: {file: inne.yaml}\n"
    )
    _, mistakes = load(text, folder=inner)
    assert mistakes == [
        "f.yaml:3:43: the pipeline has no vars.kk; did you mean 'k'?",
        "f.yaml:4:35: pipeline.out wants a map, for two has 2 outputs; outputs: a, b",
        "f.yaml:5:20: pipeline names 'inne.yaml', which is no file; did you mean 'inner.yaml'?",
        "round.yaml:2:20: pipeline goes round in a circle: f.yaml -> round.yaml -> round.yaml",
    ]


def test_nesting_without_end_is_a_mistake(tmp_path):
    depth = 99
    for n in range(depth):
        (tmp_path / f"p{n}.yaml").write_text(f"steps:\n- pipeline: {{file: p{n + 1}.yaml}}\n")
    (tmp_path / f"p{depth}.yaml").write_text("steps: [a.b]\n")
    definition, mistakes = load_definition(tmp_path / "p0.yaml")
    assert definition is None
    assert [mistake.code for mistake in mistakes] == ["too-large"]

"""Overrides: which value they reach, and what is wrong with one that reaches none."""

import pytest

from pipelines.definition.load import load_text

TEXT = """\
vars: {k: 3, prompt: hello}
resources: {docs: {use: index.folder, with: {path: a, deep: {x: 1}}}}
steps:
- {use: retrieve.x, with: {top_k: '${vars.k}', a: 1}}
- loop: {times: 2, steps: [retrieve.y], until: {judge: judge.x}}
- {use: '${vars.prompt}.z', in: {query: q}}
"""


def load(*sets):
    definition, mistakes = load_text(TEXT, sets=sets, environ={"KEY": "secret"})
    return definition, [str(mistake) for mistake in mistakes]


def texts(options):
    return {name: getattr(value, "text", value) for name, value in options.items()}


def good(*sets):
    definition, mistakes = load(*sets)
    assert mistakes == []
    return definition


def test_the_option_of_a_step():
    definition = good("retrieve.top_k=20", "retrieve.new=x=y")
    assert texts(definition.steps[0].options) == {"top_k": "20", "a": "1", "new": "x=y"}
    assert definition.overrides == ("retrieve.top_k=20", "retrieve.new=x=y")
    assert str(definition.steps[0].place("with.top_k")) == "--set:1:1"
    assert str(definition.steps[0].options["top_k"].place) == "--set:1:16"
    assert str(definition.steps[0].options["new"].place) == "--set:2:14"


def test_later_ones_win():
    assert texts(good("retrieve.a=2", "retrieve.a=3").steps[0].options)["a"] == "3"


def test_steps_inside_blocks_and_judges():
    loop = good("retrieve_2.top_k=7", "judge.with.t=0.5").steps[1]
    assert texts(loop.steps[0].options) == {"top_k": "7"}
    assert texts(loop.until.judge.options) == {"t": "0.5"}


def test_keys_of_a_step():
    step = good("retrieve.cache=true", "retrieve.use=search.y", "retrieve.in={query: z}").steps[0]
    assert (step.id, step.use, step.cache, step.inputs) == (
        "retrieve",
        "search.y",
        True,
        {"query": "z"},
    )
    assert step.options == {}


def test_the_id_of_a_step_whose_operator_is_a_variable():
    assert good("hello.b=1").steps[2].use == "hello.z"


def test_variables():
    definition = good("vars.k=${env:KEY}")
    assert definition.steps[0].options["top_k"].secrets == ("secret",)
    assert definition.variables["k"].text == "secret"
    assert good("vars.prompt=other", "other.b=1").steps[2].id == "other"


def test_resources_by_their_name_and_in_full():
    for path in ("docs.path", "resources.docs.path", "docs.with.path"):
        assert texts(good(f"{path}=b").resources["docs"].options)["path"] == "b"
    deep = good("docs.deep.y=2").resources["docs"].options["deep"]
    assert texts(deep.values) == {"x": "1", "y": "2"}


def test_a_resource_that_is_not_there_begins_with_its_use():
    definition = good("resources.lm.use=lm.x", "lm.model=${vars.prompt}")
    assert definition.resources["lm"].use == "lm.x"
    assert texts(definition.resources["lm"].options) == {"model": "hello"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [("[a, 'b']", ("a", "b")), ("", ""), ("a: b", None), ("'1'", "1"), ("no", "no")],
)
def test_values_are_yaml(text, shown):
    value = good(f"retrieve.v={text}").steps[0].options["v"]
    if isinstance(shown, str):
        assert value.text == shown
    elif shown:
        assert tuple(item.text for item in value.items) == shown
    else:
        assert texts(value.values) == {"a": "b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("retrieve", "no '=' in --set 'retrieve'; for example --set retrieve.top_k=20"),
        (
            "retrieve=1",
            "--set wants NAME.OPTION=VALUE, got 'retrieve=1'; for example --set retrieve.top_k=20",
        ),
        (
            "a..b=1",
            "--set wants NAME.OPTION=VALUE, got 'a..b=1'; for example --set retrieve.top_k=20",
        ),
        (
            "retreive.top_k=1",
            "no step has the id 'retreive'; did you mean 'retrieve'?",
        ),
        ("vars.promt=1", "there is no vars.promt; did you mean 'prompt'?"),
        ("resources.doc.path=1", "there is no resource 'doc'; did you mean 'docs'?"),
        (
            "resources.docs=1",
            (
                "--set wants NAME.OPTION=VALUE, got 'resources.docs'; for example "
                "--set retrieve.top_k=20"
            ),
        ),
        ("retrieve.a=${vars.j}", "there is no vars.j; known: k, prompt"),
        ("retrieve.cache=yes", "retrieve.x.cache wants bool, got 'yes'; write true or false"),
    ],
)
def test_says_what_is_wrong(text, message):
    definition, (mistake,) = load("retrieve.a=1", text)
    place, _, said = mistake.partition(": ")
    assert said == message
    assert place.startswith("--set:2:")
    assert texts(definition.steps[0].options)["top_k"] == "3"


def test_a_value_that_is_not_yaml_is_a_mistake_at_its_place():
    _, (mistake,) = load("retrieve.a=[1")
    assert mistake.startswith("--set:1:")
    assert ": --set value: not YAML: " in mistake
    _, (mistake,) = load("retrieve.a={b: 1, b: 2}")
    assert mistake == "--set:1:19: --set value: 'b' is written twice; first in line 1"


def test_an_override_of_a_step_that_was_renamed_is_not_lost():
    _, mistakes = load("retrieve.id=first", "retrieve.a=1", "first.a=2")
    assert [m for m in mistakes if "id 'first'" in m] == []

"""Composition: what `extends` changes and adds, what `include` brings, where files may lie."""

import pytest

from pipelines.definition import compose
from pipelines.definition.load import load_definition, load_text
from pipelines.definition.nodes import Scalar
from pipelines.flow.blocks import Step
from pipelines.flow.naming import identified


@pytest.fixture
def folder(tmp_path, monkeypatch):
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    monkeypatch.setattr(compose, "RECIPES", recipes)
    (recipes / "naive.yaml").write_text(
        "name: naive\nvars: {k: 3}\nsteps:\n- {use: retrieve.x, with: {top_k: '${vars.k}', a: 1}}\n"
        "- loop: {times: 2, steps: [prune.x, {use: judge.x, id: check}], until: {judge: judge.y}}\n"
        "- {use: generate.x, when: {judge: judge.z}}\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    return home


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return load_definition(f"{next(iter(files))}.yaml")


def steps_of(loaded):
    definition, mistakes = loaded
    assert [str(mistake) for mistake in mistakes] == []
    return {one.id: one for one in identified(definition.steps)}


def options(step):
    return {name: value.text for name, value in step.options.items()}


def test_extends_merges_maps_and_replaces_scalars_and_lists(folder):
    definition, mistakes = write(
        folder,
        a="extends: b.yaml\nvars: {k: 2}\noutputs: [x]\n"
        "resources: {kv: {use: kv.ram}, lm: {use: l.m}}\n",
        b="name: b\nvars: {k: 1, n: 4}\n"
        "steps: [{use: r.x, with: {k: '${vars.k}', n: '${vars.n}'}}]\n"
        "outputs: [answer, y]\nresources: {kv: {use: kv.disk, with: {path: p}}}\n",
    )
    assert mistakes == []
    assert (definition.name, definition.outputs) == ("b", ("x",))
    assert options(definition.steps[0]) == {"k": "2", "n": "4"}
    assert definition.resources["kv"].options == {}
    assert set(definition.resources) == {"kv", "lm"}


def test_a_step_of_the_same_name_is_changed_wherever_it_stands(folder):
    found = steps_of(
        write(
            folder,
            a="extends: naive\nsteps:\n- {use: retrieve.x, with: {top_k: 9}}\n"
            "- {use: prune.z, cache: true}\n"
            "- {id: check, with: {c: 1}}\n- {id: judge_2, with: {z: 1}}\n"
            "- {id: judge, with: {y: 1}}\n",
        )
    )
    assert options(found["retrieve"]) == {"top_k": "9", "a": "1"}
    assert found["prune"] == Step(use="prune.z", id="prune", cache=True)
    assert options(found["check"]) == {"c": "1"}
    assert found["judge"].use == "judge.y"
    assert options(found["judge"]) == {"y": "1"}
    assert options(found["judge_2"]) == {"z": "1"}
    assert list(found) == ["retrieve", "prune", "check", "judge", "judge_2", "generate"]


def test_another_operator_begins_without_the_options_of_the_one_before(folder):
    found = steps_of(
        write(folder, a="extends: naive\nsteps: [{id: retrieve, use: search.y, with: {b: 2}}]\n")
    )
    assert found["retrieve"] == Step(
        use="search.y", id="retrieve", options={"b": Scalar("2", False, None)}
    )


def test_what_has_no_step_of_its_name_comes_after(folder):
    found = steps_of(
        write(
            folder,
            a="extends: naive\nsteps:\n- rewrite.x\n"
            "- loop: {times: 1, steps: [retrieve.q]}\n- generate.b\n",
        )
    )
    assert list(found)[-3:] == ["generate", "rewrite", "retrieve_2"]
    assert found["generate"].use == "generate.b"


def test_extends_goes_over_several_files(folder):
    loaded = write(
        folder,
        a="extends: b.yaml\nsteps: [{id: r, with: {x: a}}]\n",
        b="extends: c.yaml\nsteps: [{id: r, with: {x: b, y: b}}]\n",
        c="steps: [{use: r.x, with: {x: c, y: c, z: c}}]\n",
    )
    assert options(loaded[0].steps[0]) == {"x": "a", "y": "b", "z": "c"}
    places = {name: value.place.file for name, value in loaded[0].steps[0].options.items()}
    assert places == {"x": "a.yaml", "y": "b.yaml", "z": "c.yaml"}


def test_include_brings_steps_variables_and_resources(folder):
    (folder / "part").mkdir()
    (folder / "part" / "b.yaml").write_text(
        "vars: {k: 2, n: 3}\nresources: {kv: {use: kv.ram}}\noutputs: [ignored]\n"
        "steps: [{use: r.x, with: {k: '${vars.k}', n: '${vars.n}'}}, include: c.yaml]\n"
    )
    (folder / "part" / "c.yaml").write_text("- w.x\n")
    definition, mistakes = write(
        folder,
        a="vars: {k: 1}\nsteps:\n- q.x\n- include: part/b.yaml\n"
        "- loop: {times: 1, steps: [include: list.yaml]}\n",
        list="[z.x, z.y]\n",
    )
    assert mistakes == []
    assert [one.id for one in identified(definition.steps)] == ["q", "r", "w", "z", "z_2"]
    assert options(definition.steps[1]) == {"k": "1", "n": "3"}
    assert (set(definition.resources), definition.outputs) == ({"kv"}, ("answer",))
    assert definition.steps[1].at.file == "part/b.yaml"


def test_a_recipe_can_be_included_and_extended_from_a_text_without_a_folder(folder):
    assert list(steps_of(load_text("steps: [include: naive]"))) == list(
        steps_of(load_text("extends: naive"))
    )


OUTSIDE = "outside the folder of the pipeline; copy the file into it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: a.yaml\n", "a.yaml:1:10: extends goes round in a circle: a.yaml -> a.yaml"),
        (
            "extends: b.yaml\n",
            "b.yaml:1:18: include goes round in a circle: a.yaml -> b.yaml -> a.yaml",
        ),
        ("extends: ../x.yaml\n", f"a.yaml:1:10: extends names '../x.yaml', {OUTSIDE}"),
        ("extends: /etc/passwd\n", f"a.yaml:1:10: extends names '/etc/passwd', {OUTSIDE}"),
        ("extends: link.yaml\n", f"a.yaml:1:10: extends names 'link.yaml', {OUTSIDE}"),
        (
            "extends: bbb.yaml\n",
            "a.yaml:1:10: extends names 'bbb.yaml', which is no file; did you mean 'b.yaml'?",
        ),
        ("extends: naiv\n", "a.yaml:1:10: there is no recipe 'naiv'; did you mean 'naive'?"),
        ("extends: [naive]\n", "a.yaml:1:10: extends wants a file, got a list"),
        (
            "steps: [include: {a: b}]\n",
            "a.yaml:1:18: include wants a file, got a map",
        ),
        ("steps: [include: t.yaml]\n", "t.yaml:1:1: an included file needs a list of steps"),
        ("extends: s.yaml\n", "s.yaml:1:1: a pipeline is a map with steps, got 'text'"),
        (
            "extends: u.yaml\n",
            "u.yaml:1:16: pipeline has no key 'ouptuts'; did you mean 'outputs'?",
        ),
    ],
)
def test_says_what_is_wrong(folder, text, message):
    (folder.parent / "x.yaml").write_text("steps: [a.b]\n")
    (folder / "link.yaml").symlink_to(folder.parent / "x.yaml")
    (folder / "t.yaml").write_text("name: t\n")
    (folder / "s.yaml").write_text("text\n")
    (folder / "u.yaml").write_text("{steps: [a.b], ouptuts: [b]}\n")
    _, mistakes = write(folder, a=text, b="steps: [include: a.yaml]\n")
    assert [str(mistake) for mistake in mistakes] == [message]


def test_files_that_include_each_other_again_and_again_are_bounded(folder):
    for n in range(9):
        (folder / f"p{n}.yaml").write_text(f"- include: p{n + 1}.yaml\n" * 3)
    (folder / "p9.yaml").write_text("[a.b]\n")
    _, mistakes = write(folder, a="steps: [include: p0.yaml]\n")
    assert {mistake.message for mistake in mistakes} == {"more than 100 files"}

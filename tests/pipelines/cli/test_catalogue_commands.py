"""`dovetail ops`, `schema` and `new`: what there is, and a copy to begin with."""

import json

import pytest

from pipelines.cli.main import main
from pipelines.definition.compose import recipes

PLUGIN = '''
from rag import Query, operator


@operator("query.shout")
def shout(query: Query) -> Query:
    """Asks in capitals."""
    return Query(query.text.upper())
'''


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "shouting.py"
    path.write_text(PLUGIN)
    return str(path)


def test_ops_shows_the_catalogue_in_three_levels(capsys):
    assert main(["ops"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("retrieve  (retrieval)")
    assert lines[at + 1] == "  retriever selection"
    assert any(line.startswith("    retrieve.hybrid ") for line in lines)
    assert any(line.startswith("    lm.transformers ") for line in lines)


def test_ops_of_one_shows_options_and_ports(capsys):
    assert main(["ops", "retrieve.hybrid"]) == 0
    out = capsys.readouterr().out
    assert "top_k: int, at least 1 = 3" in out
    assert "query: Query" in out
    assert "passages: list[Passage]" in out


def test_ops_in_json(capsys):
    assert main(["ops", "prune.sentences", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["output"] == {"name": "passages", "kind": "list[Passage]"}
    assert main(["ops", "--json"]) == 0
    assert row in json.loads(capsys.readouterr().out)


def test_an_unknown_operator_is_2(capsys):
    assert main(["ops", "retrieve.hybird"]) == 2
    assert "did you mean 'retrieve.hybrid'?" in capsys.readouterr().err


def test_plugins_are_in_the_catalogue_and_the_schema(plugin, capsys):
    assert main(["ops", "query.shout", "--plugin", plugin]) == 0
    assert "Asks in capitals." in capsys.readouterr().out
    assert main(["schema", "--plugin", plugin]) == 0
    schema = capsys.readouterr().out
    assert "query.shout" in schema
    assert json.loads(schema)["$schema"] == "http://json-schema.org/draft-07/schema#"


def test_a_plugin_without_operators_is_2(tmp_path, capsys):
    path = tmp_path / "empty.py"
    path.write_text("x = 1\n")
    assert main(["ops", "--plugin", str(path)]) == 2
    assert "names no operator" in capsys.readouterr().err


def test_new_copies_a_recipe_that_checks_and_never_overwrites(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "mine", "--from", "iter-retgen"]) == 0
    assert main(["check", "mine.yaml"]) == 0
    before = (tmp_path / "mine.yaml").read_text()
    capsys.readouterr()
    assert main(["new", "mine", "--from", "ask"]) == 2
    assert "mine.yaml exists already" in capsys.readouterr().err
    assert (tmp_path / "mine.yaml").read_text() == before


def test_new_lists_the_recipes(capsys):
    assert main(["new", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == recipes()
    assert all(len(line.split()) > 3 for line in lines)


def test_new_from_an_unknown_recipe_is_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "mine", "--from", "itre-retgen"]) == 2
    assert "no recipe 'itre-retgen'; did you mean 'iter-retgen'?" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

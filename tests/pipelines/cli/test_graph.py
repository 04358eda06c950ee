"""`dovetail graph`: what is drawn, where it is written, and mistakes."""

import argparse
import sys
from types import ModuleType, SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

from pipelines.cli import graph
from pipelines.cli.arguments import UsageError
from pipelines.flow.blocks import Definition, step
from pipelines.flow.diagnostics import InvalidPipelineError, Mistake

FLOW = Definition(name="tiny", steps=(step("retrieve.hybrid", id="retrieve", out="passages"),))


@pytest.fixture
def drawing(monkeypatch):
    """Return a function that runs the command on a definition and its mistakes."""

    def run(*arguments, definition=FLOW, mistakes=()):
        load = ModuleType("pipelines.definition.load")
        load.load_definition = lambda source: (definition, list(mistakes))
        monkeypatch.setitem(sys.modules, "pipelines.definition.load", load)
        table = ModuleType("pipelines.catalogue.table")
        table.catalogue = lambda: SimpleNamespace(operators={})
        monkeypatch.setitem(sys.modules, "pipelines.catalogue.table", table)
        parser = argparse.ArgumentParser()
        graph.add_arguments(parser)
        return graph.run(parser.parse_args(["tiny", *map(str, arguments)]))

    return run


def test_a_tree_is_printed(drawing, capsys):
    assert drawing() == 0
    assert capsys.readouterr() == (
        "tiny\n│  given query\n├─ retrieve  retrieve.hybrid  writes passages\n└─ returns answer\n",
        "",
    )


@pytest.mark.parametrize(
    ("name", "start"), [("a.svg", "<svg"), ("a.mmd", "flowchart"), ("a", "tiny")]
)
def test_a_file_has_the_form_of_its_name(drawing, tmp_path, capsys, name, start):
    drawing("-o", tmp_path / name)
    assert (tmp_path / name).read_text().startswith(start)
    assert capsys.readouterr().out == ""


def test_the_form_may_be_said(drawing, tmp_path, capsys):
    drawing("--form", "svg")
    ET.fromstring(capsys.readouterr().out)
    drawing("--form", "text", "-o", tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().startswith("tiny")


def test_a_folder_that_does_not_exist_is_refused(drawing, tmp_path):
    with pytest.raises(UsageError, match="--out must be in a folder that exists, got "):
        drawing("-o", tmp_path / "none" / "a.svg")


def test_a_pipeline_that_cannot_be_read_shows_its_mistakes(drawing):
    with pytest.raises(InvalidPipelineError, match="no step"):
        drawing(definition=None, mistakes=[Mistake("empty", "no step")])


def test_one_with_mistakes_is_drawn_all_the_same(drawing, capsys):
    drawing(mistakes=[Mistake("odd", "something is odd")])
    out, err = capsys.readouterr()
    assert out.startswith("tiny")
    assert err == "something is odd\n"


def test_help_says_which_graph(capsys):
    parser = argparse.ArgumentParser()
    graph.add_arguments(parser)
    assert "recipe `graph` is corpus-graph retrieval; --mode graph is Graph-KV" in parser.epilog

"""Pictures of the corpus graph: what is on them, that they are well-formed, and escape all text."""

from itertools import pairwise
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from pipelines.cli.main import main
from pipelines.drawing.neighbourhood import neighbourhood
from pipelines.drawing.neighbourhood_html import neighbourhood_html
from pipelines.drawing.neighbourhood_svg import neighbourhood_svg
from pipelines.indexing import build_index
from pipelines.snapshots import Form
from rag.records import Passage, Span
from rag.tracing import Trace
from retrievers.graph.build import build_graph
from retrievers.graph.settings import EdgeWeights, GraphSettings

EVIL = '<script>alert("x")</script> & \x01'


def passage(id_, title, text):
    return Passage(id_, id_, text, Span(0, len(text)), (Span(0, len(text)),), title=title)


@pytest.fixture
def corpus():
    found = [
        passage("film", "Dead Ernest", "The film was made by Phoebe Taylor."),
        passage("taylor", "Phoebe Taylor", "She was born in Boston."),
        passage("boston", "Boston", "A city on the coast."),
        passage("alone", EVIL, "nothing leads here"),
    ]
    return {one.id: one for one in found}


@pytest.fixture
def graph(corpus):
    return build_graph(list(corpus.values()), np.eye(4))


def test_neighbours_are_what_edges_join_to_the_chosen(corpus, graph):
    shown = neighbourhood("Who?", [corpus["film"]], graph, corpus)
    assert [one.id for one in shown.neighbours] == ["taylor"]
    assert {(edge.source, edge.target, edge.kind) for edge in shown.edges} >= {
        ("film", "taylor", "mention")
    }
    both = neighbourhood("Who?", [corpus["film"], corpus["boston"]], graph, corpus)
    assert [one.id for one in both.neighbours] == ["taylor"]
    assert {edge.kind for edge in both.edges} <= {"mention", "phrase"}


def test_only_passages_that_exist_and_kinds_that_count_are_shown(corpus, graph):
    known = {id_: one for id_, one in corpus.items() if id_ != "taylor"}
    assert neighbourhood("Who?", [corpus["film"]], graph, known).neighbours == ()
    none = EdgeWeights.only("seq")
    assert neighbourhood("Who?", [corpus["film"]], graph, corpus, weights=none).edges == ()
    assert neighbourhood("Who?", [corpus["film"]], graph, corpus, neighbours=0).neighbours == ()


def test_mistakes_are_named(corpus, graph):
    with pytest.raises(ValueError, match="chosen must hold at least one passage, got none"):
        neighbourhood("Who?", [], graph, corpus)
    with pytest.raises(ValueError, match="neighbours must be at least 0, got -1"):
        neighbourhood("Who?", [corpus["film"]], graph, corpus, neighbours=-1)


@pytest.mark.parametrize("chosen", [["film"], ["film", "taylor"], ["alone"], ["alone", "film"]])
def test_the_image_is_well_formed_and_shows_every_passage_once(corpus, graph, chosen):
    shown = neighbourhood(f"Who? {EVIL}", [corpus[id_] for id_ in chosen], graph, corpus)
    image = neighbourhood_svg(shown)
    root = ET.fromstring(image)
    space = "{http://www.w3.org/2000/svg}"
    cards = [rect for rect in root.iter(f"{space}rect") if "card" in rect.get("class", "")]
    assert len(cards) == len(shown.chosen) + len(shown.neighbours)
    assert sum("chosen" in card.get("class") for card in cards) == len(chosen)
    assert "<script" not in image
    assert "http" not in image.replace("http://www.w3.org/2000/svg", "")
    boxes = sorted((float(c.get("x")), float(c.get("y")), float(c.get("height"))) for c in cards)
    for (x, y, height), (other_x, other_y, _) in pairwise(boxes):
        assert x != other_x or y + height <= other_y, "cards do not overlap"


def test_arrows_show_which_passage_says_so(corpus, graph):
    shown = neighbourhood("Who?", [corpus["film"], corpus["taylor"]], graph, corpus)
    image = neighbourhood_svg(shown)
    assert image.count('class="head mention"') == 2
    assert "film mentions by name taylor, weight 1.00" in image
    assert 'class="head phrase"' not in image


def test_the_page_lists_edges_and_lets_nothing_in(corpus, graph):
    shown = neighbourhood("Who?", [corpus["film"], corpus["alone"]], graph, corpus)
    page = neighbourhood_html(shown)
    assert "default-src &#x27;none&#x27;" in page
    assert page.count("<tr>") == 1 + len(shown.edges)
    assert "<script>alert" not in page
    assert "The film was made by Phoebe Taylor." in page


@pytest.fixture
def index(tmp_path, encoder):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "film.md").write_text("# Dead Ernest\n\nThe film was made by Phoebe Taylor.\n")
    (folder / "taylor.md").write_text("# Phoebe Taylor\n\nShe was born in Boston.\n")
    out = tmp_path / "notes.idx"
    build_index([str(folder)], out, encoder=encoder, form=Form(graph=GraphSettings()))
    return out


def test_inspect_draws_a_run_and_a_document(index, tmp_path, capsys):
    trace = Trace(pipeline="graph", inputs={"query": "Who made Dead Ernest?"})
    with trace.span("retrieve", use="expand.graph"):
        text = "The film was made by Phoebe Taylor."
        trace.output([passage("notes/film.md:0", "Dead Ernest", text)])
    trace.write(tmp_path / "run.jsonl")
    image = tmp_path / "run.svg"
    asked = ["inspect", str(tmp_path / "run.jsonl"), "-i", str(index), "--graph", str(image)]
    assert main(asked) == 0
    assert "Who made Dead Ernest?" in image.read_text()
    assert "Phoebe Taylor" in image.read_text()
    page = tmp_path / "near.html"
    assert main(["inspect", str(index), "notes/film.md", "--graph", str(page)]) == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert f"wrote {page}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--graph", "near.png"], "--graph takes a file that ends in .svg or .html, got near.png"),
        (["--graph", "near.svg"], "--graph of an index needs ID"),
        (["x", "--graph", "near.svg"], "has no document or passage 'x'"),
        (["--graph", "near.svg", "-i", "other.idx"], "an index itself is the first argument"),
        (["--graph", "near.svg", "--json"], "--graph goes without --prompt"),
        (["notes/film.md", "--graph", "none/near.svg"], "--graph must be in a folder that exists"),
        (["-i", "other.idx"], "-i is for --graph of a run"),
    ],
)
def test_inspect_says_what_it_needs(index, capsys, more, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", str(index), *more]) == 2
    assert message in capsys.readouterr().err

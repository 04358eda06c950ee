"""The corpus graph of an index folder: kept up to date, equal to a new one, dropped on request."""

import json

import numpy as np
import pytest

from pipelines.cli.main import main
from pipelines.index_folder import open_index
from pipelines.indexing import build_index
from pipelines.open_index import OpenIndex
from pipelines.snapshots import Form
from rag.errors import IndexFolderError
from retrievers.graph.edges.triple import Triple
from retrievers.graph.settings import GraphSettings

GRAPH = Form(graph=GraphSettings())


@pytest.fixture
def linked(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "film.md").write_text("# Dead Ernest\n\nThe film was made by Phoebe Taylor.\n")
    (folder / "taylor.md").write_text("# Phoebe Taylor\n\nShe was born in Boston.\n")
    (folder / "boston.md").write_text("# Boston\n\nA city. See [the film](film.md).\n")
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "notes.idx"


def edges(graph, kind):
    ids = graph.ids.all()
    found = graph.edges[kind].tocoo()
    return {(ids[s], ids[t]) for s, t in zip(found.row, found.col, strict=True)}


def same(one, other):
    assert one.ids.all() == other.ids.all()
    assert one.counts == other.counts
    for kind, matrix in one.edges.items():
        for part in ("indptr", "indices", "data"):
            left, right = getattr(matrix, part), getattr(other.edges[kind], part)
            np.testing.assert_array_equal(left, right, err_msg=kind)


def test_mentions_and_links_become_edges(linked, out, encoder):
    report = build_index([str(linked)], out, encoder=encoder, form=GRAPH)
    graph = open_index(out, thorough=True).graph
    film, taylor, boston = (f"notes/{name}.md:0" for name in ("film", "taylor", "boston"))
    assert edges(graph, "mention") == {(film, taylor), (taylor, boston)}
    assert edges(graph, "reference") == {(boston, film)}
    assert report.edges == graph.counts


def test_an_update_equals_a_new_graph(linked, out, encoder, tmp_path):
    build_index([str(linked)], out, encoder=encoder, form=GRAPH)
    (linked / "taylor.md").unlink()
    (linked / "boston.md").write_text("# Boston Harbour\n\nIt freezes.\n")
    (linked / "more.md").write_text("# More\n\nDead Ernest and Boston Harbour, again.\n")
    report = build_index([str(linked)], out, encoder=encoder)
    fresh = tmp_path / "fresh.idx"
    build_index([str(linked)], fresh, encoder=encoder, form=GRAPH)
    same(open_index(out).graph, open_index(fresh).graph)
    assert report.edges["mention"] == 2


def test_it_is_added_to_and_dropped_from_an_index_without_encoding(linked, out, encoder):
    build_index([str(linked)], out, encoder=encoder)
    with pytest.raises(IndexFolderError, match="has no corpus graph; run `dovetail index`"):
        _ = OpenIndex(out).graph
    encoder.texts.clear()
    assert build_index([str(linked)], out, encoder=encoder, form=GRAPH).encoded == 0
    assert open_index(out).has_graph
    assert not build_index([str(linked)], out, encoder=encoder).written
    assert build_index([str(linked)], out, encoder=encoder, form=Form()).edges == {}
    assert not open_index(out).has_graph
    assert encoder.texts == []


def test_triples_stay_until_others_are_given(linked, out, encoder):
    triples = (
        Triple("notes/film.md", "Boston", "set in"),
        Triple("Phoebe Taylor", "Atlantis", "drew"),
    )
    form = Form(graph=GraphSettings(), triples=triples)
    report = build_index([str(linked)], out, encoder=encoder, form=form)
    assert report.unplaced == ("no passage, document or name 'Atlantis'",)
    (linked / "atlantis.md").write_text("# Atlantis\n\nGone.\n")
    report = build_index([str(linked)], out, encoder=encoder)
    assert report.unplaced == ()
    assert edges(open_index(out).graph, "triple") == {
        ("notes/film.md:0", "notes/boston.md:0"),
        ("notes/taylor.md:0", "notes/atlantis.md:0"),
    }


def test_a_damaged_graph_is_refused(linked, out, encoder):
    build_index([str(linked)], out, encoder=encoder, form=GRAPH)
    path = next(out.rglob("mention.weights.npy"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IndexFolderError, match=r"graph/mention\.weights\.npy has"):
        open_index(out)


@pytest.fixture
def cheap(encoder, monkeypatch):
    monkeypatch.setattr("pipelines.cli.index.LateEncoder", lambda name, **_: encoder)


def index(linked, *more):
    return main(["index", str(linked), "-o", str(linked.parent / "notes.idx"), *more])


def test_the_command_line_makes_it(linked, out, cheap, capsys, tmp_path):
    triples = tmp_path / "triples.tsv"
    triples.write_text("Boston\tis near\tSalem\n")
    assert (
        index(linked, "--graph", "--triples", str(triples), "--graph-fields", "source, year") == 0
    )
    shown, err = capsys.readouterr()
    assert "corpus graph: 2 mention, " in shown
    assert "a triple joins nothing: no passage, document or name 'Salem'" in err
    assert open_index(out).graph.settings.fields == ("source", "year")
    assert main(["inspect", str(out)]) == 0
    assert "corpus graph: 2 mention, " in capsys.readouterr().out
    assert index(linked, "--json") == 0
    assert json.loads(capsys.readouterr().out)["unplaced"]
    assert index(linked, "--no-graph") == 0
    assert not open_index(out).has_graph


def test_mistakes_are_said(linked, out, cheap, capsys, tmp_path):
    assert index(linked, "--no-graph", "--graph-fields", "year") == 2
    assert "--graph-fields goes without --no-graph" in capsys.readouterr().err
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"subject": "a", "object": "b"}\n{"subject": "a", "weight": 2}\n')
    assert index(linked, "--triples", str(bad)) == 2
    assert f"{bad}:2: object must be a text, got ''" in capsys.readouterr().err
    assert not out.exists()

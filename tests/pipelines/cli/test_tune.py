"""`dovetail tune` over a cheap encoder: what it chooses, writes and refuses."""

import json

import pytest

from pipelines.cli.main import main
from pipelines.loading import load_answering, load_pipeline

TOPICS = {
    "wing": ["lift", "drag", "flap", "stall"],
    "heat": ["plate", "layer", "wall", "flux"],
    "orbit": ["stage", "fuel", "nozzle", "thrust"],
}


@pytest.fixture
def data(tmp_path, encoder, monkeypatch):
    """Three topics: terms find all of a topic, the encoder's vectors nothing but noise."""
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("pipelines.cli.index.LateEncoder", lambda name, **_: encoder)
    monkeypatch.setattr("rag.models.encoder.load_encoder", lambda *_, **__: encoder)
    folder = tmp_path / "topics"
    folder.mkdir()
    corpus, queries, qrels = [], [], []
    for topic, words in TOPICS.items():
        for n, word in enumerate(words):
            corpus.append({"id": f"{topic}{n}", "text": f"{word} and{f' {topic}' * (n + 1)}."})
        queries += [{"id": f"q-{w}", "question": f"what of {topic} {w}"} for w in words]
        qrels += [f"q-{w}\t0\t{topic}{n}\t1\n" for w in words for n in range(4)]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text)
    (folder / "qrels.tsv").write_text("".join(qrels))
    return folder


def test_finds_the_stronger_leg_and_writes_a_pipeline(data, tmp_path, capsys):
    out = tmp_path / "tuned.yaml"
    arguments = ["tune", "hybrid", str(data), "-o", str(out), "--folds", "3", "--json"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["chosen"]["sparse_weight"] >= 0.5
    assert report["chosen"]["interpolation"] in ("none", "post", "both")
    assert report["nested"]["mean"] > report["before"]["mean"]
    assert (
        report["difference"]["low"] <= report["difference"]["mean"] <= report["difference"]["high"]
    )
    assert len(report["of_folds"]) == report["folds"] == 3
    text = out.read_text()
    assert text.startswith("# Made by: dovetail tune hybrid")
    tuned = load_pipeline(out)
    assert tuned.check() == []
    assert tuned.checked.steps["retrieve"].options == report["chosen"]
    assert list(load_answering(out).checked.steps) == ["retrieve", "generate"]
    assert main(["eval", str(out), str(data), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["metrics"]["nDCG@10"]["mean"]
    assert measured == pytest.approx(report["fitted"])


def test_the_graph_is_made_and_its_weights_are_chosen(data, tmp_path, capsys):
    out = tmp_path / "tuned.yaml"
    arguments = ["tune", "graph-compress", str(data), "-o", str(out), "--folds", "2", "--json"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["operator"] == "expand.graph"
    assert set(report["chosen"]) <= {"graph_weight", "unnamed_weight", "damping", "phrase"}
    assert report["tried"] > 20
    tuned = load_pipeline(out)
    assert tuned.check() == []
    assert tuned.checked.steps["expand"].options["top_k"] == 100
    assert main([*arguments, "--try", "expand.seq=0,1"]) == 0
    assert json.loads(capsys.readouterr().out)["tried"] == 3


def test_a_second_run_measures_nothing_again(data, tmp_path, monkeypatch, capsys):
    arguments = [
        "tune",
        "bm25",
        str(data),
        "-o",
        str(tmp_path / "t.yaml"),
        "--folds",
        "2",
        "--json",
    ]
    assert main(arguments) == 0
    first = capsys.readouterr().out

    def refused(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr("pipelines.evaluating.tuning._Scores._measured", refused)
    assert main(arguments) == 0
    assert capsys.readouterr().out == first


def test_tries_what_it_is_told(data, tmp_path, capsys):
    out = tmp_path / "t.yaml"
    arguments = ["tune", "rm3", str(data), "-o", str(out), "--folds", "2", "--quiet"]
    assert main([*arguments, "--try", "k1=0.5,1.5", "--try", "expansion=none,rm3"]) == 0
    shown = capsys.readouterr().out
    assert "5 configurations" in shown
    assert "tuned, on questions left out" in shown
    assert load_pipeline(out).check() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hybrid", "--metric", "nDCG"], "metric must be one of nDCG@10, "),
        (["hybrid", "--folds", "1"], "--folds must be at least 2, got 1"),
        (["hybrid", "--folds", "99"], "has 12 judged questions, too few for 99 folds"),
        (["dense"], "no expand.graph, retrieve.hybrid, retrieve.sparse to tune"),
        (["nonesuch"], "no recipe 'nonesuch'"),
        (["bm25", "--try", "k1"], "--try takes OPTION=A,B,…, got 'k1'"),
        (["bm25", "--try", "k2=1"], "has no option 'k2'"),
        (["bm25", "--try", "b=0.5,2"], r"must be in [0, 1], got 2"),
        (["bm25", "--try", "a.b=1", "--try", "retrieve.b=1"], "must be of one step"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(data, tmp_path, capsys, arguments, message):
    out = tmp_path / "t.yaml"
    assert main(["tune", arguments[0], str(data), "-o", str(out), *arguments[1:]]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_file_is_extended_from_its_folder_or_above(data, tmp_path, capsys):
    (tmp_path / "sub").mkdir()
    mine = tmp_path / "sub" / "mine.yaml"
    mine.write_text("version: 1\nextends: bm25\n")
    more = ["--folds", "2", "--quiet", "--try", "k1=0.5,1.5"]
    assert main(["tune", str(mine), str(data), "-o", str(tmp_path / "t.yaml"), *more]) == 0
    assert "extends: sub/mine.yaml" in (tmp_path / "t.yaml").read_text()
    assert load_pipeline(tmp_path / "t.yaml").check() == []
    (tmp_path / "other").mkdir()
    out = tmp_path / "other" / "t.yaml"
    assert main(["tune", str(mine), str(data), "-o", str(out), *more]) == 2
    assert "--out must be in the folder of" in capsys.readouterr().err
    assert main(["tune", str(mine), str(data), "-o", str(mine), *more]) == 2


def test_a_weight_of_the_feedbacks_own_is_kept(data, tmp_path, capsys):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "version: 1\nextends: prf-both\nsteps: [{id: retrieve, with: {feedback_weight: 0.9}}]\n"
    )
    out = tmp_path / "t.yaml"
    assert main(["tune", str(mine), str(data), "-o", str(out), "--folds", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["chosen"].get("interpolation", "both") in ("pre", "both")
    assert load_pipeline(out).checked.steps["retrieve"].options["feedback_weight"] == 0.9

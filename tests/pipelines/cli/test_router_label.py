"""`dovetail router label` on a small corpora folder: what it writes, tells, resumes and refuses."""

import json

import pytest

from pipelines.cli.main import main
from pipelines.routing import outcomes
from rag.routing import read_labelled_queries

LINES = [
    {"id": "king", "question": "Who was king of Norway?", "answers": ["Olaf"], "source": "saga"},
    {"id": "mast", "question": "What is the height of the mast?", "answers": ["120 m"]},
    {"id": "iron", "question": "Of what is the tower?", "answers": ["iron", "steel"]},
    {"id": "never", "question": "What is never said?", "answers": ["hush"]},
    {"id": "open", "question": "What is not known?"},
]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def corpora(tmp_path, encoder, monkeypatch):
    from pipelines.corpora.build import build_corpora

    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("rag.models.encoder.load_encoder", lambda *_, **__: encoder)
    notes = tmp_path / "sources"
    notes.mkdir()
    (notes / "kings.md").write_text("# Kings\n\nOlaf was king of Norway. He was holy.\n")
    (notes / "towers.md").write_text("# Towers\n\nThe tower opened in 1889. It is of iron.\n")
    (notes / "heights.csv").write_text("name,height\ntower,330 m\nmast,120 m\n")
    folder = tmp_path / "corpora"
    build_corpora([str(notes)], folder, encoder=encoder, labels=["paragraph", "table"])
    return folder


@pytest.fixture
def given(corpora, tmp_path):
    questions = write(tmp_path / "q.jsonl", LINES)
    return ["router", "label", str(questions), "-i", str(corpora), "-o", str(tmp_path / "l.jsonl")]


def test_labels_by_evidence_and_the_file_is_read_again(given, tmp_path, capsys):
    assert main([*given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["labels"] == {"paragraph": 2, "table": 1}
    assert (told["tried"], told["labelled"]) == (4, 3)
    assert told["left_out"] == {"every route fails": 1, "nothing to judge by": 1}
    assert told["oracle"] == 0.75
    assert told["best_single"] == {"route": "paragraph", "score": 0.5}
    found = {one.id: one for one in read_labelled_queries(tmp_path / "l.jsonl")}
    assert list(found) == ["king", "mast", "iron"]
    assert found["king"].source == "saga"
    assert found["mast"].outcomes == {"paragraph": 0.0, "table": 1.0}
    assert found["mast"].costs["table"] > 0
    assert not list(tmp_path.glob("*.journal"))


def test_prints_routes_and_what_was_left_out(given, capsys):
    assert main(given) == 0
    said = capsys.readouterr()
    assert "4 questions tried, 3 labelled\n" in said.out
    assert "route      labelled  score  tokens\n" in said.out
    assert "best single route paragraph: 0.500, the best route of each question: 0.750" in said.out
    assert "left out: 1, every route fails\n" in said.out
    assert "wrote " in said.err


def test_an_interrupted_run_resumes_to_the_same_bytes(given, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(outcomes, "BATCH", 1)
    assert main(given) == 0
    out, journal = tmp_path / "l.jsonl", tmp_path / "l.jsonl.journal"
    whole = out.read_bytes()
    out.unlink()

    from pipelines.routing.open_routes import OpenRoutes

    search, asked = OpenRoutes.__call__, []

    def interrupted(self, queries, label):
        asked.append(label)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return search(self, queries, label)

    with monkeypatch.context() as patch:
        patch.setattr(OpenRoutes, "__call__", interrupted)
        assert main(given) != 0
    assert journal.exists()
    assert not out.exists()
    capsys.readouterr()
    assert main(given) == 2
    assert "is of an interrupted run: add --resume, or delete it" in capsys.readouterr().err
    assert main([*given, "--resume", "--top-k", "2"]) != 0
    assert "other questions, corpora or options" in capsys.readouterr().err
    assert main([*given, "--resume"]) == 0
    assert "1 question tried before" in capsys.readouterr().err
    assert out.read_bytes() == whole
    assert not journal.exists()


def test_several_labels_where_routes_tie(given, tmp_path, capsys):
    questions = write(
        tmp_path / "q.jsonl",
        [{"id": "a", "question": "Which tower?", "answers": ["tower"]}],
    )
    assert main([*given, "--multi-label", "--quiet"]) == 0
    (found,) = read_labelled_queries(tmp_path / "l.jsonl")
    assert sorted(found.labels) == ["paragraph", "table"]
    assert questions.exists()


def test_a_model_answers_with_and_without_passages(
    given, tmp_path, capsys, checkpoint, length_scorers
):
    options = ["--by", "answer", "--model", str(checkpoint), "--limit", "2", "--json"]
    code = main([*given, *options])
    told = json.loads(capsys.readouterr().out)
    assert list(told["routes"]) == ["none", "paragraph", "table"]
    assert told["routes"]["none"]["cost"] == 0
    assert code == (0 if told["labelled"] else 1)
    assert (tmp_path / "l.jsonl").exists() == bool(told["labelled"])


def test_gold_documents_judge_and_unknown_ones_are_named(given, tmp_path, capsys):
    gold = {"king": "sources/heights.csv", "mast": "heights.csv"}
    rows = [
        {"id": id_, "question": "mast", "supporting": [{"doc_id": document}]}
        for id_, document in gold.items()
    ]
    write(tmp_path / "q.jsonl", rows)
    assert main(given) == 0
    said = capsys.readouterr().err
    assert "no corpus has the documents of 1 question that every route fails" in said
    assert "'heights.csv' of 'mast'; corpora call theirs as in 'sources/heights.csv'" in said
    (found,) = read_labelled_queries(tmp_path / "l.jsonl")
    assert found.labels == ("table",)


def test_a_sample_is_drawn_from_what_can_be_judged(given, tmp_path, capsys):
    write(tmp_path / "q.jsonl", [*LINES[:2], *({"id": f"{n}", "question": "x"} for n in range(9))])
    assert main([*given, "--limit", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["tried"], told["left_out"]["nothing to judge by"]) == (2, 9)


def test_nothing_is_written_where_every_route_fails(given, tmp_path, capsys):
    write(tmp_path / "q.jsonl", LINES[3:4])
    assert main(given) == 1
    assert "every route fails every question" in capsys.readouterr().err
    assert not (tmp_path / "l.jsonl").exists()
    assert not (tmp_path / "l.jsonl.journal").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--limit", "0"], "--limit must be at least 1, got 0"),
        (["--top-k", "0"], "--top-k must be at least 1, got 0"),
        (["--tokens", "0"], "--tokens must be at least 1, got 0"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--tolerance", "2"], "--tolerance must be in [0, 1], got 2"),
        (["--routes", "table,video"], "(paragraph, table), got video"),
        (["--routes", ","], "(paragraph, table), got no label"),
        (["--routes", "none"], "must not hold none with --by evidence"),
        (["--resume"], "--resume needs the journal of an interrupted run"),
        (["--by", "guess"], "invalid choice: 'guess'"),
        (["-o", "{t}"], "--out must be a file, got the folder"),
        (["-o", "{t}/no/x.jsonl"], "--out must be in a folder that exists"),
        (["-i", "{t}/nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_line(given, tmp_path, capsys, options, message):
    assert main([*given, *(one.format(t=tmp_path) for one in options)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("dovetail: error: ")
    assert message in said
    assert not (tmp_path / "l.jsonl").exists()


def test_questions_without_anything_to_judge_by_are_refused(given, tmp_path, capsys):
    write(tmp_path / "q.jsonl", LINES[4:])
    assert main(given) == 2
    assert "must have answers or supporting documents" in capsys.readouterr().err
    assert main([*given, "--by", "answer"]) == 2
    assert "must have answers to judge by, got none in 1" in capsys.readouterr().err

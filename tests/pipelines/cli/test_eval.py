"""`dovetail eval` in process, over a scripted pipeline."""

import json
from xml.etree import ElementTree as ET

import pytest

from pipelines.cli.eval import duration
from pipelines.cli.main import main
from pipelines.cli.metric_table import number, p_value
from rag.evaluation import Outcome, read_rows
from rag.records import Answer, Hit, Passage, Selection, SentenceScore, Span, text_sha


class Asker:
    """A pipeline that knows one answer; fails on what it is told to."""

    model = "tiny"
    config = "c"
    left_out = ()

    def __init__(self):
        self.asked = []
        self.fail = set()

    def __call__(self, questions):
        self.asked += [question.id for question in questions]
        return [
            Outcome(error="broken")
            if q.id in self.fail
            else Outcome([Hit("a", 1.0)], (), Answer("red"), 5.0, 100)
            for q in questions
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def asker(monkeypatch):
    scripted = Asker()
    scripted.opened = []

    def opened(recipe, data, **options):
        scripted.opened.append((recipe, data, options))
        return scripted

    monkeypatch.setattr("pipelines.evaluating.asking.pipeline_asker", opened)
    monkeypatch.setattr("pipelines.cli.index.LateEncoder", lambda name, download: name)
    monkeypatch.setattr(
        "pipelines.cli.main.COMMANDS", {"eval": ("pipelines.cli.eval", "score a pipeline")}
    )
    return scripted


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    lines = [{"id": f"q{n:02}", "question": "What?", "answers": ["red"]} for n in range(20)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "qrels.tsv").write_text("".join(f"q{n:02}\t0\ta\t1\n" for n in range(20)))
    extra = {"id": "u", "question": "Why?", "unanswerable": True}
    (folder / "unanswerable.jsonl").write_text(json.dumps(extra) + "\n")
    return folder


@pytest.fixture
def evaluate(asker, data, capsys):
    def run(*arguments):
        status = main(["eval", "naive", str(data), *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


def test_json_holds_what_programs_rely_on(evaluate, asker, data):
    status, out, err = evaluate("--json", "--limit", 10, "--set", "retrieve.top_k=5")
    assert (status, err) == (0, "")
    shown = json.loads(out)
    assert (shown["recipe"], shown["data"], shown["n"], shown["seed"]) == (
        "naive",
        str(data),
        10,
        0,
    )
    assert shown["metrics"]["EM"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 10}
    assert set(shown["metrics"]) >= {"nDCG@10", "AllR@5", "F1", "Abstain", "TTFT_ms", "Tokens"}
    assert "SentR" not in shown["metrics"]
    assert (shown["errors"], shown["model"]) == (0, "tiny")
    recipe, folder, options = asker.opened[0]
    assert (recipe, folder, options["sets"]) == ("naive", data, ["retrieve.top_k=5"])
    assert options["choice"].model is None


def test_a_limit_draws_the_same_questions_every_time(evaluate, asker):
    for seed in (0, 0, 1):
        assert evaluate("--limit", 5, "--seed", seed)[0] == 0
    assert asker.asked[:5] == asker.asked[5:10] != asker.asked[10:]
    assert asker.asked[:5] == sorted(asker.asked[:5])


def test_the_table_is_plain_and_the_time_projected(evaluate):
    _, out, err = evaluate()
    assert "naive on " in out
    assert "20 questions, seed 0" in out
    assert ["EM", "1.000", "1.000", "1.000", "20"] in [line.split() for line in out.splitlines()]
    assert "20 questions: about 0 s to go" in err
    assert "to go" not in evaluate("--quiet")[2]


def test_rows_are_kept_and_asked_once(evaluate, asker, tmp_path):
    out = tmp_path / "rows.jsonl"
    evaluate("--limit", 5, "--out", out)
    assert [row.id for row in read_rows(out)] == asker.asked
    _, shown, err = evaluate("--limit", 8, "--out", out)
    assert "5 questions asked before" in err
    assert len(asker.asked) == len(set(asker.asked)) == 8
    assert "8 questions" in shown
    status, _, err = evaluate("--limit", 5, "--out", out)
    assert status == 2
    assert "holds 3 rows of questions that this run does not ask" in err


def test_failed_questions_are_told_and_count_zero(evaluate, asker):
    asker.fail = {"q03"}
    status, out, err = evaluate("--json")
    assert status == 0
    assert json.loads(out)["errors"] == 1
    assert json.loads(out)["metrics"]["EM"]["mean"] == 0.95
    assert "failed q03: broken" in err
    assert "1 question of 20 failed and count as 0" in err
    asker.fail = {f"q{n:02}" for n in range(20)}
    status, out, _ = evaluate("--json")
    assert status == 1
    assert json.loads(out)["metrics"] == {}


def test_a_trec_run_is_written(evaluate, tmp_path):
    evaluate("--trec", tmp_path / "run.txt", "--limit", 2)
    lines = (tmp_path / "run.txt").read_text().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(" Q0 a 1 1.00000000 naive")


def test_unanswerable_questions_are_asked_when_asked_for(evaluate, asker):
    evaluate()
    assert "u" not in asker.asked
    _, out, _ = evaluate("--unanswerable", "--json")
    assert asker.asked[-1] == "u"
    metrics = json.loads(out)["metrics"]
    assert (metrics["EM"]["n"], metrics["Abstain"]["n"]) == (20, 21)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "0"], "--limit must be at least 1, got 0"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--out", "no/where/rows"], "--out must be in a folder that exists, got no/where/rows"),
        (["--trec", "/"], "--trec must be a file, got the folder /"),
    ],
)
def test_mistakes_are_found_before_anything_is_asked(evaluate, asker, arguments, message):
    status, _, err = evaluate(*arguments)
    assert status == 2
    assert message in err
    assert asker.opened == []


def test_the_data_folder_is_never_written(evaluate, data):
    status, _, err = evaluate("--out", data / "rows.jsonl")
    assert status == 2
    assert "--out must not be in the data folder" in err
    assert not (data / "rows.jsonl").exists()


def test_numbers_and_times_read_well():
    assert [number(v) for v in (0.12345, 12.345, 123456.0)] == ["0.123", "12.3", "123,456"]
    assert number(0.5, sign=True) == "+0.500"
    assert [p_value(p) for p in (0.00001, 0.0312)] == ["<0.0001", "0.0312"]
    assert [duration(s) for s in (40, 720, 7500)] == ["40 s", "12 min", "2 h 05 min"]


def test_answers_are_wanted_only_if_the_data_knows_some(evaluate, asker, data):
    evaluate("--limit", 3)
    assert asker.opened[-1][2]["answers"] is True
    lines = [{"id": f"q{n:02}", "question": "What?"} for n in range(20)]
    (data / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    asker.left_out = ("prune", "generate")
    status, _, err = evaluate("--limit", 3)
    assert status == 0
    assert asker.opened[-1][2]["answers"] is False
    assert "no question has a known answer: prune, generate left out" in err
    evaluate("--limit", 3, "--answers")
    assert asker.opened[-1][2]["answers"] is True
    _, out, err = evaluate("--limit", 3, "--json")
    assert json.loads(out)["left_out"] == ["prune", "generate"]
    assert err == ""


def scored(monkeypatch, asker, data, *, score=lambda number: number / 40):
    """Let the pipeline prune: question n has a gold sentence of score n / 40 and another of 0.2."""
    lines = [
        {
            "id": f"q{n:02}",
            "question": "What?",
            "answers": ["red"],
            "supporting": [{"doc_id": "a", "sentence_ids": [0]}],
        }
        for n in range(20)
    ]
    (data / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = "It is red. It is not."
    spans = (Span(0, 11), Span(11, 21))

    def outcomes(questions):
        asker.asked += [question.id for question in questions]
        found = []
        for question in questions:
            scores = (score(1 + int(question.id[1:])), 0.2)
            verdicts = tuple(
                SentenceScore(span, one, kept=True) for span, one in zip(spans, scores, strict=True)
            )
            kept = Selection("a", text_sha(text), verdicts, "test", 0.0)
            passage = Passage("a", "a", text, Span(0, 21), spans, kept=kept)
            found.append(Outcome([Hit("a", 1.0)], [passage]))
        return found

    monkeypatch.setattr(type(asker), "__call__", lambda self, questions: outcomes(questions))


def test_a_curve_tells_what_other_thresholds_keep(evaluate, asker, data, monkeypatch, tmp_path):
    scored(monkeypatch, asker, data)
    status, out, _ = evaluate("--json", "--curve", tmp_path / "curve.svg")
    assert status == 0
    shown = json.loads(out)
    # Of 400 pairs, those with a gold score above 0.2 win (12 of 20), the one at 0.2 is a tie.
    assert shown["metrics"]["AUC"]["mean"] == pytest.approx(12.5 / 20)
    # 19 of 20 gold sentences stay above 1 / 40, and with them the others: 79 + ... tokens.
    kept = shown["metrics"]["Kept@SentR95"]
    assert kept["mean"] == pytest.approx((19 * 4 + 20 * 4) / (40 * 4))
    assert kept["low"] <= kept["mean"] <= kept["high"]
    assert kept["n"] == 20
    points = {point["threshold"]: point for point in shown["curve"]}
    assert points[0.3] == {
        "threshold": 0.3,
        "sentence_recall": 0.4,
        "sentence_precision": 1.0,
        "kept": 0.2,
        "all_gold": 0.4,
        "answer_kept": 0.4,
    }
    assert points[1 / 40]["sentence_recall"] == 0.95
    assert list(points) == sorted(points)
    assert {"SentR", "Kept"} <= shown["metrics"].keys()
    root = ET.fromstring((tmp_path / "curve.svg").read_text())
    assert root.tag.endswith("svg")


def test_a_curve_is_drawn_as_a_table_and_only_when_wanted(evaluate, asker, data, monkeypatch):
    scored(monkeypatch, asker, data)
    _, out, _ = evaluate("--curve")
    rows = [line.split() for line in out.splitlines()]
    assert ["threshold", "SentR", "SentP", "Kept", "AllGold", "AnswerKept"] in rows
    assert ["0.3", "0.400", "1.000", "0.200", "0.400", "0.400"] in rows
    assert any(row[:2] == ["AUC", "0.625"] for row in rows)
    _, out, _ = evaluate()
    assert "threshold" not in out
    assert "AUC" not in out


def test_a_curve_goes_on_with_the_scores_of_an_interrupted_run(
    evaluate, asker, data, monkeypatch, tmp_path
):
    scored(monkeypatch, asker, data)
    whole = json.loads(evaluate("--json", "--curve", "--limit", 12)[1])
    out = tmp_path / "rows.jsonl"
    evaluate("--curve", "--limit", 7, "--out", out)
    asked = len(asker.asked)
    again = json.loads(evaluate("--json", "--curve", "--limit", 12, "--out", out)[1])
    assert len(asker.asked) == asked + 5
    assert again["metrics"] == whole["metrics"]
    assert again["curve"] == whole["curve"]
    other = tmp_path / "other.jsonl"
    evaluate("--limit", 7, "--out", other)
    status, _, err = evaluate("--curve", "--limit", 12, "--out", other)
    assert status == 2
    assert "holds 7 questions asked without --curve, such as 'q0" in err


def test_a_curve_needs_a_pruner_gold_sentences_and_an_svg(evaluate, asker, data, monkeypatch):
    status, _, err = evaluate("--curve")
    assert status != 0
    assert "--curve needs a pipeline that prunes" in err
    scored(monkeypatch, asker, data)
    lines = [{"id": f"q{n:02}", "question": "What?", "answers": ["red"]} for n in range(20)]
    (data / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    status, _, err = evaluate("--curve")
    assert status != 0
    assert "--curve needs data that names gold sentences" in err
    asked = len(asker.asked)
    status, _, err = evaluate("--curve", "curve.png")
    assert status == 2
    assert "--curve must name a file that ends in .svg, got curve.png" in err
    status, _, err = evaluate("--curve", data / "curve.svg")
    assert "--curve must not be in the data folder" in err
    assert len(asker.asked) == asked

"""`dovetail inspect` of a run: tree, prompt, page, difference; an index stays what it was."""

import json

import pytest

from pipelines.cli.main import main
from rag.records import Answer, Passage, Span
from rag.tracing import Trace


def traced(prompt="exactly\n this ", **about):
    trace = Trace(pipeline="naive", **about)
    with trace.span("retrieve", use="retrieve.hybrid"):
        trace.output([Passage("a:0", "a", "Text.", Span(0, 5), (Span(0, 5),), score=0.5)])
    with trace.span("generate"):
        trace.output(Answer("Yes.", prompt=prompt))
    return trace


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run.jsonl"
    traced().write(path)
    return path


def test_a_run_is_a_tree(run, capsys):
    assert main(["inspect", str(run)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("naive  ")
    assert "├─ retrieve retrieve.hybrid" in out
    assert "1 passage: a:0 0.500" in out
    assert err == ""


def test_the_last_run_is_found(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path))
    assert main(["inspect", "last"]) == 2
    assert "no run has been recorded yet in" in capsys.readouterr().err
    traced().save()
    assert main(["inspect", "last"]) == 0
    assert capsys.readouterr().out.startswith("naive  ")


def test_the_prompt_is_printed_exactly(run, capsys):
    assert main(["inspect", str(run), "--prompt"]) == 0
    assert capsys.readouterr() == ("exactly\n this \n", "")
    assert main(["inspect", str(run), "--prompt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "prompts": [{"path": "generate", "prompt": "exactly\n this "}]
    }


def test_a_run_without_a_prompt_says_so(tmp_path, capsys):
    traced(content=False).write(tmp_path / "run.jsonl")
    assert main(["inspect", str(tmp_path / "run.jsonl"), "--prompt"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "the trace holds no prompt" in err


def test_json_holds_every_record(run, capsys):
    assert main(["inspect", str(run), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["run"]["pipeline"] == "naive"
    assert [record["name"] for record in shown["records"]] == [
        *("retrieved", "retrieve", "prompt", "generated", "generate")
    ]


def test_a_page_is_written(run, tmp_path, capsys):
    out = tmp_path / "run.html"
    assert main(["inspect", str(run), "--html", str(out)]) == 0
    assert out.read_text().startswith("<!DOCTYPE html>")
    assert capsys.readouterr() == ("", f"wrote {out}\n")


def test_two_runs_are_compared(run, tmp_path, capsys):
    other = tmp_path / "other.jsonl"
    traced("exactly\n that ", overrides=["k=2"]).write(other)
    assert main(["inspect", str(run), "--diff", str(other)]) == 0
    shown = capsys.readouterr().out
    assert 'overrides: – → ["k=2"]' in shown
    assert "prompt of generate:\nexactly\n [-this-]{+that+} " in shown
    assert main(["inspect", str(run), "--diff", str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"] == [["overrides", "–", '["k=2"]']]
    page = tmp_path / "diff.html"
    assert main(["inspect", str(run), "--diff", str(other), "--html", str(page)]) == 0
    assert "<ins>that</ins>" in page.read_text()


def test_a_cut_off_run_is_shown_with_a_remark(run, capsys):
    run.write_bytes(run.read_bytes()[:-9])
    assert main(["inspect", str(run)]) == 0
    out, err = capsys.readouterr()
    assert "the last line is cut off and left out" in err
    assert out.startswith("naive  ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["doc"], "ID is of an index, but"),
        (["--prompt", "--html", "x.html"], "--prompt goes without --diff and --html"),
        (["--html", "x.html", "--json"], "--html writes a page, --json prints; choose one"),
        (["--html", "no/such/x.html"], "--html must be in a folder that exists, got no/such"),
        (["--diff", "none.jsonl"], "cannot read the trace none.jsonl: No such file"),
    ],
)
def test_mistakes(run, capsys, arguments, message):
    assert main(["inspect", str(run), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_index_is_shown_and_takes_no_options_of_a_run(index, capsys):
    assert main(["inspect", str(index)]) == 0
    assert "3 documents" in capsys.readouterr().out
    assert main(["inspect", str(index), "--prompt"]) == 2
    assert "--prompt, --html and --diff are of a run" in capsys.readouterr().err


def test_what_does_not_exist_is_said(capsys, tmp_path):
    assert main(["inspect", str(tmp_path / "none.jsonl")]) == 2
    assert "cannot read the trace" in capsys.readouterr().err

"""`dovetail run` in process: once, for a file of inputs, and every mistake."""

import json

import pytest

from pipelines.cli.main import main

QUESTION = "What is sentence 3 about?"


@pytest.fixture
def run(index, checkpoint, capsys):
    """Return a function: arguments -> (exit status, standard output, standard error)."""

    def call(*arguments, bound=True):
        resources = ["-i", str(index), "--model", str(checkpoint), "--dtype", "float32"]
        status = main(["run", *map(str, arguments), *(resources if bound else [])])
        return status, *capsys.readouterr()

    return call


def written(path, text):
    path.write_text(text)
    return path


def test_a_recipe_gives_the_object_that_ask_gives(run, index, checkpoint, capsys):
    status, out, err = run("ask", QUESTION, "--json")
    assert status == 0, err
    answer = json.loads(out)["outputs"]["answer"]
    arguments = ["ask", QUESTION, "-i", str(index), "--model", str(checkpoint)]
    assert main([*arguments, "--dtype", "float32", "--json"]) == 0
    asked = json.loads(capsys.readouterr().out)
    assert answer["answer"] == asked["answer"]
    assert set(answer) == set(asked)


def test_question_and_input_are_the_same(run):
    assert run("ask", QUESTION, "--quiet")[1] == run("ask", "--input", f"query={QUESTION}")[1]


def test_set_changes_an_option_of_a_step(run):
    _, out, _ = run("ask", QUESTION, "--json", "--set", "retrieve.top_k=1")
    assert len(json.loads(out)["outputs"]["answer"]["passages"]) == 1


def test_a_file_of_inputs_becomes_a_file_of_outputs_and_goes_on_where_it_ended(run, tmp_path):
    lines = [{"id": f"q{n}", "query": f"What is sentence {n} about?"} for n in range(3)]
    source = written(tmp_path / "in.jsonl", "\n".join(map(json.dumps, lines)))
    out = tmp_path / "out.jsonl"
    assert run("ask", "--inputs", source, "--out", out, "--batch", 2)[0] == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["q0", "q1", "q2"]
    assert all("answer" in row["outputs"] for row in rows)
    out.write_text(out.read_text().splitlines()[0] + "\n")
    status, said, _ = run("ask", "--inputs", source, "--out", out, "--json")
    assert (status, json.loads(said)["run"], json.loads(said)["skipped"]) == (0, 2, 1)
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["q0", "q1", "q2"]


def test_every_run_leaves_a_trace_that_inspect_shows(run, capsys):
    assert run("ask", QUESTION, "--quiet")[0] == 0
    assert main(["inspect", "last"]) == 0
    shown = capsys.readouterr().out
    assert all(step in shown for step in ("retrieve", "prune", "generate"))


def test_a_trace_without_content_has_neither_question_nor_passages(run, tmp_path):
    path = tmp_path / "trace.jsonl"
    assert run("ask", QUESTION, "--trace", path, "--trace-content", "none")[0] == 0
    assert "sentence" not in path.read_text().lower().replace("sentences", "")


def test_a_page_shows_the_run(run, tmp_path):
    page = tmp_path / "run.html"
    assert run("ask", QUESTION, "--html", page, "--trace", "none")[0] == 0
    assert QUESTION in page.read_text()


def test_passages_are_shown_as_a_person_reads_them_and_as_json(run):
    status, out, _ = run("bm25", "Sentence 3 about bridges?")
    assert status == 0
    assert "\n1. notes/bridges.md" in out
    assert "\n   Sentence 3 is about bridges." in out
    assert run("bm25", "zebra")[1] == "no passage found\n"
    _, out, _ = run("bm25", "Sentence 3 about bridges?", "--json")
    assert {"id", "text", "score"} <= set(json.loads(out)["outputs"]["passages"][0])


def test_other_outputs_are_json(run, tmp_path):
    text = "version: 1\nname: asked\nsteps:\n  - query.multi\noutputs: [queries]\n"
    status, out, _ = run(written(tmp_path / "asked.yaml", text), QUESTION)
    assert status == 0
    assert json.loads(out.removeprefix("queries: "))[0]["text"] == QUESTION


def test_a_step_that_fails_is_1_and_names_itself_and_its_trace_is_kept(run, tmp_path):
    plugin = written(
        tmp_path / "ops.py",
        "from rag import Query, operator\n\n\n"
        '@operator("query.broken")\ndef broken(query: Query) -> Query:\n'
        '    """Fails."""\n    raise KeyError("the moon")\n',
    )
    text = "version: 1\nname: b\nsteps:\n  - query.broken\noutputs: [query]\n"
    source = written(tmp_path / "b.yaml", text)
    trace = tmp_path / "trace.jsonl"
    status, out, err = run(source, QUESTION, "--plugin", plugin, "--trace", trace)
    assert (status, out) == (1, "")
    assert f"step 'query' failed: KeyError: 'the moon' (input: query='{QUESTION}')" in err
    assert '"error": "KeyError: \'the moon\'"' in trace.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "--inputs", "x.jsonl"], "--inputs and --out belong together"),
        (["ask", "q", "--inputs", "x", "--out", "y"], "give --inputs, or one item"),
        (["ask", "--input", "query"], "--input must be NAME=VALUE, got 'query'"),
        (["ask", "q", "--input", "query=r"], "input 'query' is given twice"),
        (["ask", "--input", "qeury=r"], "has no input 'qeury'; did you mean 'query'?"),
        (["ask"], "needs the input 'query'"),
        (["ask", " "], "the question must not be empty"),
        (["chat", "q", "--input", "history=x"], "input 'history' must be JSON"),
        (["ask", "q", "--batch", "0"], "--batch must be at least 1, got 0"),
        (["asc", "q"], "there is no recipe 'asc'; did you mean 'ask'?"),
        (["ask", "q", "--set", "retreive.top_k=3"], "did you mean 'retrieve'?"),
        (["ask", "q", "--set", "retrieve.top_kk=3"], "did you mean 'top_k'?"),
        (["ask", "q", "--set", "retrieve.top_k=0"], "must be at least 1, got 0"),
        (["ask", "q", "--set", "retrieve.top_k"], "="),
        (["ask", "q", "--plugin", "nowhere.py"], "no plugin file nowhere.py"),
        (["hybrid", "q", "--set", "retrieve.depth=1"], "depth must be at least top_k = 3, got 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_2(run, arguments, message):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_without_an_index_nothing_runs(run):
    status, _, err = run("ask", QUESTION, bound=False)
    assert status == 2
    assert (
        "pipeline 'ask' cannot run: the resource 'index' is not bound, and retrieve, prune cannot "
        "do without; give -i DIR on the command line, Pipeline.bind(index=...) in Python"
    ) in err


def test_without_a_model_nothing_runs(index, capsys):
    assert main(["run", "ask", QUESTION, "-i", str(index)]) == 2
    assert "the resource 'lm' is not bound, and generate cannot do without; give --model" in (
        capsys.readouterr().err
    )

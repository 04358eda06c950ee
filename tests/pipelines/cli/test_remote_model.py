"""`dovetail ask`, `run` and `eval` with a model behind a service: the same output, and no key."""

import json

import pytest

from pipelines.cli.main import main

QUESTION = "What is sentence 3 about?"
QUOTE = "Sentence 3 is about apples."
KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def ask(index, service, capsys):
    def run(*more, model=None):
        service.url_model = model or f"{service.url}#tiny"
        status = main(["ask", QUESTION, "-i", str(index), "--model", service.url_model, *more])
        return status, *capsys.readouterr()

    return run


def test_ask_cites_and_traces_as_ever(ask, service, tmp_path):
    service.says(f"Answer: {QUOTE} Zebras graze.", usage=(120, 9))
    trace, page = tmp_path / "run.jsonl", tmp_path / "run.html"
    more = (
        "--threshold",
        "0",
        "--trace",
        str(trace),
        "--html",
        str(page),
        "--show",
        "trace,prompt",
    )
    status, out, err = ask("--json", *more)
    assert status == 0, err
    found = json.loads(out)
    assert found["answer"] == f"{QUOTE} Zebras graze."
    assert (found["mode"], found["model"]) == ("sequential", "tiny")
    (citation,) = found["citations"]
    assert (citation["quote"], citation["document"]) == (QUOTE, "notes/apples.md")
    assert found["unsupported"] == ["Zebras graze."]
    assert found["prompt"] == service.bodies[0]["messages"][0]["content"]
    assert found["tokens"] == {"prompt": 120, "cached": 0, "prefilled": 120, "generated": 9}
    assert set(found["kv"]["segments"].values()) == {"not cached: tiny is remote"}
    assert f"tiny is remote: prompts and passages go to {service.url} as text" in err
    steps = {json.loads(line)["name"] for line in trace.read_text().splitlines()}
    assert {"retrieve", "prune", "generate", "kv", "prompt", "citations"} <= steps
    assert service.requests[0][1]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in out + err + trace.read_text() + page.read_text()


def test_a_person_sees_the_same_lines(ask, service):
    service.says(QUOTE)
    status, out, err = ask()
    assert status == 0
    assert out.startswith(f"{QUOTE} [1]\n  [1] notes/apples.md, characters ")
    assert "sequential, tiny: 7 prompt tokens, 0 from the KV cache" in err


def test_a_service_that_refuses_is_one_line_without_the_key(ask, service, tmp_path):
    service.answers((401, {"error": {"message": f"bad key {KEY}"}}, {}))
    trace = tmp_path / "run.jsonl"
    status, out, err = ask("--trace", str(trace))
    assert (status, out) == (1, "")
    assert f"{service.url}/chat/completions answered 401: bad key ***" in err
    assert "Traceback" not in err
    assert KEY not in err + trace.read_text()


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ("http://127.0.0.1:9/v1", "must end with #MODEL"),
        ("http://127.0.0.1:9/v1#", "must end with #MODEL"),
        ("http://api.example.com/v1#tiny", "must be https outside this machine and its network"),
        ("https://me:hunter2@a.example.org/v1#tiny", "must not hold a user or a password"),
    ],
)
def test_urls_that_cannot_be(ask, model, what):
    status, out, err = ask(model=model)
    assert (status, out) == (2, "")
    assert what in err
    assert "Traceback" not in err
    assert "hunter2" not in err


def test_run_binds_a_service_too(index, service, capsys):
    service.says(QUOTE)
    arguments = ["run", "ask", QUESTION, "-i", str(index), "--model", f"{service.url}#tiny"]
    assert main([*arguments, "--json", "--trace", "none"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"]["answer"]["answer"] == QUOTE


def test_eval_asks_a_service_every_question(service, tmp_path, capsys, encoder, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("pipelines.cli.index.LateEncoder", lambda name, download: encoder)
    monkeypatch.setattr("rag.models.encoder.load_encoder", lambda name, **_: encoder)
    data = tmp_path / "data"
    data.mkdir()
    texts = [{"id": "a", "text": "Apples are red."}, {"id": "b", "text": "Bridges span rivers."}]
    asked = [{"id": f"q{n}", "question": "Which colour?", "answers": ["red"]} for n in range(3)]
    for name, rows in (("corpus", texts), ("queries", asked)):
        (data / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (data / "qrels.tsv").write_text("".join(f"q{n}\t0\ta\t1\n" for n in range(3)))
    service.says("red")
    status = main(["eval", "naive", str(data), "--model", f"{service.url}#tiny", "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    found = json.loads(captured.out)
    assert (found["model"], found["errors"], len(service.requests)) == ("tiny", 0, 3)
    assert found["metrics"]["F1"]["mean"] == 1.0
    assert KEY not in captured.out + captured.err


@pytest.mark.parametrize("command", ["ask", "run", "eval"])
def test_help_says_how_to_name_a_service(command, capsys):
    assert main([command, "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "http://127.0.0.1:8000/v1#MODEL" in said
    assert "OPENAI_API_KEY" in said

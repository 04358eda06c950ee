"""`dovetail ask` in process: the object that programs rely on, what is shown, and mistakes."""

import itertools
import json

import pytest

from kvstore.store import KVStore
from pipelines.cli.main import main
from rag.generation.engine import Engine

QUESTION = "What is sentence 3 about?"
SAID = " Sentence 3 is about apples. Zebras graze quietly.\nQuestion: no"


@pytest.fixture
def says(monkeypatch, tiny_tokenizer):
    """Make the model answer with a given text; everything but the choice of tokens is real."""

    def install(text):
        ids = tiny_tokenizer(text, add_special_tokens=False)["input_ids"]

        def decode(self, state, sampling, stop):
            return itertools.islice(ids, sampling.max_tokens)

        monkeypatch.setattr(Engine, "decode", decode)

    return install


@pytest.fixture
def ask(index, checkpoint, capsys):
    """Return a function: arguments -> (exit status, standard output, standard error)."""

    def run(*more, question=QUESTION, folder=index, model=checkpoint):
        arguments = ["ask", question, "-i", str(folder), "--model", str(model)]
        status = main([*arguments, "--dtype", "float32", *more])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def ask_json(ask):
    def run(*more, **options):
        status, out, err = ask("--json", *more, **options)
        assert status == 0, err
        return json.loads(out)

    return run


def test_json_has_what_programs_rely_on(ask_json, says, checkpoint):
    says(SAID)
    found = ask_json("--threshold", "0")
    assert found["answer"] == "Sentence 3 is about apples. Zebras graze quietly."
    assert found["abstained"] is False
    assert (found["mode"], found["model"]) == ("graph", str(checkpoint))
    (citation,) = found["citations"]
    assert set(citation) >= {
        "passage_id", "document", "start", "end", "quote", "answer_start", "answer_end",
    }  # fmt: skip
    assert citation["quote"] == "Sentence 3 is about apples."
    assert citation["document"] == "notes/apples.md"
    cited = found["answer"][citation["answer_start"] : citation["answer_end"]]
    assert cited == "Sentence 3 is about apples."
    assert found["unsupported"] == ["Zebras graze quietly."]
    assert len(found["passages"]) == 3
    for passage in found["passages"]:
        assert set(passage) >= {"id", "score", "text", "kept"}
        assert passage["kept"] == [[0, len(passage["text"])]] or all(
            0 <= start < end <= len(passage["text"]) for start, end in passage["kept"]
        )
    assert set(found["kv"]) >= {"hits", "misses", "bytes"}
    tokens = found["tokens"]
    assert set(tokens) >= {"prompt", "cached", "prefilled", "generated"}
    assert tokens["prompt"] == tokens["cached"] + tokens["prefilled"]
    times = found["timings_ms"]
    assert set(times) >= {"retrieve", "prune", "kv", "ttft", "total"}
    assert times["total"] >= times["ttft"] >= times["kv"] > 0


def test_quotes_stand_where_inspect_shows_them(ask_json, says, index, capsys):
    says(SAID)
    (citation,) = ask_json()["citations"]
    assert main(["inspect", str(index), citation["document"], "--json"]) == 0
    text = json.loads(capsys.readouterr().out)["text"]
    assert text[citation["start"] : citation["end"]] == citation["quote"]


def test_kept_ranges_are_the_pruners_choice(ask_json):
    found = ask_json("--threshold", "0.9")
    kept = [p["text"][start:end] for p in found["passages"] for start, end in p["kept"]]
    everything = sum(len(p["text"]) for p in found["passages"])
    assert 0 < sum(map(len, kept)) < everything
    for passage in found["passages"]:
        assert passage["kept"] == sorted(passage["kept"])
    assert all(sentence.lstrip().startswith("Sentence") for sentence in kept)


def test_the_second_ask_hits_what_the_first_stored(ask_json):
    first, second = ask_json(), ask_json()
    assert (first["kv"]["hits"], second["kv"]["misses"]) == (0, 0)
    assert second["kv"]["hits"] == first["kv"]["misses"] > 1
    assert second["kv"]["bytes"] > 0
    assert second["answer"] == first["answer"]


def test_sequential_caches_nothing(ask_json, index):
    found = ask_json("--mode", "sequential")
    assert found["mode"] == "sequential"
    assert found["tokens"]["cached"] == found["kv"]["misses"] == found["kv"]["bytes"] == 0
    assert not list((index / "kv").glob("*/*.safetensors"))


def test_a_person_sees_answer_marks_and_quotes(ask, says):
    says(SAID)
    status, out, err = ask("--threshold", "0")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "Sentence 3 is about apples. [1] Zebras graze quietly. [unsupported]"
    assert lines[1].startswith("  [1] notes/apples.md, characters ")
    assert lines[2].strip() == "“Sentence 3 is about apples.”"
    assert "prompt tokens" in err
    assert "loading the model" in err


def test_an_answer_without_support_is_shown_as_a_refusal(ask, ask_json, says):
    says(" Zebras graze quietly.")
    status, out, _ = ask()
    assert status == 0
    assert out.startswith("No passage supports an answer.\n")
    assert "Zebras graze quietly." in out
    found = ask_json()
    assert (found["abstained"], found["citations"]) == (True, [])
    assert found["answer"] == "No passage supports an answer."
    assert found["unsupported"] == ["Zebras graze quietly."]


def test_quiet_says_nothing_about_loading(ask):
    assert "loading" not in ask("--quiet")[2]


def test_what_show_adds(ask, ask_json):
    status, out, _ = ask("--show", "prompt,passages,trace", "--threshold", "0")
    assert status == 0
    assert "--- prompt ---" in out
    assert f"Question: {QUESTION}\nAnswer:" in out
    assert "   + Sentence 3 is about apples." in out
    assert "6 of 6 sentences kept" in out
    trace = out.partition("--- trace ---\n")[2].splitlines()
    assert json.loads(trace[0])["kind"] == "run"
    found = ask_json("--show", "prompt,trace")
    assert found["prompt"].endswith(f"Question: {QUESTION}\nAnswer:")
    assert [r["name"] for r in found["trace"] if r["kind"] == "span"] == [
        "retrieve", "prune", "generate",
    ]  # fmt: skip
    assert not {"prompt", "trace"} & set(ask_json())


def test_a_trace_file_holds_every_step(ask, tmp_path):
    path = tmp_path / "trace.jsonl"
    assert ask("--trace", str(path))[0] == 0
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert records[0]["kind"] == "run"
    assert records[0]["inputs"] == {"query": QUESTION}
    assert records[0]["pipeline"] == "ask"
    spans = {r["name"]: r["wall_ms"] for r in records if r["kind"] == "span"}
    assert set(spans) == {"retrieve", "prune", "generate"}
    assert {r["name"] for r in records if r["kind"] == "event"} == {
        "retrieved", "pruned", "kv", "prompt", "generated", "citations", "context",
    }  # fmt: skip


def test_a_trace_that_cannot_be_written_is_a_mistake(ask, tmp_path):
    status, _, err = ask("--trace", str(tmp_path / "nowhere" / "trace.jsonl"))
    assert status == 2
    assert "nowhere" in err


def test_while_another_process_writes_the_store_is_only_read(ask, index):
    expected = ask("--quiet")[1]
    before = sorted((index / "kv").glob("*/*.safetensors"))
    with KVStore(index / "kv", ram_bytes=0):
        status, out, err = ask("--quiet", question=QUESTION)
        assert (status, out) == (0, expected)
        assert "is being written by process" in err
        assert ask("--quiet", question="Which clouds?")[0] == 0
    assert sorted((index / "kv").glob("*/*.safetensors")) == before


def test_a_damaged_kv_file_is_a_miss_and_the_answer_the_same(ask_json, index):
    first = ask_json()
    files = sorted((index / "kv").glob("*/*.safetensors"))
    assert len(files) == first["kv"]["misses"]
    for file in files:
        content = bytearray(file.read_bytes())
        content[-5] ^= 0x10
        file.write_bytes(content)
    damaged = ask_json()
    assert (damaged["kv"]["hits"], damaged["kv"]["misses"]) == (0, len(files))
    assert all(reason.startswith("corrupt: ") for reason in damaged["kv"]["segments"].values())
    assert damaged["answer"] == first["answer"]
    mended = ask_json()
    assert (mended["kv"]["misses"], mended["answer"]) == (0, first["answer"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--show", "prompt,nonsense"], "--show takes prompt, passages, trace, got nonsense"),
        (["--top-k", "0"], "top_k must be at least 1, got 0"),
        (["--max-tokens", "0"], "max_tokens must be at least 1, got 0"),
        (["--temperature", "-1"], "temperature must be at least 0, got -1"),
        (["--threshold", "-0.5"], "threshold must be at least 0, got -0.5"),
        (["--kv-ram", "lots"], "must be a size such as 500MB or 4GB, got 'lots'"),
        (["--kv-disk", "-1GB"], "--kv-disk"),
        (["--mode", "apt"], "invalid choice: 'apt'"),
        (["--dtype", "int8"], "invalid choice: 'int8'"),
        (["--top-k", "many"], "retrieve.hybrid.top_k wants int, got 'many'"),
    ],
    ids=" ".join,
)
def test_arguments_out_of_range_are_one_line_and_2(ask, arguments, message):
    status, out, err = ask(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_an_empty_question_is_2(ask):
    status, out, err = ask(question=" ")
    assert (status, out) == (2, "")
    assert "question must not be empty" in err


def test_an_index_that_is_none_is_2(ask, tmp_path):
    status, _, err = ask(folder=tmp_path / "nowhere.idx")
    assert status == 2
    assert "nowhere.idx" in err
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "a.png").write_bytes(b"x")
    status, _, err = ask(folder=foreign)
    assert status == 2
    assert "photos" in err
    assert [p.name for p in foreign.iterdir()] == ["a.png"]


def test_an_unknown_model_is_2(ask):
    status, _, err = ask(model="nonesuch")
    assert status == 2
    assert "no model 'nonesuch'; tried" in err


def test_an_index_of_another_encoder_is_2(ask, encoder):
    encoder.fingerprint = "e" * 64
    status, _, err = ask()
    assert status == 2
    assert "was made with encoder 'hash'" in err


def test_a_conversation_is_kept_in_a_file_and_read_from_it(ask, tmp_path):
    history = tmp_path / "chat.jsonl"
    assert ask("-p", "chat", "--history", str(history))[0] == 0
    turns = [json.loads(line) for line in history.read_text().splitlines()]
    assert [turn["role"] for turn in turns] == ["user", "assistant"]
    assert turns[0]["text"] == QUESTION
    assert ask("-p", "chat", "--history", str(history), question="And the next one?")[0] == 0
    assert len(history.read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "ask", "--history", "x.jsonl"], "'ask' has no input history; use -p chat"),
        (["-p", "asc"], "there is no recipe 'asc'; did you mean 'ask'?"),
        (["-p", "naive", "--threshold", "0.5"], "no step has the id 'prune'"),
    ],
    ids=" ".join,
)
def test_a_recipe_that_does_not_fit_is_2(ask, arguments, message):
    status, out, err = ask(*arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_a_damaged_conversation_names_its_line(ask, tmp_path):
    history = tmp_path / "chat.jsonl"
    history.write_text('{"role": "user", "text": "Hello"}\n{"role": "wizard", "text": "x"}\n')
    status, _, err = ask("-p", "chat", "--history", str(history))
    assert status == 2
    assert f"{history}:2: the turn.role must be one of 'user', 'assistant', got 'wizard'" in err

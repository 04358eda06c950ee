"""Traces: order, times, errors, what is never kept, and files that a program can read."""

import json
import re
import time

import pytest

from rag.records import Answer, Passage, Span
from rag.tracing import Trace, TraceError


def test_records_come_in_the_order_in_which_things_ended():
    trace = Trace(question="why?")
    with trace.span("generate"):
        trace.event("kv", hits=2)
    kinds = [(r["kind"], r["name"]) for r in trace.records]
    assert kinds == [("run", "run"), ("event", "kv"), ("span", "generate")]
    assert trace.records[0]["question"] == "why?"
    assert trace.records[0]["at_ms"] == 0
    assert trace.records[1]["hits"] == 2
    assert trace.records[2]["at_ms"] <= trace.records[1]["at_ms"], "a span tells when it began"


def test_the_run_tells_its_id_its_time_and_once_written_its_versions():
    trace = Trace(pipeline="advanced", overrides=["retrieve.top_k=3"])
    assert re.fullmatch(r"[0-9a-f]{32}", trace.run["id"])
    assert trace.run["started"].endswith("+00:00")
    assert "versions" not in trace.run
    run = json.loads(trace.lines().split("\n")[0])
    assert set(run["versions"]) >= {"python", "dovetail"}
    assert (run["pipeline"], run["overrides"]) == ("advanced", ["retrieve.top_k=3"])
    assert Trace().run["id"] != trace.run["id"]


def test_a_span_is_timed_and_a_step_that_ran_twice_is_summed():
    trace = Trace()
    for _ in range(2):
        with trace.span("retrieve"):
            time.sleep(0.01)
    assert trace.wall_ms("retrieve") >= 20
    assert trace.wall_ms("retrieve") == sum(r["wall_ms"] for r in trace.records[1:])
    assert trace.wall_ms("prune") == 0
    first, second = trace.records[1:]
    assert second["at_ms"] >= first["at_ms"] + first["wall_ms"]
    assert 0 <= first["cpu_ms"] < first["wall_ms"]
    assert first["peak_mb"] > 1


def test_spans_inside_spans_have_paths_and_events_belong_to_the_one_that_is_open():
    trace = Trace()
    with trace.span("generate"), trace.span("decode"):
        trace.event("kv", hits=1)
    trace.event("after")
    event, inner, outer, after = trace.records[1:]
    assert event["path"] == inner["path"] == "generate/decode"
    assert outer["path"] == "generate"
    assert "path" not in after


def test_a_step_that_fails_is_recorded_with_its_error():
    trace = Trace()
    with pytest.raises(ValueError, match="odd"), trace.span("prune"):
        raise ValueError("odd")
    assert trace.records[-1]["error"] == "ValueError: odd"
    assert trace.wall_ms("prune") >= 0
    with trace.span("prune"):
        pass
    assert "error" not in trace.records[-1]


def test_a_span_that_the_executor_timed_itself():
    trace = Trace()
    trace.add_span(
        "retrieve",
        use="retrieve.hybrid",
        path="loop[2]/retrieve",
        began=trace._began + 0.25,
        wall_ms=12.3456,
        cached=True,
        batch=4,
        skipped=True,
    )
    record = trace.records[-1]
    assert record.pop("peak_mb") > 1
    assert record == {
        "kind": "span",
        "name": "retrieve",
        "at_ms": 250.0,
        "use": "retrieve.hybrid",
        "path": "loop[2]/retrieve",
        "wall_ms": 12.346,
        "cached": True,
        "batch": 4,
        "skipped": True,
    }


def test_the_text_of_a_passage_is_kept_once():
    trace = Trace()
    passage = Passage("a:0", "a", "Some text.", Span(0, 10), (Span(0, 10),))
    trace.output([passage], step="retrieve", path="loop[0]/retrieve")
    trace.output([passage], step="retrieve", path="loop[1]/retrieve")
    first, second = (record["passages"][0] for record in trace.records[1:])
    assert first["text"] == "Some text."
    assert "text" not in second
    assert trace.records[2]["path"] == "loop[1]/retrieve"


def test_without_content_only_names_ids_and_numbers_are_kept():
    trace = Trace(content=False, question="SECRET?", inputs={"query": "SECRET"}, model="tiny")
    passage = Passage("a:0", "a", "SECRET text.", Span(0, 12), (Span(0, 12),), title="SECRET")
    trace.output([passage])
    trace.output(Answer("SECRET", prompt="SECRET prompt"))
    trace.event("own", remarks=["SECRET", 3], nested={"said": "SECRET", "n": 2}, odd=object())
    with pytest.raises(ValueError, match="SECRET"), trace.span("prune"):
        raise ValueError("cannot read SECRET")
    lines = trace.lines()
    assert "SECRET" not in lines
    run, retrieved, prompt, _, own, span = trace.records
    assert (run["content"], run["model"]) == (False, "tiny")
    assert retrieved["passages"] == [
        {"id": "a:0", "document": "a", "score": None, "rank": 1, "span": [0, 12]}
    ]
    assert prompt["tokens"] == 0
    assert (own["remarks"], own["nested"], own["odd"]) == ([3], {"n": 2}, None)
    assert span["error"] == "ValueError"


def test_secrets_are_masked_everywhere_the_longest_first():
    trace = Trace(secrets=["key", "key-long", ""], token="key-long", inputs={"key": ["a key"]})
    trace.event("prompt", text='say "key-long" twice: key-long', n=1)
    with pytest.raises(ValueError, match="key"), trace.span("ask"):
        raise ValueError("no key-long")
    assert trace.run["token"] == "***"
    assert trace.run["inputs"] == {"***": ["a ***"]}
    assert trace.records[1]["text"] == 'say "***" twice: ***'
    assert trace.records[2]["error"] == "ValueError: no ***"
    assert "key" not in trace.lines()


def test_a_file_holds_one_object_a_line_and_is_read_back(tmp_path):
    trace = Trace(question="first\nsecond \u2028 “日本” \ud800")
    trace.event("prompt", text="a\nb", kept=[[0, 3]])
    path = tmp_path / "trace.jsonl"
    trace.write(path)
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    assert len(lines) == 2
    assert json.loads(lines[1]) == trace.records[1]
    assert json.loads(lines[0])["question"].startswith("first\nsecond \u2028 “日本” ")
    read = Trace.read(path)
    assert read.records == trace.records
    assert read.lines() == trace.lines()
    assert read.notes == []


def test_numbers_that_json_lacks_are_null():
    trace = Trace()
    trace.event("scores", values=[float("nan"), {"x": float("-inf")}, 1.5])
    assert json.loads(trace.lines().split("\n")[1])["values"] == [None, {"x": None}, 1.5]


def test_a_trace_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "trace.jsonl"
    Trace().write(path)
    before = path.read_bytes()
    trace = Trace()
    trace.event("odd", value=object())
    with pytest.raises(TypeError):
        trace.write(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["trace.jsonl"]


def test_a_last_line_that_is_cut_off_is_left_out_and_said(tmp_path):
    path = tmp_path / "run.jsonl"
    trace = Trace()
    trace.event("kv", hits=1)
    path.write_text(trace.lines()[:-8])
    read = Trace.read(path)
    assert [record["kind"] for record in read.records] == ["run"]
    assert read.notes == [f"{path}:2: the last line is cut off and left out"]


RUN = '{"kind":"run","name":"run","at_ms":0}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"run\.jsonl holds no run: it is empty"),
        ("{]\n", r"run\.jsonl:1: not JSON: "),
        (f"{RUN}\n[1]\n", r"run\.jsonl:2: a record is a JSON object, got list"),
        (f"{RUN}\n\n{{}}\n", r"run\.jsonl:3: kind must be one of run, span, event, got None"),
        (f'{RUN}\n{{"kind":"span","name":"x","at_ms":1}}\n', "wall_ms must be a number, got None"),
        (f'{RUN}\n{{"kind":"event","name":3,"at_ms":1}}\n', ":2: name must be a text, got 3"),
        (f'{RUN}\n{{"kind":"event","name":"x","at_ms":NaN}}\n', "at_ms must be a number, got nan"),
        (f"{RUN}\n{RUN}\n", ":2: a trace is one run, its first line"),
        ('{"kind":"event","name":"x","at_ms":1}\n', ":1: a trace is one run, its first line"),
    ],
)
def test_a_damaged_file_names_its_line(tmp_path, text, message):
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    with pytest.raises(TraceError, match=message):
        Trace.read(path)


def test_a_file_that_is_missing_or_not_text(tmp_path):
    with pytest.raises(TraceError, match=r"cannot read the trace .*: No such file"):
        Trace.read(tmp_path / "none.jsonl")
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(TraceError, match="is not a trace"):
        Trace.read(tmp_path / "b.jsonl")

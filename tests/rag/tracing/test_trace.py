"""Traces: order, times, errors, and files that a program can read."""

import json
import time

import pytest

from rag.tracing import Trace


def test_records_come_in_the_order_in_which_things_ended():
    trace = Trace(question="why?")
    with trace.span("generate"):
        trace.event("kv", hits=2)
    kinds = [(r["kind"], r["name"]) for r in trace.records]
    assert kinds == [("run", "run"), ("event", "kv"), ("span", "generate")]
    assert trace.records[0]["question"] == "why?"
    assert trace.records[1]["hits"] == 2
    times = [r["at_ms"] for r in trace.records]
    assert times == sorted(times)


def test_a_span_is_timed_and_a_step_that_ran_twice_is_summed():
    trace = Trace()
    for _ in range(2):
        with trace.span("retrieve"):
            time.sleep(0.01)
    assert trace.wall_ms("retrieve") >= 20
    assert trace.wall_ms("retrieve") == sum(r["wall_ms"] for r in trace.records[1:])
    assert trace.wall_ms("prune") == 0


def test_a_step_that_fails_is_recorded_with_its_error():
    trace = Trace()
    with pytest.raises(ValueError, match="odd"), trace.span("prune"):
        raise ValueError("odd")
    assert trace.records[-1]["error"] == "ValueError: odd"
    assert trace.wall_ms("prune") >= 0
    with trace.span("prune"):
        pass
    assert "error" not in trace.records[-1]


def test_a_file_holds_one_object_a_line(tmp_path):
    trace = Trace(question="first\nsecond \u2028 “日本” \ud800")
    trace.event("prompt", text="a\nb", kept=[[0, 3]])
    path = tmp_path / "trace.jsonl"
    trace.write(path)
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    assert len(lines) == 2
    assert json.loads(lines[1]) == trace.records[1]
    assert json.loads(lines[0])["question"].startswith("first\nsecond \u2028 “日本” ")
    assert [json.loads(line)["kind"] for line in lines] == ["run", "event"]


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

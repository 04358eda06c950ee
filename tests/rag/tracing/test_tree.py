"""The tree: nesting by path, bars, marks, one line an event, nothing that acts on a terminal."""

import io
import re

from rich.console import Console

from rag.tracing import Trace, as_text
from rag.tracing.nesting import nested
from rag.tracing.tree import draw


def test_steps_stand_below_their_blocks_with_time_bar_and_events(trace):
    lines = as_text(trace).splitlines()
    assert re.fullmatch(r"advanced  [-0-9]+ [:0-9]+ UTC, 1\d\d ms, [0-9a-f]{8}", lines[0])
    steps = [line for line in lines if "▕" in line]
    assert steps[0].startswith("└─ loop[0]  ")
    assert steps[0].count("█") == 24
    assert re.match(r"   ├─ retrieve retrieve\.hybrid +10\.0 ms ▕██ +▏ cached", steps[1])
    assert re.match(r"   └─ judge judge\.stable +0\.50 ms ▕ +█▏$", steps[4])
    assert [s.index("▕") for s in steps] == [steps[0].index("▕")] * 5
    told = [line.strip(" │") for line in lines if "▕" not in line][1:]
    assert told == [
        "2 passages: a.md:0 0.500, b.md:0 0.500",
        "a.md:0: kept 2 of 3 sentences, 71% of the text",
        "KV: 1 hit, 1 miss, 2.5 MB read",
        "prompt: 30 tokens, ape, 10 of them cached",
        "generated: “They run at two. It is late.” (5 tokens, first after 12.5 ms, 10 tokens/s)",
        "cites [1] a.md:0; 1 sentence without support",
        "judge: passed 0.800: same as before",
    ]


def test_a_terminal_gets_the_same_content(trace):
    shown = io.StringIO()
    draw(trace, Console(file=shown, width=100, force_terminal=True))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue())
    assert [line.rstrip() for line in plain.splitlines()] == as_text(trace).splitlines()
    assert "\x1b[" in shown.getvalue()


def test_markup_and_control_characters_of_a_document_do_nothing():
    trace = Trace(pipeline="[red]x\x1b[2J", question="a\x1b]0;title\x07 [bold]b\u202e")
    trace.event("generated", text="\x1b[31m [/] [link]")
    text = as_text(trace)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[red]x�[2J" in text
    shown = io.StringIO()
    draw(trace, Console(file=shown, width=100, color_system=None))
    assert "[bold]b" in shown.getvalue()


def test_a_failed_and_a_skipped_step_say_so():
    trace = Trace()
    trace.add_span("a", use="", path="a", began=trace._began, wall_ms=1, error="ValueError: odd")
    trace.add_span("b", use="", path="b", began=trace._began, wall_ms=0, skipped=True, batch=3)
    text = as_text(trace)
    assert "▏ error: ValueError: odd" in text
    assert "▏ skipped, batch of 3" in text


def test_an_event_of_another_shape_is_shown_as_its_data():
    trace = Trace()
    trace.event("retrieved", passages="none")
    trace.event("pruned", passage=3)
    trace.event("own", a=[1, 2])
    trace.event("kv", hits="x")
    lines = as_text(trace).splitlines()[1:]
    assert [line.strip() for line in lines] == [
        'retrieved: {"passages": "none"}',
        'pruned: {"passage": 3}',
        'own: {"a": [1, 2]}',
        'kv: {"hits": "x"}',
    ]


def test_attention_is_told_in_per_cent_and_another_shape_as_its_data():
    trace = Trace()
    seen = [{"passage_id": "a", "share": 0.996}, {"passage_id": "b", "share": 0.004}]
    trace.event("attention", passages=seen)
    trace.event("attention", passages=[{"passage_id": "a"}])
    assert [line.strip() for line in as_text(trace).splitlines()[1:]] == [
        "looked at a 100%, b 0%",
        'attention: {"passages": [{"passage_id": "a"}]}',
    ]


def test_an_empty_run_is_its_head_and_notes():
    trace = Trace()
    trace.notes.append("cut off")
    assert as_text(trace).splitlines()[1:] == ["cut off"]


def test_a_step_that_ran_twice_at_one_path_has_two_nodes_with_their_own_events():
    trace = Trace()
    for at, text in ((0.0, "first"), (0.01, "second")):
        trace.add_span("q", use="", path="q", began=trace._began + at, wall_ms=5)
        trace.event("query", path="q", text=text)
        trace.records[-1]["at_ms"] = at * 1e3 + 5
    nodes = nested(trace).children
    assert [[event["text"] for event in node.events] for node in nodes] == [["first"], ["second"]]


def test_a_trace_of_before_paths_is_read_by_order_and_its_times_are_ends():
    trace = Trace()
    trace.records += [
        {"kind": "span", "name": "retrieve", "at_ms": 12.0, "wall_ms": 10.0},
        {"kind": "event", "name": "retrieved", "at_ms": 12.5, "passages": []},
        {"kind": "span", "name": "generate", "at_ms": 40.0, "wall_ms": 20.0},
        {"kind": "event", "name": "kv", "at_ms": 41.0, "hits": 1, "misses": 0, "bytes": 0},
    ]
    root = nested(trace)
    assert [(n.name, n.began_ms, n.ended_ms) for n in root.children] == [
        ("retrieve", 2.0, 12.0),
        ("generate", 20.0, 40.0),
    ]
    assert [[e["name"] for e in n.events] for n in root.children] == [["retrieved"], ["kv"]]
    assert root.ended_ms == 41.0


def test_parallel_items_stand_in_the_order_in_which_they_began():
    trace = Trace()
    for item, at in ((1, 0.005), (0, 0.001)):
        path = f"map[{item}]/generate"
        trace.add_span("generate", use="", path=path, began=trace._began + at, wall_ms=10)
    root = nested(trace)
    assert [(n.name, n.began_ms, n.ended_ms) for n in root.children] == [
        ("map[0]", 1.0, 11.0),
        ("map[1]", 5.0, 15.0),
    ]


def test_a_block_that_has_a_span_of_its_own_is_one_node():
    trace = Trace()
    trace.add_span("a", use="", path="loop[0]/a", began=trace._began, wall_ms=1)
    trace.add_span("loop", use="", path="loop[0]", began=trace._began, wall_ms=2)
    (loop,) = nested(trace).children
    assert loop.wall_ms == 2
    assert [child.name for child in loop.children] == ["a"]


def test_the_shortest_step_has_a_cell_of_the_bar():
    trace = Trace()
    for name, at, ms in (("long", 0.0, 1000.0), ("short", 0.25, 0.01)):
        trace.add_span(name, use="", path=name, began=trace._began + at, wall_ms=ms)
    assert f"▕{' ' * 6}█{' ' * 17}▏" in as_text(trace)

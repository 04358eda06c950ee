"""The terminal: lines of progress, numbers for people, streams kept apart."""

import asyncio
import json

import pytest

from pipelines.cli import terminal
from pipelines.cli.terminal import plural, progress, remark, say, say_json
from pipelines.progress import watching
from rag.tracing.wording import byte_size


def test_a_line_per_tenth_once_it_takes_long(capsys, monkeypatch):
    now = iter(range(0, 1000, 3))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(now))
    with progress() as watched:
        watched.stage("reading", 0)
        watched.stage("encoding", 20)
        for _ in range(20):
            watched.advance()
    out, err = capsys.readouterr()
    tenths = [f"encoding: {percent} %" for percent in range(10, 100, 10)]
    assert err.splitlines() == ["encoding: 20", *tenths]
    assert out == ""


def test_no_line_per_tenth_if_it_is_quick(capsys, monkeypatch):
    monkeypatch.setattr(terminal.time, "monotonic", lambda: 0.0)
    with progress() as watched:
        watched.stage("encoding", 20)
        watched.advance(20)
    assert capsys.readouterr().err == "encoding: 20\n"


def test_quiet_is_silent(capsys):
    with progress(quiet=True) as watched:
        watched.stage("encoding", 20)
        watched.advance(20)
    assert capsys.readouterr() == ("", "")


def test_bars_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress() as watched:
        watched.stage("reading", 0)
        watched.stage("encoding", 20)
        watched.advance(20)
        watched.stage("writing", 1)
    assert capsys.readouterr().out == ""


def test_results_and_remarks_go_to_their_streams(capsys):
    say("result")
    remark("remark")
    assert capsys.readouterr() == ("result\n", "remark\n")
    say_json({"text": "naïve \ud800"})
    assert json.loads(capsys.readouterr().out) == {"text": "naïve \ud800"}


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000_000, "2.5 GB")]
)
def test_byte_sizes(count, shown):
    assert byte_size(count) == shown


def test_plurals():
    assert (plural(1, "passage"), plural(2000, "passage")) == ("1 passage", "2,000 passages")


def test_work_deep_inside_finds_who_watches_in_other_threads_too(capsys):
    async def deep():
        await asyncio.to_thread(lambda: watching().stage("encoding", 3))

    with progress() as watched:
        assert watching() is watched
        asyncio.run(deep())
    assert capsys.readouterr().err == "encoding: 3\n"
    watching().stage("nobody sees this", 3)
    assert capsys.readouterr().err == ""

"""Finishing an answer: when the first token came, why it ended."""

import pytest

from rag.generation import finish
from rag.generation.decoding import TextStream
from rag.generation.finish import Telling


def decode(ids):
    return "".join(map(chr, ids))


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves on: a list of one number of seconds."""
    now = [1.0]
    monkeypatch.setattr(finish.time, "perf_counter", lambda: now[0])
    return now


def told(text, clock=None):
    """A telling of a text whose tokens take a second each."""

    def tokens():
        for letter in text:
            if clock:
                clock[0] += 1
            yield ord(letter)

    telling = Telling(TextStream(decode, "\n"), started=1.0)
    return telling, list(telling.pieces(tokens()))


def test_the_first_token_is_timed_when_it_comes_and_not_at_the_end(clock):
    telling, pieces = told("abc", clock)
    assert "".join(pieces) == "abc"
    assert telling.timings_ms(5.0) == {"kv": 5.0, "ttft": 1000.0, "decode": 2000.0}


def test_an_answer_without_a_token_is_timed_at_its_end(clock):
    telling = Telling(TextStream(decode, "\n"), started=1.0)
    clock[0] += 3
    assert "".join(telling.pieces([])) == ""
    assert telling.timings_ms(0.0) == {"kv": 0.0, "ttft": 3000.0, "decode": 0.0}


@pytest.mark.parametrize(
    ("text", "room", "why"),
    [("abc", 3, "length"), ("abc", 4, "stop"), ("ab\n", 3, "stop"), ("ab\nd", 3, "stop")],
)
def test_an_answer_ends_for_lack_of_room_only_where_no_stop_text_came(text, room, why):
    telling, _ = told(text)
    assert telling.finish(room) == why
    assert telling.shown.text == text.partition("\n")[0]

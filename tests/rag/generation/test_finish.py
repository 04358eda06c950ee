"""Finishing an answer: when the first token came, why it ended."""

from dataclasses import replace

import pytest

from rag.generation import finish
from rag.generation.decoding import TextStream
from rag.generation.finish import Telling, token_use
from rag.generation.plan import (
    ContextWeights,
    Recompute,
    block_plan,
    parallel_plan,
    sequential_plan,
)
from rag.records import CacheUse, ModelIdentity, Segment, TokenUse


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


MODEL = ModelIdentity("tiny", "w", "r", "float32", "t")
PREFIX = Segment(MODEL, "prefix", (5, 6, 7), name="prefix")
A, B, C = (
    Segment(MODEL, "passage", tuple(range(10, 10 + length)), (PREFIX,), name=name)
    for length, name in [(4, "a"), (6, "b"), (5, "c")]
)


def used(*hits, missed=()):
    reasons = dict.fromkeys(hits, "hit (ram)") | dict.fromkeys(missed, "absent")
    return CacheUse(len(hits), len(missed), 0, reasons)


def block(*repair):
    plan = block_plan(PREFIX, ((A, None), (B, None), (C, None)), (90, 91))
    return replace(plan, recompute=Recompute(*repair))


def test_tokens_that_missed_are_prefilled():
    hit_all = used("prefix", "a", "b", "c")
    assert token_use([block()], hit_all, 7) == TokenUse(20, 18, 2, 7)
    assert token_use([block()], used("prefix", "b", missed=("a", "c")), 7) == TokenUse(20, 9, 11, 7)
    assert token_use([block()], used(missed=("prefix", "a", "b", "c")), 0) == TokenUse(20, 0, 20, 0)
    assert token_use([sequential_plan((1, 2, 3))], CacheUse(), 1) == TokenUse(3, 0, 3, 1)


def test_what_one_prompt_encoded_the_next_one_reads():
    plans = [
        parallel_plan(PREFIX, ((passage, None),), (90,), ContextWeights()) for passage in (A, B, A)
    ]
    use = token_use(plans, used("b", missed=("prefix", "a")), 2)
    assert use == TokenUse(8 + 10 + 8, (3 + 6) + (3 + 4), 8 + 1 + 1, 2)


def test_rows_computed_anew_are_taken_off_the_passages_they_belong_to():
    plan, hits = block(2), ("prefix", "a", "b", "c")
    assert plan.recomputed_tokens == 4
    assert token_use([plan], used(*hits), 0) == TokenUse(20, 14, 6, 0)
    # Those of c are prefilled as it is, those of b are not cached though it was found.
    assert token_use([plan], used("prefix", "a", "b", missed=("c",)), 0).cached == 3 + 4 + 6 - 2
    assert token_use([plan], used("prefix", "a", missed=("b", "c")), 0).cached == 3 + 4
    assert token_use([plan], used("b", missed=("prefix", "a", "c")), 0).cached == 6 - 2


def test_rows_that_differ_most_are_taken_off_what_was_found_as_far_as_it_can_be():
    plan = block(1, 0.2)  # b's first row, c's first row, and three more
    assert plan.recomputed_tokens == 2 + 3
    assert token_use([plan], used("prefix", "a", "b", "c"), 0).cached == 18 - 5
    assert token_use([plan], used("prefix", "a", "c", missed=("b",)), 0).cached == 3 + 4 + 5 - 1 - 3
    # The first passage is exact, so none of its rows can be among them.
    assert token_use([plan], used("prefix", "a", missed=("b", "c")), 0).cached == 3 + 4
    everything = block(0, 1.0)
    assert token_use([everything], used("prefix", "a", "c", missed=("b",)), 0).cached == 3 + 4

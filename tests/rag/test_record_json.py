"""Records as JSON and back: nothing is lost, nothing empty is written, errors name the place."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag import records
from rag.record_json import from_json, to_json

TEXT = st.text(max_size=4)
NUMBER = st.floats(allow_nan=False)
SPAN = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda ends: records.Span(*sorted(ends)))
SELECTION = st.builds(
    records.Selection,
    passage_id=TEXT,
    text_sha=TEXT,
    sentences=st.lists(st.builds(records.SentenceScore, span=SPAN, score=NUMBER)).map(tuple),
    method=TEXT,
    threshold=st.none() | NUMBER,
)
PASSAGE = st.builds(
    records.Passage,
    id=TEXT,
    document=TEXT,
    text=TEXT,
    span=SPAN,
    sentences=st.lists(SPAN, max_size=2).map(tuple),
    page=st.none() | st.integers(),
    metadata=st.dictionaries(TEXT, TEXT | st.booleans() | st.integers(), max_size=2),
    score=st.none() | NUMBER,
    kept=st.none() | SELECTION,
)
ANSWER = st.builds(
    records.Answer,
    text=TEXT,
    passages=st.lists(PASSAGE, max_size=2).map(tuple),
    unsupported=st.lists(SPAN, max_size=2).map(tuple),
    abstained=st.booleans(),
    timings_ms=st.dictionaries(TEXT, NUMBER, max_size=2),
    finish=st.sampled_from(["stop", "length", ""]),
)
ROUTE = st.builds(records.Route, labels=st.lists(TEXT, max_size=2).map(tuple), source=TEXT)


@given(st.sampled_from([PASSAGE, ANSWER, ROUTE]).flatmap(lambda kind: kind))
def test_what_is_written_reads_back_the_same(record):
    assert from_json(type(record), json.loads(json.dumps(to_json(record)))) == record


def test_fields_that_say_nothing_are_left_out():
    assert to_json(records.Route(())) == {"source": "", "fallback": False, "reason": ""}
    assert to_json(records.Span(0, 0)) == {"start": 0, "end": 0}


@dataclass(frozen=True)
class Loose:
    either: tuple[int, ...] | None
    required: list[int]
    folder: Path = Path()


def test_an_empty_value_that_would_come_back_as_another_is_written():
    assert to_json(Loose((), [])) == {"either": [], "folder": "."}
    assert to_json(Loose(None, [])) == {"folder": "."}
    for one in (Loose((), []), Loose(None, [2]), Loose((1,), [], Path("a/b"))):
        assert from_json(Loose, to_json(one)) == one


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        (records.Query, "why?", records.Query("why?")),
        (list[records.Query], ["a", {"text": "b"}], [records.Query("a"), records.Query("b")]),
        (float, 3, 3.0),
        (Annotated[int, "note"], 3, 3),
        (str | None, None, None),
        (tuple[int, str], [1, "a"], (1, "a")),
        (Mapping[str, float], {"a": 1}, {"a": 1.0}),
        (Any, {"x": [1]}, {"x": [1]}),
        (None, None, None),
        (Path, "a", Path("a")),
    ],
)
def test_values_are_read_by_their_annotation(kind, data, value):
    found = from_json(kind, data)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        (int, "a", "value must be int, got 'a'"),
        (int, True, "value must be int, got True"),
        (float, True, "value must be float, got True"),
        (bool, 1, "value must be bool, got 1"),
        (None, 1, "value must be null, got 1"),
        (str | None, 5, "value must be str, got 5"),
        (list[int], "ab", "value must be a list, got 'ab'"),
        (list[int], [1, "b"], "value[1] must be int, got 'b'"),
        (tuple[int, str], [1], "value must hold 2 values, got 1"),
        (dict[str, int], [1], "value must be an object, got [1]"),
        (dict[str, int], {"a": "b"}, "value.a must be int, got 'b'"),
        (Literal["a", 1], True, "value must be one of 'a', 1, got True"),
        (records.Query, 5, "value must be an object with text, got 5"),
        (records.Query, " ", "value: the question must not be empty, got only white space"),
        (records.Span, {"start": 1}, "value lacks end"),
        (records.Span, {"start": 1, "stop": 2}, "value has no field 'stop'; fields are start, end"),
        (int, "x" * 90, f"value must be int, got {('x' * 90)!r:.57}..."),
    ],
)
def test_an_error_names_the_place_what_was_allowed_and_what_came(kind, data, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        from_json(kind, data)


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}, lambda: None])
def test_what_is_no_record_container_or_scalar_is_refused(value):
    with pytest.raises(TypeError, match="only records, containers and scalars become JSON, got "):
        to_json([value])

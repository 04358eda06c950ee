"""Conversion: what each type takes, what it refuses, in which words."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.definition.convert import convert, looks_like_text, plain
from pipelines.definition.document import read_text
from pipelines.definition.nodes import Scalar
from pipelines.flow.diagnostics import Place
from rag.bounds import Bounds
from rag.records import Query, Span

AT = Place("f.yaml", 1, 1)


def node(text):
    found, mistakes = read_text(text, "f.yaml")
    assert mistakes == []
    return found


def value(kind, given_, **more):
    found, mistakes = convert(kind, given_, "x.y", **more)
    assert mistakes == []
    return found


def said(kind, given_, **more):
    found, mistakes = convert(kind, given_, "x.y", **more)
    assert found is None
    return [f"{m.message}{f'; {m.hint}' if m.hint else ''}" for m in mistakes]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (int, "5", 5),
        (int, "-0", 0),
        (int, "+7", 7),
        (float, "1e-5", 1e-5),
        (float, "5", 5.0),
        (float, ".5", 0.5),
        (float, "1.", 1.0),
        (bool, "true", True),
        (bool, "false", False),
        (str, "no", "no"),
        (str, "010", "010"),
        (str, "12:30:45", "12:30:45"),
        (str, "'null'", "null"),
        (str, "''", ""),
        (None, "~", None),
        (int | None, "null", None),
        (int | None, "", None),
        (int | str, "5", 5),
        (str | int, "5", 5),
        (str | int, "'5'", "5"),
        (bool | str, "yes", "yes"),
        (Path, "a/b", Path("a/b")),
        (Literal["a", "no"], "no", "no"),
        (Literal[1, 2], "2", 2),
        (Literal["1", 2], "'1'", "1"),
        (Literal["a"] | None, "~", None),
        (list[int], "[1, 2]", [1, 2]),
        (tuple[int, ...], "[1, 2]", (1, 2)),
        (tuple[int, str], "[1, 2]", (1, "2")),
        (Sequence[str], "[]", ()),
        (tuple, "[1, a]", (1, "a")),
        (dict[str, float], "{a: 1}", {"a": 1.0}),
        (
            Mapping[str, Any],
            "{a: [no, true, 1, 1e3, ~, '1']}",
            {"a": ["no", True, 1, 1e3, None, "1"]},
        ),
        (Any, "010", "010"),
        (Annotated[int, Bounds(low=1)], "1", 1),
        (Query, "what?", Query("what?")),
        (Span, "{start: 1, end: 2}", Span(1, 2)),
        (list[Span], "[{start: 1, end: 2}]", [Span(1, 2)]),
        (Span | str, "text", "text"),
    ],
)
def test_takes(kind, text, expected):
    found = value(kind, node(text) if text else Scalar("", False, AT))
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (int, "many", "x.y wants int, got 'many'"),
        (int, "010", "x.y wants int, got '010'; numbers are decimal, without leading zeros"),
        (int, "1_000", "x.y wants int, got '1_000'"),
        (int, "5.0", "x.y wants int, got 5.0"),
        (int, "'5'", "x.y wants int, got '5'; write it without quotes"),
        (int, "true", "x.y wants int, got true"),
        (int, "~", "x.y wants int, got null"),
        (int, "[1]", "x.y wants int, got a list"),
        (int, "9" * 31, f"x.y wants int, got {'9' * 31}"),
        (float, "'0.5'", "x.y wants float, got '0.5'; write it without quotes"),
        (float, "nan", "x.y wants float, got 'nan'; numbers are finite"),
        (float, ".inf", "x.y wants float, got '.inf'; numbers are finite"),
        (float, "1e999", "x.y wants float, got '1e999'; numbers are finite"),
        (float, "01.5", "x.y wants float, got '01.5'; numbers are decimal, without leading zeros"),
        (float, "0x1", "x.y wants float, got '0x1'"),
        (bool, "yes", "x.y wants bool, got 'yes'; write true or false"),
        (bool, "True", "x.y wants bool, got 'True'; write true or false"),
        (bool, "1", "x.y wants bool, got 1"),
        (str, "null", "x.y wants str, got null; put text in quotes"),
        (str, "{a: 1}", "x.y wants str, got a map"),
        (None, "0", "x.y wants null, got 0"),
        (int | None, "many", "x.y wants int | None, got 'many'"),
        (
            Literal["sum", "max"],
            "summ",
            "x.y wants 'sum' or 'max', got 'summ'; did you mean 'sum'?",
        ),
        (Literal["sum", "max"] | None, "x", "x.y wants 'sum' or 'max', got 'x'"),
        (Literal[1], "'1'", "x.y wants 1, got '1'"),
        (list[int], "5", "x.y wants list[int], got 5"),
        (tuple[int, ...], "{a: 1}", "x.y wants tuple[int, ...], got a map"),
        (tuple[int, str], "[1]", "x.y wants 2 values, got 1"),
        (list[int], "[1, b]", "x.y[1] wants int, got 'b'"),
        (dict[str, int], "{a: b}", "x.y.a wants int, got 'b'"),
        (dict[str, int], "[a]", "x.y wants dict[str, int], got a list"),
        (list[int] | None, "[1, b]", "x.y[1] wants int, got 'b'"),
        (Span, "{start: 1, stop: 2, end: 3}", "x.y has no field 'stop'; known: start, end"),
        (Span, "{start: 1}", "x.y needs end"),
        (Span, "5", "x.y wants Span, got 5"),
        (Span, "{start: 2, end: 1}", "x.y: Span needs 0 <= start <= end, got 2 and 1"),
        (Annotated[int, Bounds(low=1)], "0", "x.y must be at least 1, got 0"),
        (Annotated[int, Bounds(low=1)] | None, "0", "x.y must be at least 1, got 0"),
        (list[Annotated[float, Bounds(0, 1)]], "[2]", "x.y[0] must be in [0, 1], got 2"),
        (str, "[" + "a" * 80 + "]", "x.y wants str, got a list"),
        (int, "a" * 80, "x.y wants int, got '" + "a" * 56 + "..."),
    ],
)
def test_refuses(kind, text, expected):
    assert said(kind, node(text)) == [expected]


def test_reports_every_wrong_item_at_its_place():
    _, mistakes = convert(list[int], node("[a, 1, b]"), "x.y")
    assert [(m.code, m.place.column) for m in mistakes] == [("wrong-type", 2), ("wrong-type", 8)]


def test_bounds_are_a_code_of_their_own():
    assert convert(int, node("0"), "k", bounds=Bounds(low=1))[1][0].code == "out-of-range"
    assert convert(int | None, node("0"), "k", bounds=Bounds(low=1))[1][0].code == "out-of-range"
    assert value(bool, node("true"), bounds=Bounds(low=5)) is True


@pytest.mark.parametrize(
    ("kind", "given_", "expected"),
    [
        (float, 5, 5.0),
        (Path, "a", Path("a")),
        (tuple[str, ...], ["a"], ("a",)),
        (list[int], (1, 2), [1, 2]),
        (int | None, None, None),
        (Span, Span(1, 2), Span(1, 2)),
        (Any, (1, Scalar("2", False, AT)), [1, 2]),
    ],
)
def test_takes_python_values(kind, given_, expected):
    found = value(kind, given_)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("kind", "given_", "expected"),
    [
        (int, True, "x.y wants int, got true"),
        (int, "5", "x.y wants int, got '5'"),
        (int, 5.0, "x.y wants int, got 5.0"),
        (float, math.nan, "x.y wants float, got nan"),
        (str, Path("a"), "x.y wants str, got PosixPath"),
        (str, None, "x.y wants str, got null"),
        (list[int], "ab", "x.y wants list[int], got 'ab'"),
        (Literal[1], True, "x.y wants 1, got true"),
    ],
)
def test_refuses_python_values(kind, given_, expected):
    assert said(kind, given_) == [expected]
    assert convert(kind, given_, "x", AT)[1][0].place == AT


def test_objects_of_a_type_that_cannot_be_tested_pass():
    assert value(Callable[[int], int], abs) is abs
    assert convert(Callable[[int], int], 5, "x.y")[1][0].code == "wrong-type"


def test_a_secret_is_never_in_a_message():
    secret = replace(Scalar("key-123", False, AT), secrets=("key-123",))
    assert said(int, secret) == ["x.y wants int, got a value of the environment"]
    assert said(Literal["key-12"], secret) == ["x.y wants 'key-12', got a value of the environment"]
    assert said(list[int], secret) == ["x.y wants list[int], got a value of the environment"]


def test_what_is_a_mistake_already_is_not_reported_again():
    assert convert(int, replace(Scalar("${vars.x}", False, AT), unresolved=True), "x") == (None, [])


@given(st.integers(-(10**29), 10**29) | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back_as_they_were_written(number):
    found = value(type(number), Scalar(repr(number), False, AT))
    assert (found, type(found)) == (number, type(number))


@given(st.text())
def test_quoted_text_is_text(text):
    assert value(str, Scalar(text, True, AT)) == text
    assert plain(Scalar(text, True, AT)) == text
    assert (plain(Scalar(text, False, AT)) == text) is looks_like_text(text)

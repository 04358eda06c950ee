"""Types: as text and back, which fits which, and what a variable of one is called."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.flow.types import (
    field_names,
    field_of,
    fits,
    item_of,
    names,
    parse,
    show,
    variable_for,
    without_none,
)
from rag.ranking import Ranking
from rag.records import Answer, Judgement, Passage, Query, Route

NONE = type(None)
LEAVES = st.sampled_from([int, float, str, bool, NONE, Any, Path, Query, Passage, Answer])
KINDS = st.recursive(
    LEAVES
    | st.lists(st.text("ab'\"", max_size=2) | st.integers(0, 2), min_size=1, max_size=3).map(
        lambda values: Literal[tuple(values)]
    ),
    lambda inner: st.one_of(
        inner.map(lambda one: list[one]),
        inner.map(lambda one: Sequence[one]),
        inner.map(lambda one: tuple[one, ...]),
        st.tuples(inner, inner).map(lambda two: tuple[two]),
        st.tuples(inner, inner).map(lambda two: Mapping[two]),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: Union[tuple(some)]),  # noqa: UP007 how many is not known,
    ),
    max_leaves=5,
)


@given(KINDS)
def test_a_type_as_text_reads_back_the_same(kind):
    assert parse(show(kind)) == kind


@pytest.mark.parametrize(
    "text",
    [
        "...",
        "list[",
        "list[...]",
        "list[int, int]",
        "Mapping[str]",
        "int[str]",
        "Nothing",
        "int + str",
        "lambda: 1",
        "'Query'",
        "\x00",
        "",
        "__import__('os')",
        "list[tuple[..., int]]",
        "(" * 9999,
    ],
)
def test_what_is_no_type_is_refused(text):
    with pytest.raises(ValueError, match="is not a type"):
        parse(text)


def test_names_are_what_types_are_made_of():
    assert {"Query", "list", "int", "Literal"} <= set(names())
    assert "None" not in names()


@pytest.mark.parametrize(
    ("given_kind", "wanted"),
    [
        (int, float),
        (bool, int),
        (Any, Query),
        (Query, Any),
        (list[Passage], Sequence[Passage]),
        (tuple[Passage, ...], Iterable[Passage]),
        (tuple[int, str], Sequence[int | str]),
        (Ranking, list[Passage]),
        (list, list[int]),
        (Answer, Answer | None),
        (int | None, float | None),
        (Literal["a"], Literal["a", "b"]),
        (Literal["a"], str),
        (Literal[1], float),
        (Annotated[int, "x"], int),
        (None, str | None),
        (dict[str, int], Mapping[str, float]),
        (list[list[Passage]], Sequence[Sequence[Passage]]),
    ],
)
def test_a_type_fits(given_kind, wanted):
    assert fits(given_kind, wanted)


@pytest.mark.parametrize(
    ("given_kind", "wanted"),
    [
        (float, int),
        (Answer | None, Answer),
        (Query, Answer),
        (Sequence[Passage], list[Passage]),
        (list[Passage], list[Query]),
        (list[Passage], Passage),
        (Passage, list[Passage]),
        (str, Sequence[str]),
        (tuple[int, str], Sequence[int]),
        (list[Passage], Ranking),
        (Literal["a", "c"], Literal["a", "b"]),
        (str, Literal["a"]),
        (dict[str, str], Mapping[str, int]),
        (list[int], tuple[int, ...]),
    ],
)
def test_a_type_does_not_fit(given_kind, wanted):
    assert not fits(given_kind, wanted)


@given(KINDS)
def test_every_type_fits_itself_and_the_same_with_none(kind):
    assert fits(kind, kind)
    assert fits(kind, kind | None)


@pytest.mark.parametrize(
    ("kind", "item"),
    [
        (list[Query], Query),
        (tuple[int, ...], int),
        (Sequence[str], str),
        (Ranking, Passage),
        (Annotated[list[int], "x"], int),
        (list, Any),
        (tuple, Any),
        (tuple[int, str], None),
        (str, None),
        (list[int] | None, None),
    ],
)
def test_items_of_lists(kind, item):
    assert item_of(kind) is item


@dataclass
class Hidden:
    what: "NoSuchType"  # noqa: F821


def test_fields_and_properties_of_records():
    assert field_of(Judgement, "passed") is bool
    assert field_of(Passage, "searchable") is str
    assert field_of(Judgement, "nothing") is None
    assert field_of(Any, "anything") is Any
    assert field_of(Answer | None, "text") is None
    assert "labels" in field_names(Route)
    assert field_names(int) == []
    assert field_of(Hidden, "what") is Any


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Query, "query"),
        (list[Query], "queries"),
        (Sequence[Passage], "passages"),
        (Ranking, "passages"),
        (list[Sequence[Passage]], "rankings"),
        (tuple[Answer, ...], "answers"),
        (str, "text"),
        (int, None),
        (Any, None),
        (Answer | None, None),
    ],
)
def test_usual_names_of_variables(kind, name):
    assert variable_for(kind) == name


def test_a_type_without_none():
    assert without_none(Answer | None) is Answer
    assert without_none(int | str | None) == int | str
    assert without_none(Query) is Query

"""Conditions: from plain data, and when each comparison holds."""

import re

import pytest

from pipelines.flow import conditions
from pipelines.flow.conditions import AllOf, AnyOf, Judged, Negation, condition, holds
from rag.records import Judgement


def told(data, value):
    """Whether a condition on `x` holds; its comparisons are not converted."""
    return holds(condition(data), lambda _: value, lambda _: True, lambda test: test.value)


@pytest.mark.parametrize(
    ("comparison", "wanted", "holding", "not_holding"),
    [
        ("equals", 2, [2, 2.0], [3, None]),
        ("in", ["a", "b"], ["a"], ["c", None]),
        ("above", 1, [1.5], [1, 0]),
        ("below", 1, [0.5], [1, 2]),
        ("empty", True, ["", [], (), None], ["a", [0], 0]),
        ("empty", False, ["a", [0], 0], ["", None]),
        ("contains", "a", ["cat", ["a"]], ["dog", []]),
        ("true", True, [True, Judgement(passed=True, score=0)], [False, Judgement(False, 1)]),
        ("true", False, [False], [True]),
    ],
)
def test_a_comparison_holds(comparison, wanted, holding, not_holding):
    data = {"var": "x", comparison: wanted}
    assert [told(data, value) for value in holding] == [True] * len(holding)
    assert [told(data, value) for value in not_holding] == [False] * len(not_holding)


def test_conditions_combine():
    yes, no = {"var": "x", "equals": 1}, {"var": "x", "equals": 2}
    assert told({"all": [yes, {"any": [no, yes]}, {"not": no}]}, 1)
    assert not told({"all": [yes, no]}, 1)
    assert not told({"any": [no]}, 1)
    assert told({"all": []}, 1)
    assert not told({"any": []}, 1)
    assert not told({"not": {"judge": lambda: None}}, 1)


def test_a_flag_alone_is_a_condition():
    assert condition({"var": "x"}) == conditions.Test("x", "true")
    assert condition(condition({"var": "x"})) == conditions.Test("x", "true")


def test_tests_and_judges_are_found_wherever_they_stand():
    data = {"all": [{"var": "a"}, {"not": {"any": [{"judge": "judge.lm"}, {"var": "b"}]}}]}
    made = condition(data)
    assert isinstance(made, AllOf)
    assert isinstance(made.parts[1], Negation)
    assert isinstance(made.parts[1].part, AnyOf)
    assert isinstance(made.parts[1].part.parts[0], Judged)
    assert [test.var for test in conditions.tests(made)] == ["a", "b"]
    assert [judge.use for judge in conditions.judges(made)] == ["judge.lm"]


@pytest.mark.parametrize(
    "data",
    [{}, {"equals": 1}, {"var": "x", "equals": 1, "above": 2}, {"var": "x", "is": 1}, {"all": [], "any": []}],
)  # fmt: skip
def test_another_shape_is_refused(data):
    message = (
        "a condition is {var: NAME} with one of equals, in, above, below, empty, contains, or one "
        f"of all, any, not, judge; got {data}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        condition(data)

"""Rule routing: patterns, several labels, the default, mistakes by name."""

import pytest

from rag.records import Query, Route
from rag.routing import RuleRouter

RULES = {"table": (r"\bhow many\b", "percent"), "history": (r"^when\b", r"\bwar\b")}


def test_every_matching_label_is_chosen_in_declared_order():
    route = RuleRouter(RULES)(Query("When did the WAR begin, and how many fought?"))
    assert route == Route(("table", "history"), {"table": 0.5, "history": 0.5}, "rules")


def test_a_single_match_is_certain():
    route = RuleRouter(RULES, default="other")(Query("What percent?"))
    assert route.labels == ("table",)
    assert route.probs == {"table": 1.0, "history": 0.0, "other": 0.0}
    assert not route.fallback


def test_the_default_is_a_fallback():
    route = RuleRouter(RULES, default="history")(Query("Who?"))
    assert route == Route(("history",), {"table": 0.0, "history": 1.0}, "rules", fallback=True)


def test_without_a_default_no_label_is_chosen():
    assert RuleRouter(RULES)(Query("Who?")) == Route((), {"table": 0.0, "history": 0.0}, "rules")


def test_a_bad_pattern_is_named_with_its_label():
    with pytest.raises(ValueError, match=r"rules\['b'\] must hold regular expressions, got '\(x'"):
        RuleRouter({"a": ("x",), "b": ("y", "(x")})


def test_a_text_is_no_list_of_patterns():
    with pytest.raises(ValueError, match=r"rules\['a'\] must be a list of patterns, got 'who'"):
        RuleRouter({"a": "who"})

"""Policies: a hand-worked route, what a threshold promises, and mistakes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.flow import blocks
from pipelines.flow.routing import chosen
from rag.evaluation.routing import most_probable
from rag.records import Route
from rag.routing.policies import POLICIES, taken

PROBS = {"text": 0.2, "none": 0.5, "image": 0.1, "table": 0.2}
ROUTE = Route(("none", "image"), PROBS)

labels = st.sampled_from(["a", "b", "c", "d", "e"])
routes = st.builds(
    lambda weights, first, fallback: Route(
        (first,) if first in weights else (),
        {label: weight / sum(weights.values()) for label, weight in weights.items()},
        fallback=fallback,
    ),
    st.dictionaries(labels, st.integers(1, 9), min_size=1),
    labels,
    st.booleans(),
)
thresholds = st.floats(0, 1)


@pytest.mark.parametrize(
    ("policy", "threshold", "expected"),
    [
        ("single", 0.9, ("none",)),
        ("all", 0.9, ("none", "image")),
        ("threshold", 0.2, ("none", "table", "text")),
        ("threshold", 0.0, ("none", "table", "text", "image")),
        ("threshold", 0.51, ()),
        ("top_p", 0.5, ("none",)),
        ("top_p", 0.51, ("none", "table")),
        ("top_p", 1.0, ("none", "table", "text", "image")),
        ("top_p", 0.0, ()),
        ("unsure", 0.5, ("none",)),
        ("unsure", 0.51, ("none", "table")),
    ],
)
def test_takes_by_hand(policy, threshold, expected):
    assert taken(ROUTE, policy, threshold) == expected


def test_probabilities_that_add_up_to_a_little_less_than_one_suffice():
    route = Route(("a",), {"a": 0.7, "b": 0.2, "c": 0.1, "d": 0.0})
    assert taken(route, "top_p", 1.0) == ("a", "b", "c")


def test_a_router_that_fell_back_is_never_sure():
    route = Route(("a",), {"a": 0.9, "b": 0.06, "c": 0.04}, fallback=True)
    assert taken(route, "unsure", 0.5) == ("a", "b")
    assert taken(route, "unsure", 0.5, most=3) == ("a", "b", "c")
    assert taken(route, "unsure", 0.5, most=1) == ("a",)
    assert taken(Route(("x",)), "unsure") == ("x",)
    assert taken(Route(()), "unsure") == taken(Route(()), "single") == ()


def test_unsure_trusts_the_routes_first_label_over_the_most_probable():
    route = Route(("c",), {"a": 0.4, "b": 0.35, "c": 0.25})
    assert taken(route, "unsure", 0.2) == ("c",)
    assert taken(route, "unsure", 0.3) == ("c", "a")


def test_a_label_that_goes_alone_does_so_if_it_outweighs_all_others():
    probs = {"none": 0.6, "text": 0.3, "table": 0.1}
    for policy, threshold in (("top_p", 0.9), ("unsure", 0.8), ("threshold", 0.2)):
        assert taken(Route(("none",), probs), policy, threshold, alone="none") == ("none",)
    assert taken(Route(("text",), probs), "single", alone="none") == ("text",)
    half = {"none": 0.5, "text": 0.3, "table": 0.2}
    assert taken(Route(("none",), half), "top_p", 0.9, alone="none") == ("text", "table")


def test_a_label_that_goes_alone_gives_way_to_others():
    assert taken(ROUTE, "threshold", 0.2, alone="none") == ("table", "text")
    assert taken(ROUTE, "single", alone="none") == ("none",)
    assert taken(ROUTE, "threshold", 0.3, alone="none") == ("none",)


def test_labels_that_may_not_be_taken_are_passed_over_after_the_choice():
    assert taken(ROUTE, "unsure", 0.9, labels={"table", "text"}) == ("table",)
    assert taken(ROUTE, "single", labels={"table"}) == ()
    assert taken(ROUTE, "threshold", 0.2, labels={"none", "text"}, alone="none") == ("text",)
    assert taken(ROUTE, "threshold", 0.2, labels={"none"}, alone="none") == ("none",)


@given(routes, st.sampled_from(POLICIES), thresholds, st.integers(1, 4))
def test_takes_each_label_once_and_only_known_ones(route, policy, threshold, most):
    found = taken(route, policy, threshold, most=most)
    assert len(set(found)) == len(found)
    assert set(found) <= {*route.labels, *route.probs}
    if policy == "unsure":
        assert 1 <= len(found) <= most


@given(routes, thresholds, thresholds)
def test_a_lower_threshold_only_adds(route, one, other):
    low, high = sorted((one, other))
    few, many = taken(route, "threshold", high), taken(route, "threshold", low)
    assert many[: len(few)] == few
    assert all(route.probs[label] >= low for label in many)
    assert all(p < low for label, p in route.probs.items() if label not in many)


@given(routes, thresholds)
def test_top_p_takes_the_fewest_labels_that_add_up(route, wanted):
    found = taken(route, "top_p", wanted)
    assert sum(route.probs[label] for label in found) >= wanted - 1e-6
    assert sum(route.probs[label] for label in found[:-1]) < wanted or not found
    assert all(
        route.probs[label] >= p for label in found for o, p in route.probs.items() if o not in found
    )


@given(routes, thresholds, st.integers(1, 4))
def test_evaluation_takes_what_the_policy_unsure_takes(route, below, most):
    assert most_probable(route, most, below) == taken(route, "unsure", below, most=most)


@given(routes, st.sampled_from(POLICIES), thresholds)
def test_a_block_takes_the_same_labels_in_the_order_of_its_arms(route, policy, threshold):
    arms = dict.fromkeys(("e", "c", "a"), ())
    block = blocks.Route(by="route", arms=arms, policy=policy, threshold=threshold)
    found = chosen(route, block)
    assert set(found) == set(taken(route, policy, threshold)) & set(arms)
    assert found == [arm for arm in arms if arm in found]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"policy": "best"}, "policy must be one of single, threshold, .*, got 'best'"),
        ({"threshold": 1.1}, r"threshold must be in \[0, 1\], got 1.1"),
        ({"threshold": float("nan")}, r"threshold must be in \[0, 1\], got nan"),
        ({"most": 0}, "most must be at least 1, got 0"),
    ],
)
def test_refuses_what_is_no_policy(settings, said):
    with pytest.raises(ValueError, match=said):
        taken(ROUTE, **settings)

"""Figures of routers through pipelines' policies: worked routes, parity with flows, a picture."""

from types import SimpleNamespace

import pytest

from pipelines.drawing.reliability import reliability_svg
from pipelines.evaluating.router_figures import (
    accuracy_by_source,
    figures_of_training,
    policy_reach,
)
from pipelines.evaluating.routing_policies import measured_policies
from pipelines.flow import blocks
from pipelines.flow.routing import chosen
from rag.evaluation.routing import RoutedQuery, reliability
from rag.records import Route
from rag.routing.policies import POLICIES

PROBS = {"table": 0.5, "image": 0.35, "none": 0.15}


def routed(truth, top="table", probs=None, source="", *, fallback=False):
    return RoutedQuery("q", (truth,), Route((top,), probs or PROBS, fallback=fallback), source)


@pytest.mark.parametrize(
    ("policy", "taken"),
    [
        ("single", ["table"]),
        ("threshold 0.2", ["table", "image"]),
        ("top_p 0.8", ["table", "image"]),
        ("top_p 0.9", ["table", "image", "none"]),
        ("all", ["table"]),
        ("two below 0.7", ["table", "image"]),
    ],
)
def test_policies_take_what_they_say(policy, taken):
    take = measured_policies(["table", "image", "none"])[policy]
    assert list(take(Route(("table",), PROBS))) == taken


def test_policies_are_those_of_flows():
    route = Route(("image", "none"), PROBS)
    arms = dict.fromkeys(("none", "table", "image"), ())
    policies = measured_policies(list(arms))
    for policy in POLICIES:
        name = "two below" if policy == "unsure" else policy
        named = next(one for one in policies if one.startswith(name))
        threshold = float(named.removeprefix(name) or 0.5)
        block = blocks.Route(by="r", arms=arms, policy=policy, threshold=threshold)
        assert set(policies[named](route)) == set(chosen(route, block))


def test_a_sure_route_takes_one_corpus_unless_it_fell_back():
    sure = {"table": 0.96, "image": 0.04}
    asked = [routed("image", probs=sure), routed("image", probs=sure, fallback=True)]
    reached = policy_reach(asked)["two below 0.95"]
    assert (reached.hit.mean, reached.corpora) == (0.5, 1.5)


def test_accuracy_is_told_by_source_in_alphabetical_order():
    asked = [routed("table", source="b"), routed("none", source="b"), routed("table", source="a")]
    found = accuracy_by_source(asked)
    assert [(name, one.mean, one.n) for name, one in found.items()] == [
        ("a", 1.0, 1),
        ("b", 0.5, 2),
    ]


def test_training_is_measured_by_folds_and_by_sources():
    queries = [
        SimpleNamespace(id=f"{s}{n}", text=f"{s} {n}", labels=("table",), source=s)
        for s in ("a", "b")
        for n in range(5)
    ]
    trained = []

    class Router:
        def batch(self, queries):
            return [Route(("table",), {"table": 1.0}) for _ in queries]

    def train(some):
        trained.append(len(some))
        return Router()

    found = figures_of_training(queries, train, modalities={"table": "table"}, folds=5)
    assert trained == [8] * 5 + [5] * 2
    assert (found.folds, found.figures.accuracy.mean, found.figures.ece) == (5, 1.0, 0.0)
    assert found.figures.modality_accuracy == 1.0
    assert list(found.left_out) == list(found.of_sources) == ["a", "b"]
    assert found.policies["single"].hit.mean == 1.0


def test_the_picture_shows_a_panel_a_router_and_escapes_names():
    bins = reliability([routed("table"), routed("none"), routed("table", probs={"table": 0.9})])
    image = reliability_svg({"a <b>": bins, "other": bins})
    assert image.count("a &lt;b&gt;: ECE 0.033") == 1
    assert "other: ECE" in image
    assert image.count("<polyline") >= 4
    assert "<b>" not in image

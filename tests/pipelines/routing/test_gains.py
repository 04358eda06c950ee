"""What a router gains: hand-worked with a sure and an unsure route, and labels without a corpus."""

import pytest

from pipelines.routing.gains import gains
from rag.evaluation.routing import RoutedQuery
from rag.records import Route
from rag.routing.labelled_queries import LabelledQuery

COSTS = {"paragraph": 10, "table": 30}


def query(label, **outcomes):
    costs = {name: COSTS[name] for name in outcomes}
    return LabelledQuery("q", "Which?", (label,), "", outcomes, costs)


def sent(**probs):
    """A route to the most probable label."""
    ranked = sorted(probs, key=lambda label: -probs[label])
    return RoutedQuery("q", ("table",), Route((ranked[0],), probs))


def test_hand_worked_gains():
    queries = [
        query("table", paragraph=0.0, table=1.0),
        query("paragraph", paragraph=0.5, table=0.4),
    ]
    routed = [sent(paragraph=0.6, table=0.4), sent(paragraph=0.9, table=0.1)]
    found = gains(queries, routed)
    assert found.questions == 2
    assert (found.oracle.score.mean, found.oracle.regret.mean, found.oracle.cost) == (0.75, 0.0, 20)
    assert (found.best_single, found.single.score.mean, found.single.cost) == ("table", 0.7, 30)
    assert found.routes == {"paragraph": 0.25, "table": 0.7}
    alone, unsure = found.policies["single"], found.policies["two below 0.8"]
    assert (alone.score.mean, alone.regret.mean, alone.cost) == (0.25, 0.5, 10)
    assert (unsure.score.mean, unsure.regret.mean, unsure.cost) == (0.75, 0.0, 25)


def test_questions_without_outcomes_do_not_count():
    bare = LabelledQuery("q", "Which?", ("table",))
    assert gains([bare], [sent(table=1.0)]) is None
    queries = [bare, query("table", paragraph=0.0, table=1.0)]
    found = gains(queries, [sent(paragraph=1.0), sent(table=1.0)])
    assert (found.questions, found.policies["single"].score.mean) == (1, 1.0)


def test_costs_are_told_only_if_every_question_has_them():
    bare = LabelledQuery("q", "Which?", ("table",), "", {"table": 1.0})
    found = gains([bare, query("table", table=1.0)], [sent(table=1.0)] * 2)
    assert found.oracle.cost is None
    assert found.policies["single"].cost is None


def test_a_label_without_a_corpus_gives_way_and_no_retrieval_fails():
    queries = [query("table", paragraph=0.5, table=1.0)] * 2
    routed = [sent(document=0.9, table=0.1), sent(none=0.9, table=0.1)]
    found = gains(queries, routed).policies["single"]
    assert found.score.mean == pytest.approx((0.5 + 0.0) / 2)
    assert found.regret.mean == pytest.approx((0.5 + 1.0) / 2)


def test_no_retrieval_alone_may_have_been_tried():
    tried = LabelledQuery("q", "Which?", ("none",), "", {"none": 1.0})
    routed = [sent(none=0.9, table=0.1), sent(none=0.1, table=0.9)]
    assert gains([tried] * 2, routed).policies["single"].score.mean == 0.5

"""Ensemble routing: who decides, by hand; ties, unknown labels, what is never asked."""

import pytest

from rag.records import Query, Route
from rag.routing import EnsembleRouter

QUERY = Query("Who?")


class Says:
    """Says the same of every query; counts what it is asked."""

    def __init__(self, source, fallback=False, **probs):
        labels = (max(probs, key=probs.get),) if probs else ()
        self.route = Route(labels, probs, source, fallback)
        self.asked = 0

    def __call__(self, query):
        self.asked += 1
        return self.route


class SaysTogether(Says):
    def batch(self, *, query):
        return [self(one) for one in query]


SURE = Says("sure", a=0.9, b=0.1)
DOUBT = Says("doubt", a=0.6, b=0.4)
OTHER = Says("other", a=0.2, b=0.8)


def test_the_first_sure_router_decides_and_nobody_else_is_asked():
    last = Says("last", b=1.0)
    route = EnsembleRouter((SURE, last), threshold=0.9)(QUERY)
    assert route == Route(("a",), {"a": 0.9, "b": 0.1}, "ensemble/sure", fallback=False)
    assert last.asked == 0


@pytest.mark.parametrize("first", [DOUBT, Says("far", fallback=True, a=0.99, b=0.01)])
def test_doubt_or_distance_passes_the_query_on(first):
    route = EnsembleRouter((first, OTHER), threshold=0.7)(QUERY)
    assert route == Route(("b",), {"a": 0.2, "b": 0.8}, "ensemble/other", fallback=True)


def test_where_none_is_sure_their_mean_decides():
    route = EnsembleRouter((DOUBT, OTHER), threshold=0.95)(QUERY)
    assert (route.labels, route.source, route.fallback) == (("b",), "ensemble/mean", True)
    assert route.probs == pytest.approx({"a": 0.4, "b": 0.6})


def test_most_votes_win_over_probability():
    third = Says("third", a=0.51, b=0.49)
    route = EnsembleRouter((DOUBT, Says("loud", a=0.0, b=1.0), third), "majority")(QUERY)
    assert (route.labels, route.source, route.fallback) == (("a",), "ensemble/majority", False)


def test_a_tie_of_votes_goes_to_the_most_probable():
    three = (Says("x", a=0.4, b=0.3, c=0.3), Says("y", b=0.9, a=0.1), Says("z", c=0.8, b=0.2))
    route = EnsembleRouter(three, "majority")(QUERY)
    assert (route.labels, route.fallback) == (("b",), True)


def test_a_mean_counts_unknown_labels_as_impossible():
    route = EnsembleRouter((Says("x", a=0.7, b=0.3), Says("y", c=1.0)), "mean")(QUERY)
    assert route.probs == pytest.approx({"a": 0.35, "b": 0.15, "c": 0.5})
    assert (route.labels, route.fallback) == (("c",), False)
    kinds = {"a": "m", "b": "m"}
    both = (Says("x", a=0.7, b=0.31), Says("y", c=1.0))
    assert EnsembleRouter(both, "mean", modalities=kinds)(QUERY).labels == ("a",)


def test_routers_without_a_label_decide_nothing():
    for rule in ("confidence", "majority", "mean"):
        route = EnsembleRouter((Says("empty"),), rule)(QUERY)
        assert route.labels == ()


@pytest.mark.parametrize("rule", ["confidence", "majority", "mean"])
def test_a_batch_equals_a_loop(rule):
    members = (SaysTogether("x", a=0.6, b=0.4), OTHER)
    router = EnsembleRouter(members, rule)
    assert router.batch(query=[QUERY, QUERY]) == [router(QUERY)] * 2
    assert router.batch([]) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"routers": ()}, "routers must hold at least one router"),
        ({"rule": "vote"}, "rule must be one of confidence, majority, mean, got 'vote'"),
        ({"threshold": 1.5}, r"threshold must be in \[0, 1\], got 1.5"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        EnsembleRouter(**{"routers": (SURE,), **options})

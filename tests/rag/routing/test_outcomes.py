"""Labels from outcomes: hand-worked cases, ties by cost and order, failures, what is refused."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.routing.outcomes import ORDER, Outcome, best_routes, label_of

OUTCOMES = st.lists(
    st.tuples(st.sampled_from(ORDER), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 3)),
    unique_by=lambda one: one[0],
).map(lambda rows: [Outcome(*row) for row in rows])


def of(**scores):
    """Outcomes whose costs fall from left to right."""
    return [Outcome(route, score, 100 - n) for n, (route, score) in enumerate(scores.items())]


@pytest.mark.parametrize(
    ("outcomes", "tolerance", "best", "label"),
    [
        (of(paragraph=0.5, table=1.0), 0.0, ("table",), "table"),
        (of(paragraph=1.0, table=1.0), 0.0, ("paragraph", "table"), "table"),
        (of(paragraph=1.0, table=0.9, image=0.8), 0.1, ("paragraph", "table"), "table"),
        (of(paragraph=1.0, table=0.9), 0.05, ("paragraph",), "paragraph"),
        (of(paragraph=0.0, table=0.0), 0.0, (), None),
        (of(paragraph=0.1, table=0.0), 1.0, ("paragraph",), "paragraph"),
        ([], 0.0, (), None),
    ],
)
def test_hand_worked_labels(outcomes, tolerance, best, label):
    assert best_routes(outcomes, tolerance) == best
    assert label_of(outcomes, tolerance=tolerance) == label


def test_a_difference_as_large_as_the_tolerance_ties():
    assert 0.8 - 0.7 > 0.1
    assert best_routes(of(table=0.7, clip=0.8), 0.1) == ("table", "clip")


def test_equal_costs_go_by_the_order_and_unknown_routes_come_last_by_name():
    tied = [Outcome(route, 1.0, 7) for route in ("wiki", "docs", "video", "clip")]
    assert label_of(tied) == "clip"
    assert label_of(tied, order=("video", "clip")) == "video"
    assert label_of(tied[:2]) == "docs"
    assert label_of(tied, order=()) == "clip"


def test_no_retrieval_wins_only_if_it_is_as_good_as_any_other():
    assert label_of([Outcome("paragraph", 1.0, 40), Outcome("none", 1.0, 0)]) == "none"
    assert label_of([Outcome("paragraph", 1.0, 40), Outcome("none", 0.9, 0)]) == "paragraph"
    assert label_of([Outcome("paragraph", 0.0, 40), Outcome("none", 0.0, 0)]) is None


@given(outcomes=OUTCOMES, tolerance=st.sampled_from([0.0, 0.25, 1.0]))
def test_the_label_is_read_off_the_definition(outcomes, tolerance):
    good = [one for one in outcomes if one.score > 0]
    most = max((one.score for one in good), default=0)
    tied = [one for one in good if most - one.score <= tolerance]
    assert best_routes(outcomes, tolerance) == tuple(one.route for one in tied)
    tied.sort(key=lambda one: ORDER.index(one.route))
    tied.sort(key=lambda one: one.cost)
    assert label_of(outcomes, tolerance=tolerance) == (tied[0].route if tied else None)


@given(outcomes=OUTCOMES)
def test_a_larger_tolerance_only_adds_routes(outcomes):
    found = [set(best_routes(outcomes, tolerance)) for tolerance in (0.0, 0.25, 0.5, 1.0)]
    assert all(small <= large for small, large in pairwise(found))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Outcome("a", 1.5), r"score of 'a' must be in \[0, 1\], got 1.5"),
        (lambda: Outcome("a", float("nan")), r"score of 'a' must be in \[0, 1\], got nan"),
        (lambda: Outcome("a", 1.0, -1), "cost of 'a' must be at least 0 and finite, got -1"),
        (lambda: Outcome("a", 1.0, float("inf")), "at least 0 and finite, got inf"),
        (lambda: best_routes([], -0.1), r"tolerance must be in \[0, 1\], got -0.1"),
        (lambda: best_routes([Outcome("a", 1), Outcome("a", 0)]), "each route once, got a, a"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

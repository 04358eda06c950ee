"""Figures of routers: worked cases, invariants, parity with scikit-learn and a plain definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.evaluation.routing import (
    RoutedQuery,
    calibration_error,
    confusion,
    label_scores,
    macro_f1,
    modality_accuracy,
    most_probable,
    reach,
    regrets,
    reliability,
    routing_figures,
    sent_right,
)
from rag.records import Route

LABELS = ("clip", "image", "none", "table")


def sent(truth, top, p=1.0, id_="q", *, fallback=False):
    """A question that needs `truth` and whose route is `top`, the first with probability p."""
    truth, top = ((one,) if isinstance(one, str) else tuple(one) for one in (truth, top))
    probs = dict.fromkeys(top[:1], p)
    return RoutedQuery(id_, truth, Route(top, probs, fallback=fallback))


def drawn(n, seed):
    rng = np.random.default_rng(seed)
    return [
        sent(LABELS[t], LABELS[g], p)
        for t, g, p in zip(
            rng.integers(4, size=n), rng.integers(4, size=n), rng.random(n), strict=True
        )
    ]


def test_a_worked_case():
    routed = [
        sent("table", "table", 0.9),
        sent("table", "table", 0.9),
        sent("table", "image", 0.5, fallback=True),
        sent("image", "image", 0.7),
    ]
    found = routing_figures(routed, modalities={"table": "text", "image": "image"})
    assert found.questions == 4
    assert found.accuracy.mean == 0.75
    table, image = found.labels["table"], found.labels["image"]
    assert (table.precision, table.recall, table.support) == (1.0, 2 / 3, 3)
    assert (image.precision, image.recall, image.support) == (0.5, 1.0, 1)
    assert table.f1 == pytest.approx(0.8)
    assert image.f1 == pytest.approx(2 / 3)
    assert found.macro_f1.mean == pytest.approx((0.8 + 2 / 3) / 2)
    # Bins of 1/15: 0.5 in the 8th, 0.7 in the 11th, 0.9 in the 14th.
    assert [(one.count, one.accuracy) for one in found.bins] == [(1, 0.0), (1, 1.0), (2, 1.0)]
    assert found.ece == pytest.approx((0.5 + 0.3 + 2 * 0.1) / 4)
    assert found.fallbacks == 0.25
    assert found.modality_accuracy == 0.75
    assert found.confusion == {"image": {"image": 1}, "table": {"image": 1, "table": 2}}


def test_a_right_modality_with_a_wrong_granularity_counts_there_only():
    routed = [sent("clip", "video"), sent("clip", "table")]
    kinds = {"clip": "video", "video": "video", "table": "text"}
    assert modality_accuracy(routed, kinds) == 0.5
    assert sent_right(routed) == [0.0, 0.0]


def test_several_labels_must_be_just_those_needed():
    routed = [
        sent(("table", "image"), ("image", "table")),
        sent(("table", "image"), ("table",)),
        sent("table", ("table", "image")),
    ]
    assert sent_right(routed) == [1.0, 0.0, 0.0]
    scores = label_scores(routed)
    assert (scores["image"].precision, scores["image"].recall) == (0.5, 0.5)
    assert (scores["table"].precision, scores["table"].recall) == (1.0, 1.0)
    assert confusion(routed) == {"table": {"table": 1}}


def test_only_the_top_label_counts_where_one_is_needed():
    assert sent_right([sent("table", ("table", "image"))]) == [1.0]
    assert set(label_scores([sent("table", ("table", "image"))])) == {"table"}


def test_a_route_without_a_label_is_wrong_and_sure_of_nothing():
    routed = [sent("none", ())]
    assert sent_right(routed) == [0.0]
    assert confusion(routed) == {"none": {"": 1}}
    assert [(one.confidence, one.accuracy) for one in reliability(routed)] == [(0.0, 0.0)]
    assert modality_accuracy(routed, {"none": "none"}) == 0.0


@given(n=st.integers(1, 60), seed=st.integers(0, 99))
def test_agrees_with_scikit_learn(n, seed):
    metrics = pytest.importorskip("sklearn.metrics")
    routed = drawn(n, seed)
    truth, top = [one.truth[0] for one in routed], [one.top for one in routed]
    found = label_scores(routed)
    told = metrics.precision_recall_fscore_support(
        truth, top, labels=sorted(found), zero_division=0.0
    )
    for place, label in enumerate(sorted(found)):
        mine = found[label]
        parts = (mine.precision, mine.recall, mine.f1, mine.support)
        assert parts == pytest.approx([part[place] for part in told])
    wanted = metrics.f1_score(truth, top, average="macro", zero_division=0.0)
    assert macro_f1(routed, resamples=1).mean == pytest.approx(wanted)


def ece_by_definition(confidences, right, bins):
    total = 0.0
    for m in range(bins):
        inside = [
            k
            for k, p in enumerate(confidences)
            if m / bins <= p < (m + 1) / bins or (m == bins - 1 and p == 1.0)
        ]
        if inside:
            accuracy = sum(right[k] for k in inside) / len(inside)
            confidence = sum(confidences[k] for k in inside) / len(inside)
            total += len(inside) / len(confidences) * abs(accuracy - confidence)
    return total


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([1, 2, 4, 8]),
)
def test_calibration_error_matches_its_definition(pairs, bins):
    routed = [sent("table", "table" if right else "image", p) for p, right in pairs]
    found = reliability(routed, bins)
    wanted = ece_by_definition([p for p, _ in pairs], [right for _, right in pairs], bins)
    assert calibration_error(found) == pytest.approx(wanted)
    assert sum(one.count for one in found) == len(pairs)
    assert all(one.low <= one.confidence <= one.high for one in found)


def test_an_edge_belongs_to_the_bin_above_and_one_to_the_last():
    found = reliability([sent("table", "table", p) for p in (0.0, 0.4, 0.5, 1.0)], bins=2)
    assert [(one.low, one.count) for one in found] == [(0.0, 2), (0.5, 2)]


def test_intervals_hold_the_mean_and_repeat_with_the_seed():
    routed = drawn(80, 3)
    first = macro_f1(routed, seed=5, resamples=400)
    assert first == macro_f1(routed, seed=5, resamples=400)
    assert first != macro_f1(routed, seed=6, resamples=400)
    assert first.low < first.mean < first.high
    assert first.n == 80


def test_the_interval_of_macro_f1_is_that_of_drawing_questions():
    metrics = pytest.importorskip("sklearn.metrics")
    routed = drawn(60, 8)
    truth = np.array([one.truth[0] for one in routed])
    top = np.array([one.top for one in routed])
    rng = np.random.default_rng(1)
    told = []
    for _ in range(400):
        rows = rng.integers(60, size=60)
        told.append(metrics.f1_score(truth[rows], top[rows], average="macro", zero_division=0.0))
    found = macro_f1(routed, resamples=2000)
    assert [found.low, found.high] == pytest.approx(np.quantile(told, [0.025, 0.975]), abs=0.03)


def test_a_fallback_takes_more_only_where_the_router_is_unsure():
    probs = {"a": 0.2, "c": 0.5, "b": 0.2, "d": 0.1}
    assert most_probable(Route(("c",), probs), 2, below=0.5) == ("c",)
    assert most_probable(Route(("c",), probs), 2, below=0.51) == ("c", "a")
    assert most_probable(Route(("c",), probs, fallback=True), 3, below=0.1) == ("c", "a", "b")
    # A hierarchical router may choose a label that is not the most probable one.
    assert most_probable(Route(("b",), probs), 2, below=0.3) == ("b", "c")
    assert most_probable(Route((), probs), 1) == ("c",)
    assert most_probable(Route(()), 2) == ()


def test_reach_counts_questions_with_all_they_need_and_labels_once():
    routed = [sent("table", "table"), sent(("clip", "image"), "clip"), sent("none", "clip")]
    found = reach(routed, [["table"], ["clip", "clip"], ["clip", "none", "table"]])
    assert found.hit.mean == pytest.approx(2 / 3)
    assert found.corpora == pytest.approx(5 / 3)


@given(n=st.integers(1, 30), seed=st.integers(0, 99))
def test_taking_more_labels_never_hits_less(n, seed):
    rng = np.random.default_rng(seed)
    routed = []
    for _ in range(n):
        probs = dict(zip(LABELS, rng.dirichlet(np.ones(4)).tolist(), strict=True))
        routed.append(RoutedQuery("q", (LABELS[rng.integers(4)],), Route(("table",), probs)))
    reached = [
        reach(routed, [most_probable(one.route, most) for one in routed], resamples=1)
        for most in (1, 2, 3, 4)
    ]
    assert [one.corpora for one in reached] == [1, 2, 3, 4]
    assert sorted(one.hit.mean for one in reached) == [one.hit.mean for one in reached]
    assert reached[-1].hit.mean == 1.0


def test_regret_is_what_the_best_route_would_have_added():
    outcomes = [{"table": 0.4, "image": 1.0}, {"table": 0.5, "image": 0.5}, {"table": 0.3}]
    assert regrets([["table"], ["image", "table"], []], outcomes) == pytest.approx([0.6, 0.0, 0.3])
    assert regrets([["image", "table"]], outcomes[:1]) == [0.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: routing_figures([]), "routed must hold at least one question, got none"),
        (lambda: RoutedQuery("x", (), Route(())), "at least one label, got none for 'x'"),
        (lambda: reliability([sent("a", "a")], bins=0), "bins must be at least 1, got 0"),
        (lambda: reliability([sent("a", "a", 1.5)]), r"must be in \[0, 1\], got 1.5 \('q'\)"),
        (lambda: macro_f1([sent("a", "a")], resamples=0), "resamples must be at least 1, got 0"),
        (
            lambda: routing_figures([sent("a", "b")], modalities={"a": "text"}),
            "modalities must name every label, got none for b",
        ),
        (lambda: regrets([["b"]], [{"a": 1.0}]), r"every label taken \(a\), got 'b'"),
        (lambda: regrets([[]], [{}]), "at least one route for each question, got none"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

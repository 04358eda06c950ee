"""Vector feedback: Pyserini's rule on toy vectors, which passages it takes, and when it is none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.records import Hit
from retrievers.feedback.average import average
from retrievers.feedback.rocchio import rocchio
from retrievers.feedback.vector import VectorFeedback

QUERY = np.array([1.0, 0.0])
PASSAGES = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
NOTHING = np.empty((0, 2))

seeds = st.integers(0, 10_000)
counts = st.integers(1, 6)


def draw(seed, n, dim=5):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(dim), rng.standard_normal((n, dim))


def hits(ids):
    return [Hit(id_, 1.0 - place / 100) for place, id_ in enumerate(ids)]


class Vectors:
    """A few vectors by id, which notes what it was asked for."""

    def __init__(self, **vectors):
        self.by_id = {id_: np.asarray(vector, float) for id_, vector in vectors.items()}
        self.asked = []

    def __call__(self, ids):
        self.asked.append("".join(ids))
        return np.stack([self.by_id[id_] for id_ in ids])

    def refine(self, feedback, ids, query=QUERY):
        return feedback.refine(query, hits(ids), self, self.by_id.__contains__)


def unit(vector):
    return vector / np.linalg.norm(vector)


LETTERS = {id_: [math.cos(place), math.sin(place)] for place, id_ in enumerate("abcdefgh")}


def test_average_by_hand():
    assert average(QUERY, PASSAGES).tolist() == [0.5, 0.75]


def test_rocchio_by_hand():
    assert rocchio(QUERY, PASSAGES, alpha=0.4, beta=0.6) == pytest.approx([0.6, 0.6])
    pushed = rocchio(QUERY, PASSAGES, PASSAGES[-1:], alpha=0.4, beta=0.6, gamma=0.1)
    assert pushed == pytest.approx([0.5, 0.5])


def test_combine_is_the_rule_of_the_method_and_does_not_normalise():
    assert VectorFeedback("average").combine(QUERY, PASSAGES).tolist() == [0.5, 0.75]
    assert VectorFeedback(alpha=0.4, beta=0.6).combine(QUERY, PASSAGES) == pytest.approx([0.6, 0.6])
    feedback = VectorFeedback(alpha=0.4, beta=0.6, gamma=0.1, bottom_k=1)
    assert feedback.combine(QUERY, PASSAGES, PASSAGES[-1:]) == pytest.approx([0.5, 0.5])


@given(seeds, counts, counts)
def test_rocchio_matches_the_formula(seed, n, m):
    query, found = draw(seed, n + m)
    alpha, beta, gamma = np.random.default_rng(seed + 1).uniform(0, 2, 3).tolist()
    expected = [
        alpha * q + beta * sum(column[:n]) / n - gamma * sum(column[n:]) / m
        for q, column in zip(query.tolist(), found.T.tolist(), strict=True)
    ]
    moved = rocchio(query, found[:n], found[n:], alpha=alpha, beta=beta, gamma=gamma)
    assert moved == pytest.approx(expected, abs=1e-12)


@given(seeds, counts)
def test_average_is_rocchio_that_weighs_the_query_as_one_passage(seed, k):
    query, found = draw(seed, k)
    as_one = rocchio(query, found, alpha=1 / (k + 1), beta=k / (k + 1))
    assert average(query, found) == pytest.approx(as_one, abs=1e-12)


@given(seeds, counts, st.floats(0.1, 10))
def test_scaling_all_weights_changes_no_direction(seed, k, factor):
    query, found = draw(seed, k + 2)
    ids = [str(place) for place in range(k + 2)]
    store = Vectors(**dict(zip(ids, found, strict=True)))
    small = VectorFeedback(alpha=0.4, beta=0.6, gamma=0.1, k=k, bottom_k=2)
    large = VectorFeedback(
        alpha=0.4 * factor, beta=0.6 * factor, gamma=0.1 * factor, k=k, bottom_k=2
    )
    moved = store.refine(small, ids, query)
    assert store.refine(large, ids, query) == pytest.approx(moved, abs=1e-9)
    assert np.linalg.norm(moved) == pytest.approx(1.0, abs=1e-12)


@given(seeds, counts)
def test_the_order_of_the_feedback_makes_no_difference(seed, k):
    query, found = draw(seed, k)
    backwards = rocchio(query, found[::-1], alpha=0.4, beta=0.6)
    assert backwards == pytest.approx(rocchio(query, found, alpha=0.4, beta=0.6), abs=1e-12)


@pytest.mark.parametrize("combine", [average, lambda q, p: rocchio(q, p, alpha=0.4, beta=0.6)])
def test_without_feedback_the_query_is_returned(combine):
    assert combine(QUERY, NOTHING) is QUERY


def test_negatives_alone_move_nothing():
    assert rocchio(QUERY, NOTHING, PASSAGES, alpha=0.4, beta=0.6, gamma=1.0) is QUERY


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float16", "float32"), ("float32", "float32"), ("float64", "float64"), ("int64", "float64")],
)
def test_the_result_has_the_dtype_of_the_query_but_float32_at_least(dtype, expected):
    store = Vectors(**LETTERS)
    query = QUERY.astype(dtype)
    for passages in (PASSAGES, PASSAGES.astype(np.float32)):
        assert average(query, passages).dtype == expected
        assert rocchio(query, passages, alpha=0.4, beta=0.6).dtype == expected
    assert store.refine(VectorFeedback(), "abc", query).dtype == expected


def test_float32_vectors_are_added_up_in_float64():
    many = np.full((3001, 1), 0.1, np.float32)
    many[0] = 3e6
    exact = (3e6 + 3000 * float(np.float32(0.1))) / 3001
    moved = rocchio(np.zeros(1), many, alpha=1.0, beta=1.0)
    assert moved[0] == pytest.approx(exact, rel=1e-12)


def test_moves_towards_the_best_passages_at_unit_length():
    store = Vectors(**LETTERS)
    expected = unit(0.4 * QUERY + 0.6 * np.mean([LETTERS[id_] for id_ in "bcd"], axis=0))
    assert store.refine(VectorFeedback(alpha=0.4, beta=0.6), "bcdef") == pytest.approx(expected)
    assert store.asked == ["bcd"]


def test_average_takes_the_best_passages_alike():
    store = Vectors(**LETTERS)
    expected = unit(np.mean([QUERY, LETTERS["b"], LETTERS["c"]], axis=0))
    assert store.refine(VectorFeedback("average", k=2), "bcdef") == pytest.approx(expected)


def test_a_passage_without_a_vector_is_passed_over_and_the_next_taken():
    store = Vectors(**LETTERS)
    without = store.refine(VectorFeedback(), "bcd")
    assert store.refine(VectorFeedback(), "bXcYde").tolist() == without.tolist()
    assert store.asked == ["bcd", "bcd"]


def test_k_past_the_ranking_takes_what_there_is():
    store = Vectors(**LETTERS)
    store.refine(VectorFeedback(k=50), "bc")
    assert store.asked == ["bc"]


def test_the_worst_come_from_the_end_and_push_away():
    store = Vectors(**LETTERS)
    feedback = VectorFeedback(alpha=0.4, beta=0.6, gamma=0.1, k=2, bottom_k=2)
    best, worst = (np.mean([LETTERS[i] for i in ids], axis=0) for ids in ("bc", "ef"))
    expected = unit(0.4 * QUERY + 0.6 * best - 0.1 * worst)
    assert store.refine(feedback, "bcdefX") == pytest.approx(expected)
    assert store.asked == ["bcef"]


def test_no_passage_is_best_and_worst():
    store = Vectors(**LETTERS)
    store.refine(VectorFeedback(gamma=0.1, k=2, bottom_k=3), "bcd")
    short = store.refine(VectorFeedback(gamma=0.1, k=2, bottom_k=3), "bc")
    assert store.asked == ["bcd", "bc"]
    assert short.tolist() == store.refine(VectorFeedback(k=2), "bc").tolist()


@pytest.mark.parametrize("weights", [{"gamma": 0.0, "bottom_k": 3}, {"gamma": 0.5, "bottom_k": 0}])
def test_the_worst_need_both_a_weight_and_a_number(weights):
    store = Vectors(**LETTERS)
    store.refine(VectorFeedback(**weights), "bcdefgh")
    assert store.asked == ["bcd"]


def test_depth_bounds_both_ends():
    store = Vectors(**LETTERS)
    store.refine(VectorFeedback(gamma=0.1, k=2, bottom_k=1, depth=4), "bcdefg")
    store.refine(VectorFeedback(k=3, depth=2), "bcdefg")
    store.refine(VectorFeedback(k=3, depth=2), "Xbcd")
    assert store.asked == ["bce", "bc", "b"]


@pytest.mark.parametrize(
    ("feedback", "ids"),
    [
        (VectorFeedback(k=0), "bcd"),
        (VectorFeedback("average", k=0), "bcd"),
        (VectorFeedback(k=0, gamma=0.1, bottom_k=2), "bcd"),
        (VectorFeedback(), ""),
        (VectorFeedback(), "XYZ"),
        (VectorFeedback(alpha=0.7, beta=0.0), "bcd"),
    ],
)
def test_what_moves_nothing_returns_the_query_itself_and_asks_for_no_vector(feedback, ids):
    store = Vectors(**LETTERS)
    query = np.array([3.0, 4.0], np.float32)
    assert store.refine(feedback, ids, query) is query
    assert store.asked == []


def test_with_beta_zero_the_worst_still_push_away():
    store = Vectors(**LETTERS)
    feedback = VectorFeedback(alpha=1.0, beta=0.0, gamma=0.5, k=1, bottom_k=1)
    expected = unit(QUERY - 0.5 * np.array(LETTERS["d"]))
    assert store.refine(feedback, "bcd") == pytest.approx(expected)


def test_a_result_without_direction_falls_back_to_the_query():
    store = Vectors(a=[-1.0, 0.0])
    assert store.refine(VectorFeedback(alpha=0.5, beta=0.5, k=1), "a") is QUERY


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VectorFeedback("mean"), r"method must be one of \('average', 'rocchio'\), got 'mean'"),
        (lambda: VectorFeedback(alpha=-0.1), "alpha must be at least 0 and finite, got -0.1"),
        (lambda: VectorFeedback(beta=math.nan), "beta must be at least 0 and finite, got nan"),
        (lambda: VectorFeedback(gamma=math.inf), "gamma must be at least 0 and finite, got inf"),
        (lambda: VectorFeedback(alpha=0.0, beta=0.0), "alpha and beta must not both be 0"),
        (lambda: VectorFeedback("average", gamma=0.1), "gamma must be 0 for average"),
        (lambda: VectorFeedback(k=-1), "^k must be at least 0, got -1"),
        (lambda: VectorFeedback(bottom_k=-2), "bottom_k must be at least 0, got -2"),
        (lambda: VectorFeedback(depth=0), "depth must be at least 1, got 0"),
        (lambda: average(QUERY, np.zeros((2, 3))), r"query and feedback must be .* \(2,\) and \(2, 3\)"),
        (lambda: average(PASSAGES, PASSAGES), r"got \(3, 2\) and \(3, 2\)"),
        (lambda: rocchio(QUERY, QUERY, alpha=1, beta=1), r"query and positives must .* \(2,\) and \(2,\)"),
        (
            lambda: rocchio(QUERY, PASSAGES, np.zeros((1, 4)), alpha=1, beta=1, gamma=1),
            r"query and negatives must be .* \(2,\) and \(1, 4\)",
        ),
    ],
)  # fmt: skip
def test_rejects_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()

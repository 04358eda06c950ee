"""Scores of routes: hand-worked means, ties by cost, regret, what stands in for a missing one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.evaluation.route_scores import best_single, mean_scores, oracle_scores, taken_score

OUTCOMES = [{"table": 1.0, "clip": 0.0}, {"table": 0.5, "clip": 1.0}, {"table": 0.0}]
COSTS = [{"table": 10, "clip": 50}, {"table": 20, "clip": 60}, {"table": 30}]


def test_hand_worked_means_and_oracle():
    assert mean_scores(OUTCOMES) == {"clip": pytest.approx(1 / 3), "table": 0.5}
    assert oracle_scores([*OUTCOMES, {}]) == [1.0, 1.0, 0.0, 0.0]
    assert best_single(OUTCOMES) == "table"


def test_one_route_for_all_is_the_cheapest_of_equals_then_the_first_by_name():
    tied = [{"table": 1.0, "clip": 0.0}, {"table": 0.0, "clip": 1.0}]
    assert best_single(tied) == "clip"
    assert best_single(tied, [{"table": 1, "clip": 2}, {"table": 1, "clip": 1}]) == "table"


def test_hand_worked_score_regret_and_cost_of_what_is_taken():
    found = taken_score([["table"], ["table", "clip"], []], OUTCOMES, COSTS)
    assert (found.score.mean, found.regret.mean) == (pytest.approx(2 / 3), 0.0)
    assert found.cost == (10 + 80 + 0) / 3
    found = taken_score([["clip"], ["table"], ["table"]], OUTCOMES)
    assert (found.score.mean, found.regret.mean) == (pytest.approx(0.5 / 3), 0.5)
    assert found.score.low <= found.score.mean <= found.score.high
    assert found.cost is None


def test_no_retrieval_counts_as_a_failure_where_it_was_not_tried():
    assert taken_score([["none"]], [{"table": 0.8}]).regret.mean == pytest.approx(0.8)
    assert taken_score([["none"]], [{"table": 0.5, "none": 0.8}]).score.mean == pytest.approx(0.8)


@given(
    st.lists(
        st.fixed_dictionaries(dict.fromkeys("abc", st.sampled_from([0.0, 0.25, 1.0]))), min_size=1
    ),
    st.sampled_from("abc"),
)
def test_score_and_regret_add_up_to_the_oracle(outcomes, route):
    found = taken_score([[route]] * len(outcomes), outcomes, resamples=1)
    oracle = sum(max(one.values()) for one in outcomes) / len(outcomes)
    assert found.score.mean + found.regret.mean == pytest.approx(oracle)
    assert found.regret.mean >= 0
    assert found.score.mean <= mean_scores(outcomes)[best_single(outcomes)] + 1e-9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_scores([]), "outcomes must hold at least one question, got none"),
        (lambda: best_single([{}]), "outcomes must hold at least one route, got none"),
        (lambda: taken_score([], []), "outcomes must hold at least one question, got none"),
        (lambda: taken_score([["b"]], [{"a": 1.0}]), "every label taken .* got 'b'"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

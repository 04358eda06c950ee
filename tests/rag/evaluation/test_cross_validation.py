"""Nested cross-validation: folds, choices, and that no question judges its own choice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.evaluation.cross_validation import best_of, cross_validated, fold_rows, staged

IDS = [f"q{n}" for n in range(11)]


@given(n=st.integers(2, 40), folds=st.integers(2, 8), seed=st.integers(0, 5))
def test_folds_deal_every_question_once_and_evenly(n, folds, seed):
    ids = [f"q{row}" for row in range(n)]
    if folds > n:
        with pytest.raises(ValueError, match=rf"folds must be in \[2, {n}\]"):
            fold_rows(ids, folds, seed)
        return
    parts = fold_rows(ids, folds, seed)
    assert sorted(row for part in parts for row in part) == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts == fold_rows(ids, folds, seed)


def test_another_seed_deals_otherwise():
    assert fold_rows(IDS, 3, 0) != fold_rows(IDS, 3, 1)


def test_the_best_mean_wins_and_of_equals_the_first():
    values = {"a": [0.0, 1.0], "b": [1.0, 0.0], "c": [0.9, 0.9]}
    assert best_of(["a", "b"], values.__getitem__, [0, 1]) == "a"
    assert best_of(["a", "b", "c"], values.__getitem__, [0, 1]) == "c"
    assert best_of(["a", "b", "c"], values.__getitem__, [0]) == "b"


def test_stages_build_on_each_other():
    def score(config):
        x, y = config
        return [float(x) - abs(y - x)]

    stages = [
        lambda best: [(x, best[1]) for x in (0, 1, 2)],
        lambda best: [(best[0], y) for y in (0, 1, 2)],
    ]
    assert staged((0, 0), stages, score, [0]) == (0, 0), (
        "the first stage sees no gain, so nor does y"
    )
    assert staged((0, 2), stages, score, [0]) == (2, 2)


def test_a_question_is_judged_by_the_choice_of_the_others():
    # Each configuration is perfect for one question and useless for all others, but "plain" is
    # middling for all: choices made with the question itself would look perfect.
    def score(config):
        return [0.5 if config == "plain" else float(f"q{row}" == config) * 6 for row in range(11)]

    asked = []

    def choose(rows):
        asked.append(list(rows))
        return best_of(["plain", *IDS], score, rows)

    tuned = cross_validated(IDS, choose, score, folds=11)
    assert max(tuned.held_out) <= 0.5
    assert all(len(rows) == 10 for rows in asked[:-1])
    assert asked[-1] == list(range(11))
    assert len(tuned.of_folds) == 11
    assert tuned.chosen == "q0"

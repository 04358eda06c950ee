"""TREC run lines."""

import pytest

from rag.evaluation.trec import run_lines


def test_ranks_count_from_1_and_scores_fall():
    assert list(run_lines("q1", ["a", "b"], "mine")) == [
        "q1 Q0 a 1 1.00000000 mine",
        "q1 Q0 b 2 0.50000000 mine",
    ]
    scores = [line.split()[4] for line in run_lines("q", [f"d{n}" for n in range(1000)], "t")]
    assert len(set(scores)) == 1000
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("given", [("q 1", ["a"], "t"), ("q", ["a b"], "t"), ("q", ["a"], "")])
def test_white_space_has_no_place_in_a_line(given):
    with pytest.raises(ValueError, match="must be a word without white space"):
        list(run_lines(*given))

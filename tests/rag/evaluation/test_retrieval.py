"""Retrieval metrics: ir-measures against values worked by hand."""

from math import log2

import pytest

from rag.evaluation.retrieval import MEASURES, first_occurrences, retrieval_metrics

pytest.importorskip("ir_measures")


def test_graded_case_by_hand():
    found = retrieval_metrics({"q": ["x", "a", "y", "b"]}, {"q": {"a": 2, "b": 1, "c": 3, "x": 0}})
    gained = 2 / log2(3) + 1 / log2(5)
    ideal = 3 / log2(2) + 2 / log2(3) + 1 / log2(4)
    assert found["q"] == pytest.approx(
        {
            "nDCG@10": gained / ideal,
            "R@5": 2 / 3,
            "R@10": 2 / 3,
            "R@100": 2 / 3,
            "RR@10": 1 / 2,
            "AP": (1 / 2 + 2 / 4) / 3,
            "AllR@5": 0.0,
        }
    )


def test_order_counts_even_among_many():
    documents = [f"d{n:03}" for n in range(100)]
    relevant = {"d004": 1, "d005": 1, "d010": 1, "d050": 1}
    found = retrieval_metrics({"q": documents}, {"q": relevant})["q"]
    assert (found["R@5"], found["R@10"], found["R@100"]) == (0.25, 0.5, 1.0)
    assert found["RR@10"] == pytest.approx(1 / 5)
    backwards = retrieval_metrics({"q": documents[::-1]}, {"q": relevant})["q"]
    assert backwards["RR@10"] == 0.0
    assert backwards["AP"] < found["AP"]


def test_all_at_5_wants_every_relevant_document():
    relevant = {"a": 1, "b": 1, "c": 0}
    ranked = {"five": ["a", "x", "y", "z", "b"], "six": ["a", "w", "x", "y", "z", "b"]}
    found = retrieval_metrics(ranked, dict.fromkeys(ranked, relevant))
    assert (found["five"]["AllR@5"], found["six"]["AllR@5"]) == (1.0, 0.0)


def test_an_empty_ranking_counts_zero_and_unjudged_questions_are_left_out():
    found = retrieval_metrics({"q": [], "r": ["a"], "s": ["a"]}, {"q": {"a": 1}, "r": {"a": 0}})
    assert found == {"q": dict.fromkeys((*MEASURES, "AllR@5"), 0.0)}
    assert retrieval_metrics({}, {}) == {}


def test_a_document_named_twice_is_an_error():
    assert first_occurrences(["a", "b", "a"]) == ["a", "b"]
    with pytest.raises(ValueError, match="ranking of 'q' must name each document once"):
        retrieval_metrics({"q": ["a", "a"]}, {"q": {"a": 1}})

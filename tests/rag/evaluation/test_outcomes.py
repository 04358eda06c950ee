"""Metrics of outcomes: pruning and citations by hand, and only what can be told."""

from itertools import pairwise

import pytest

from rag.evaluation import EvaluationDataError, Outcome, Question, outcome_metrics
from rag.evaluation.citations import citation_precision
from rag.evaluation.pruning import pruning_metrics
from rag.records import (
    Answer,
    Citation,
    Hit,
    Passage,
    Selection,
    SentenceScore,
    Span,
    text_sha,
)


def passage(id_, *sentences, keep=None):
    """A passage of sentences, pruned to the rows of `keep` if it is given."""
    text = " ".join(sentences)
    starts = [text.index(sentence) for sentence in sentences] + [len(text)]
    spans = tuple(Span(*pair) for pair in pairwise(starts))
    kept = None
    if keep is not None:
        scores = tuple(SentenceScore(s, 0.5, row in keep) for row, s in enumerate(spans))
        kept = Selection(id_, text_sha(text), scores, "test")
    return Passage(id_, id_, text, Span(0, len(text)), spans, kept=kept)


def cite(id_, start):
    return Citation(1, id_, id_, start, start + 3, "abc", 0, 3, 1.0)


A = ("Paris is big.", "It lies in France.", "Birds sing here.")
B = ("Lyon is old.", "Rome is older.")


def test_pruning_by_hand():
    passages = [passage("a", *A, keep={0, 2}), passage("b", *B, keep={1})]
    found = pruning_metrics(passages, {"a": [0, 1], "b": [1], "z": [4]}, ["France"])
    # Tokens, full stops included: 4, 5, 4 and 4, 4; kept 4 + 4 + 4.
    assert found == {"Kept": 12 / 21, "SentR": 2 / 3, "SentP": 2 / 3, "AnswerKept": 0.0}
    assert pruning_metrics(passages, {}, ["Paris"]) == {"Kept": 12 / 21, "AnswerKept": 1.0}


def test_keeping_everything_keeps_all_gold():
    found = pruning_metrics([passage("a", *A, keep={0, 1, 2})], {"a": [1]}, ["France"])
    assert found == {"Kept": 1.0, "SentR": 1.0, "SentP": 1 / 3, "AnswerKept": 1.0}


def test_keeping_nothing_has_no_precision():
    found = pruning_metrics([passage("a", *A, keep=set())], {"a": [1]}, ["Oslo"])
    assert found == {"Kept": 0.0, "SentR": 0.0}


def test_without_a_pruner_there_are_no_pruning_metrics():
    assert pruning_metrics([passage("a", *A)], {"a": [1]}, ["France"]) == {}
    assert pruning_metrics([], {"a": [1]}, ["France"]) == {}


def test_gold_past_the_last_sentence_is_an_error():
    with pytest.raises(EvaluationDataError, match="gold rows of 'b' must be below 2, got 2"):
        pruning_metrics([passage("b", *B, keep={0})], {"b": [2]})


def test_citations_by_hand():
    passages = [passage("a", *A), passage("b", *B), passage("c", *B)]
    second = passages[0].sentences[1].start
    cited = [cite("a", second), cite("a", 0), cite("b", 0), cite("c", 0)]
    # a: its second sentence is gold; b: the document is; c is not.
    assert citation_precision(cited, passages, {"a": [1], "b": []}, {"a", "b"}) == 2 / 4
    assert citation_precision([], passages, {"a": [1]}, {"a"}) is None
    assert citation_precision(cited, passages, {}, set()) is None
    with pytest.raises(ValueError, match="citation of 'z', which is not among the passages"):
        citation_precision([cite("z", 0)], passages, {"z": [0]}, {"z"})


def test_a_quote_past_a_passage_that_begins_later_is_found():
    text = "One. Two."
    late = Passage("p", "d", text, Span(100, 109), (Span(0, 5), Span(5, 9)))
    cited = Citation(1, "p", "d", 105, 109, "Two.", 0, 3, 1.0)
    assert citation_precision([cited], [late], {"d": [1]}, {"d"}) == 1.0
    assert citation_precision([cited], [late], {"d": [0]}, {"d"}) == 0.0


def test_only_what_can_be_told_is_there_in_the_usual_order():
    pytest.importorskip("ir_measures")
    question = Question("q", "Where?", ("France",), {"a": (1,)}, {"a": 1})
    answer = Answer("In France.", citations=(cite("a", 14),))
    outcome = Outcome([Hit("a", 2.0), Hit("a", 1.0)], [passage("a", *A)], answer, 12.5, 100)
    (found,) = outcome_metrics([question], [outcome])
    assert list(found) == [
        *("nDCG@10", "R@5", "R@10", "R@100", "AllR@5", "RR@10", "AP"),
        *("EM", "F1", "Contains", "Abstain", "CiteP", "TTFT_ms", "Tokens"),
    ]
    assert (found["EM"], found["F1"], found["Contains"]) == (0.0, pytest.approx(2 / 3), 1.0)
    assert (found["CiteP"], found["TTFT_ms"], found["Tokens"]) == (1.0, 12.5, 100.0)
    assert outcome_metrics([Question("q", "Where?")], [Outcome([Hit("a", 1.0)])]) == [{}]


def test_an_answer_that_abstains_counts_as_none():
    question = Question("q", "Where?", ("France",))
    (found,) = outcome_metrics([question], [Outcome(answer=Answer("France", abstained=True))])
    assert found == {"EM": 0.0, "F1": 0.0, "Contains": 0.0, "Abstain": 1.0}


def test_a_failed_question_counts_zero_where_the_data_can_judge():
    pytest.importorskip("ir_measures")
    judged, unjudged = Question("q", "?", ("x",), relevant={"a": 1}), Question("r", "?")
    first, second = outcome_metrics([judged, unjudged], [Outcome(error="no")] * 2)
    assert set(first.values()) == {0.0}
    assert {"nDCG@10", "EM", "F1", "Contains"} < set(first)
    assert "Abstain" not in first
    assert second == {}


def test_another_number_of_outcomes_is_an_error():
    with pytest.raises(ValueError, match="outcomes must be one a question, got 0 for 1"):
        outcome_metrics([Question("q", "?")], [])

"""Judges of drafts by token probability: FLARE's confidence and Self-RAG's need to retrieve."""

import math

import pytest

from rag.judging import Confidence, NeedsRetrieval
from rag.records import Completion, Judgement


def draft(*pairs):
    tokens = tuple(token for token, _ in pairs)
    return Completion("".join(tokens).strip(), tokens, tuple(math.log(p) for _, p in pairs))


DRAFT = draft((" in", 0.8), (" ", 0.01), ("Ulm", 0.4), (".", 0.02), ("\n", 0.1))


def test_confidence_is_that_of_the_least_probable_word():
    found = Confidence(threshold=0.41)(DRAFT)
    assert (found.passed, found.score) == (False, pytest.approx(0.4))
    assert found.reason == "least probable token 'Ulm' has 0.40"
    assert Confidence(threshold=0.39)(DRAFT).passed


def test_confidence_passes_at_the_threshold():
    assert Confidence(threshold=0.5)(draft(("a", 0.5))).passed


def test_nothing_written_is_nothing_doubted():
    assert Confidence()(Completion("")) == Judgement(True, 1.0, "nothing was written")
    assert Confidence()(draft((".", 0.01))).passed


def test_a_doubtful_draft_needs_retrieval():
    found = NeedsRetrieval(threshold=0.61)(DRAFT)
    assert (found.passed, found.score) == (True, pytest.approx(0.4))
    assert found.reason == "mean token probability is 0.60, so retrieve"
    sure = NeedsRetrieval(threshold=0.59)(DRAFT)
    assert not sure.passed
    assert sure.reason == "mean token probability is 0.60, so do not retrieve"


def test_a_mean_at_the_threshold_is_enough():
    assert not NeedsRetrieval(threshold=0.5)(draft(("a", 0.5))).passed


def test_no_draft_needs_retrieval():
    assert NeedsRetrieval(threshold=0.0)(Completion("")).passed


@pytest.mark.parametrize("judge", [Confidence(), NeedsRetrieval()])
def test_a_model_that_tells_no_probabilities_is_an_error(judge):
    with pytest.raises(ValueError, match="must hold log-probabilities, got none: its model"):
        judge(Completion("in Ulm"))


@pytest.mark.parametrize("judge", [Confidence, NeedsRetrieval])
@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_rejects_a_threshold_that_is_no_probability(judge, threshold):
    with pytest.raises(ValueError, match=rf"threshold must be in \[0, 1\], got {threshold}"):
        judge(threshold=threshold)

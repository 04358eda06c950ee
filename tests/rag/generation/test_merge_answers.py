"""Merging answers: what the model is shown, what it says, and when it is not asked."""

import pytest

from rag.generation.merge_answers import MergeAnswers
from rag.records import Answer, Completion, Query, TokenUse

QUERY = Query("Which is longer,\nthe Nile or the Danube?")
PARTS = [Query("How long is the Nile?"), Query("How long is the Danube?")]


@pytest.fixture
def answers(passage):
    nile = passage("n", "The Nile is 6,650 km long.")
    danube = passage("d", "The Danube is 2,850 km long.")
    return [
        Answer("6,650\nkm", passages=(nile,), mode="ape", tokens=TokenUse(5, 3, 2, 1)),
        Answer("2,850 km", passages=(danube, nile), mode="ape", tokens=TokenUse(5, 3, 2, 1)),
    ]


def end_of(prompt):
    return prompt.split("\n\n")[-1]


def test_the_model_reads_parts_with_answers_and_then_the_question(scripted, answers):
    lm = scripted("the Nile")
    found = MergeAnswers(lm)(QUERY, answers, PARTS)
    assert found.text == "the Nile"
    assert end_of(found.prompt) == (
        "Fact: How long is the Nile? 6,650 km\nFact: How long is the Danube? 2,850 km\n"
        "Question: Which is longer, the Nile or the Danube?\nAnswer:"
    )
    assert lm.prompts == [found.prompt]
    assert lm.options == [{"max_tokens": 32, "stop": ("\n",)}]


def test_parts_may_stay_unnamed_and_long_answers_are_cut(scripted, answers):
    lm = scripted("x")
    MergeAnswers(lm)(QUERY, [answers[0], Answer("z" * 900)])
    assert end_of(lm.prompts[0]).startswith(f"Fact: 6,650 km\nFact: {'z' * 294}\nQuestion:")


def test_the_answer_carries_merged_passages_fresh_citations_and_costs(scripted, answers):
    lm = scripted(Completion("6,650 km\nQuestion", (" 6", ",650 km"), (-0.1, -0.2), "length"))
    found = MergeAnswers(lm)(QUERY, answers, PARTS)
    assert [p.id for p in found.passages] == ["n", "d"]
    assert [(c.passage_id, c.number) for c in found.citations] == [("n", 1)]
    assert found.tokens == TokenUse(10, 6, 4, 4)
    assert (found.model, found.mode, found.finish) == ("scripted", "ape", "length")


def test_a_conclusion_that_no_passage_states_is_unsupported_but_no_abstention(scripted, answers):
    found = MergeAnswers(scripted("yes, certainly"))(QUERY, answers)
    assert not found.abstained
    assert found.citations == ()
    assert len(found.unsupported) == 1


@pytest.mark.parametrize("said", ["", " \n", "..."])
def test_without_words_of_the_model_the_last_part_stands(scripted, answers, said):
    found = MergeAnswers(scripted(said))(QUERY, [*answers, Answer("")])
    assert found.text == "2,850 km"
    assert [c.passage_id for c in found.citations] == ["d"]


def test_silent_parts_are_not_shown(scripted, answers):
    lm = scripted("x")
    silent = Answer("perhaps", abstained=True)
    MergeAnswers(lm)(QUERY, [silent, answers[1]], PARTS)
    assert end_of(lm.prompts[0]).startswith("Fact: How long is the Danube? 2,850 km\nQuestion")


def test_with_nothing_to_merge_the_model_is_not_asked(scripted, answers):
    lm = scripted("never")
    merge = MergeAnswers(lm)
    assert merge(QUERY, answers[:1]) == answers[0]
    silent = [Answer("a", abstained=True), Answer("b", abstained=True)]
    assert merge(QUERY, silent) == silent[1]
    assert merge(QUERY, []) == Answer("", abstained=True)
    assert lm.calls == []


def test_rejects_what_does_not_fit_by_name(scripted, answers):
    with pytest.raises(ValueError, match="queries must be one an answer, 2, got 1"):
        MergeAnswers(scripted("x"))(QUERY, answers, PARTS[:1])
    with pytest.raises(ValueError, match=r"instructions must contain \{answers\}"):
        MergeAnswers(scripted("x"), instructions="{question}")
    with pytest.raises(ValueError, match="max_tokens must be at least 1, got 0"):
        MergeAnswers(scripted("x"), max_tokens=0)

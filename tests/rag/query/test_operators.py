"""Query operators that ask a model: what they make of its words, and of garbage."""

from dataclasses import fields, replace

import pytest

from rag.query import Clarify, Condense, Decompose, HyDE, MultiQuery, Rewrite, StepBack
from rag.records import Query, Selection, SentenceScore, Span, Turn, text_sha

QUERY = Query("How tall is the tallest tree of Tasmania?")
GARBAGE = ["", "...", "tree tree tree tree tree tree", "{question}", "Question:"]
HISTORY = [Turn("user", "What grows in Tasmania?"), Turn("assistant", "Eucalyptus\n trees.")]
SINGLE = [Rewrite, StepBack, HyDE]
SEVERAL = [MultiQuery, Decompose]


def texts(queries):
    return [query.text for query in queries]


def test_rewrite_returns_the_search_words(scripted):
    lm = scripted("height tallest Tasmanian tree\nQuestion: next")
    assert Rewrite(lm)(QUERY) == Query("height tallest Tasmanian tree")


def test_rewrite_that_left_the_subject_falls_back_to_the_question(scripted):
    assert Rewrite(scripted("height of Kilimanjaro"))(QUERY) is QUERY


def test_multi_query_puts_the_question_first_and_drops_repetitions(scripted):
    lm = scripted(
        "how tall is tallest tree of Tasmania | tree heights | Tree heights! | tall trees"
    )
    found = MultiQuery(lm)(QUERY)
    assert texts(found) == [QUERY.text, "tree heights", "tall trees"]


def test_multi_query_returns_at_most_n_wordings_more(scripted):
    lm = scripted("tree a | tree b | tree c | unrelated")
    assert texts(MultiQuery(lm, n=1)(QUERY)) == [QUERY.text, "tree a"]
    assert len(MultiQuery(lm, n=9)(QUERY)) == 4


def test_decompose_returns_the_parts_at_most_n(scripted):
    lm = scripted("Which tree is it? | How tall is the tree? | Is it a tree? | What is love?")
    assert texts(Decompose(lm)(QUERY)) == [
        "Which tree is it?",
        "How tall is the tree?",
        "Is it a tree?",
    ]
    assert len(Decompose(lm, n=2)(QUERY)) == 2


def test_decompose_into_one_part_is_no_split(scripted):
    assert Decompose(scripted("Which tree? | which tree"))(QUERY) == [QUERY]


def test_step_back_returns_the_general_question(scripted):
    lm = scripted("What grows in Australia? Question")
    assert StepBack(lm)(QUERY) == Query("What grows in Australia?")


def test_step_back_keeps_a_question_a_question(scripted):
    assert StepBack(scripted("Trees grow."))(QUERY) is QUERY
    order = Query("Tell me about trees")
    assert StepBack(scripted("plants in general"))(order) == Query("plants in general")


def test_hyde_puts_the_question_before_the_passage_unless_told_not_to(scripted):
    lm = scripted("It is 100 metres tall? So they say.")
    assert HyDE(lm)(QUERY) == Query(f"{QUERY.text} It is 100 metres tall? So they say.")
    assert HyDE(lm, keep_question=False)(QUERY) == Query("It is 100 metres tall? So they say.")


@pytest.mark.parametrize("kind", SINGLE)
@pytest.mark.parametrize("said", GARBAGE)
def test_garbage_falls_back_to_the_question(scripted, kind, said):
    assert kind(scripted(said))(QUERY) is QUERY


@pytest.mark.parametrize("kind", SEVERAL)
@pytest.mark.parametrize("said", [*GARBAGE, "||", "| | |"])
def test_garbage_leaves_the_question_alone_in_the_list(scripted, kind, said):
    assert kind(scripted(said))(QUERY) == [QUERY]


@pytest.mark.parametrize("kind", SINGLE + SEVERAL)
def test_the_question_parroted_changes_nothing(scripted, kind):
    found = kind(scripted(QUERY.text))(QUERY)
    assert found in (QUERY, [QUERY], Query(f"{QUERY.text} {QUERY.text}"))


@pytest.mark.parametrize("kind", SINGLE + SEVERAL)
def test_a_batch_equals_a_loop_and_asks_once(scripted, kind):
    said = ["tall tree? | tree height?", "", "king of Spain? | when king?"]
    queries = [QUERY, Query("What is it?"), Query("Who was\nking {then}?")]
    lm = scripted(*said)
    batch = kind(lm).batch(query=queries)
    assert len(lm.calls) == 1
    assert batch == [kind(scripted(s))(q) for s, q in zip(said, queries, strict=True)]
    assert "Who was king {then}?" in lm.prompts[2]
    assert kind(scripted("never")).batch(query=[]) == []


@pytest.mark.parametrize("kind", SINGLE + SEVERAL)
def test_a_user_may_replace_the_prompt(scripted, kind):
    lm = scripted("tree")
    kind(lm, instructions="Q: {question}\nA:", max_tokens=5)(QUERY)
    assert lm.prompts == [f"Q: {QUERY.text}\nA:"]
    assert lm.options == [{"max_tokens": 5, "stop": ("\n",)}]


def test_condense_without_history_does_not_ask(scripted):
    lm = scripted("never")
    assert Condense(lm)(QUERY, []) is QUERY
    assert lm.calls == []


def test_condense_reads_the_latest_turns_each_on_one_short_line(scripted):
    lm = scripted("How tall are trees in Tasmania?")
    long = Turn("assistant", "wood " * 200)
    found = Condense(lm, max_turns=2)(Query("How tall?"), [*HISTORY[:1], long, HISTORY[1]])
    assert found == Query("How tall are trees in Tasmania?")
    end = lm.prompts[0].split("\n\n")[-1]
    wood = ("wood " * 60).rstrip()
    assert end == (
        f"Assistant: {wood}\nAssistant: Eucalyptus trees.\nLast question: How tall?\nFull question:"
    )


@pytest.mark.parametrize("said", [*GARBAGE, "They are tall.", "Who was Napoleon?"])
def test_condense_falls_back_on_garbage_statements_and_other_subjects(scripted, said):
    query = Query("How tall are they?")
    assert Condense(scripted(said))(query, HISTORY) is query


def test_condense_in_a_batch_asks_only_for_questions_with_a_history(scripted):
    lm = scripted("How tall are trees?")
    found = Condense(lm).batch(query=[QUERY, Query("How tall?")], history=[[], HISTORY])
    assert found == [QUERY, Query("How tall are trees?")]
    assert [len(call) for call in lm.calls] == [1]


def test_clarify_lists_readings_without_the_question(scripted, passage):
    lm = scripted(f"{QUERY.text} | the tallest living tree? | tallest fossil tree? | Why?")
    found = Clarify(lm)(QUERY, [passage("a")])
    assert texts(found) == ["the tallest living tree?", "tallest fossil tree?"]
    assert len(Clarify(lm, n=1)(QUERY, [passage("a")])) == 1


def test_clarify_reads_title_and_kept_text_of_the_best_passages(scripted, passage):
    lm = scripted("")
    pruned = passage("a", "One. Two.", title="Trees")
    sentences = (
        SentenceScore(Span(0, 5), 0.1, kept=False),
        SentenceScore(Span(5, 9), 0.9, kept=True),
    )
    pruned = replace(pruned, kept=Selection("a", text_sha("One. Two."), sentences, "test"))
    Clarify(lm, max_passages=2)(QUERY, [pruned, passage("b", "x" * 500), passage("c", "unseen")])
    end = lm.prompts[0].split("\n\n")[-1]
    assert end.startswith(f"Passage: Trees: Two.\nPassage: {'x' * 300}\nQuestion: How tall")


def test_clarify_without_passages_finds_nothing_and_does_not_ask(scripted, passage):
    lm = scripted("the tallest living tree?")
    found = Clarify(lm).batch(query=[QUERY, QUERY], passages=[[], [passage("a")]])
    assert found == [[], [Query("the tallest living tree?")]]
    assert [len(call) for call in lm.calls] == [1]


@pytest.mark.parametrize("said", GARBAGE)
def test_clarify_makes_nothing_of_garbage(scripted, passage, said):
    assert Clarify(scripted(said))(QUERY, [passage("a")]) == []


@pytest.mark.parametrize("kind", [*SINGLE, *SEVERAL, Condense, Clarify])
def test_rejects_options_by_name(scripted, kind):
    with pytest.raises(ValueError, match=r"instructions must contain \{\w+\}, got 'Say'"):
        kind(scripted(""), instructions="Say")
    numbers = [
        f.name for f in fields(kind) if f.name in {"n", "max_tokens", "max_turns", "max_passages"}
    ]
    assert "max_tokens" in numbers
    for name in numbers:
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            kind(scripted(""), **{name: 0})

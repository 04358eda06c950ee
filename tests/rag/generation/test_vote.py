"""Vote: the majority, ties, and the evidence of all who gave the answer."""

from rag.generation.vote import Vote
from rag.records import Answer, CacheUse, Span, TokenUse


def test_the_majority_of_normalised_answers_wins_with_the_earliest_text():
    found = Vote()([Answer("Danube"), Answer("The Nile."), Answer("nile"), Answer("Rhine")])
    assert found.text == "The Nile."


def test_ties_go_to_the_earliest():
    assert Vote()([Answer("b"), Answer("c"), Answer("C"), Answer("B")]).text == "b"


def test_empty_and_abstained_answers_do_not_vote():
    silent = [Answer("no", abstained=True), Answer("no", abstained=True), Answer(""), Answer("")]
    assert Vote()([*silent, Answer("yes")]).text == "yes"


def test_if_nobody_answered_the_majority_of_the_silent_stands():
    assert Vote()([Answer(""), Answer("no", abstained=True)]).text == ""
    assert Vote()([]) == Answer("", abstained=True)


def test_winners_merge_their_passages_and_losers_do_not(passage):
    a, b, c, d = (passage(id_) for id_ in "abcd")
    found = Vote()(
        [
            Answer("Nile", passages=(b, a)),
            Answer("Rhine", passages=(d,)),
            Answer("the Nile", passages=(c, a)),
        ]
    )
    assert found.passages == (b, a, c)


def test_citations_of_the_very_same_text_are_merged_and_numbered_anew(cited):
    text = "It is long. It is old."
    first, second = Span(0, 11), Span(12, 22)
    found = Vote()(
        [
            Answer(text, citations=(cited("b", 12, 22),), unsupported=(first,)),
            Answer(text, citations=(cited("a", 0, 11), cited("b", 12, 22, number=2))),
            Answer(text.upper(), citations=(cited("z", 0, 3),)),
        ]
    )
    assert [(c.number, c.passage_id, c.answer_start) for c in found.citations] == [
        (1, "a", 0),
        (2, "b", 12),
    ]
    assert found.unsupported == ()
    alone = Vote()([Answer(text, citations=(cited("b", 12, 22),), unsupported=(first, second))])
    assert alone.unsupported == (first,)


def test_costs_are_those_of_all_answers():
    parts = [
        Answer("x", cache=CacheUse(1, 2, 3, {"p": "absent"}), tokens=TokenUse(9, 4, 5, 2)),
        Answer("y", cache=CacheUse(1, 0, 5, {"p": "hit (ram)"}), tokens=TokenUse(7, 6, 1, 3)),
    ]
    timed = [
        Answer(p.text, cache=p.cache, tokens=p.tokens, timings_ms={"ttft": 1.5}) for p in parts
    ]
    found = Vote()(timed)
    assert found.cache == CacheUse(2, 2, 8, {"p": "hit (ram)"})
    assert found.tokens == TokenUse(16, 10, 6, 5)
    assert found.timings_ms == {"ttft": 3.0}

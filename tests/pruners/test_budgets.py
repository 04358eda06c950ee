"""Budgets: by hand, never exceeded by any tokenizer, and larger ones only add."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners import ThresholdPruner, estimated_tokens
from rag.records import Budget, Passage, PassageScores, Query, Span

QUERY = Query("Why?")


def passage(*sentences, id_="p", score=None):
    text = "".join(sentences)
    ends = [sum(map(len, sentences[:n])) for n in range(len(sentences) + 1)]
    spans = tuple(Span(a, b) for a, b in pairwise(ends))
    return Passage(id_, "doc", text, Span(0, len(text)), spans, score=score)


class Told:
    name = "told"

    def __init__(self, scores):
        self.scores = scores

    def __call__(self, query, passages):
        return [PassageScores(tuple(self.scores[p.id])) for p in passages]


def words(text):
    return len(text.split())


def merging(text):
    """Tokens that reach over sentences: one less for each space, so a text costs less than parts."""
    return max(1, len(text) - text.count(" "))


def splitting(text):
    """A text that costs more than its parts, and not in any regular way."""
    return len(text) + (len(text) * 7) % 5


def pruner(scores, **options):
    return ThresholdPruner(Told(scores), **({"count": words, "threshold": 0.25} | options))


def kept(selections):
    return {(s.passage_id, row) for s in selections for row in s.kept_rows}


A = passage("One. ", "Two two. ", "Three. ", id_="a")
B = passage("Four. ", "Five.", id_="b")
TOLD = {"a": (0.3, 0.5, 0.9), "b": (0.2, 0.4)}


def test_the_best_are_taken_until_one_does_not_fit():
    found = pruner(TOLD).select(QUERY, [A, B], budget=Budget(2))
    assert [[(s.kept, s.forced) for s in x.sentences] for x in found] == [
        [(False, "budget"), (False, "budget"), (True, None)],
        [(False, None), (False, "budget")],
    ]
    assert kept(pruner(TOLD).select(QUERY, [A, B], budget=Budget(3))) == {("a", 2), ("a", 1)}


def test_the_budget_of_the_pruner_holds_where_a_call_brings_none():
    assert kept(pruner(TOLD, budget=Budget(1)).select(QUERY, [A, B])) == {("a", 2)}


def test_the_text_that_is_left_counts_and_not_only_its_parts():
    dear = pruner(TOLD, count=lambda text: len(text.split()) ** 2)
    assert kept(dear.select(QUERY, [A], budget=Budget(8))) == {("a", 2)}
    assert kept(dear.select(QUERY, [A], budget=Budget(9))) == {("a", 1), ("a", 2)}


def test_parts_count_where_they_are_more_than_the_text():
    rough = pruner(TOLD, count=lambda text: 1)
    assert kept(rough.select(QUERY, [A], budget=Budget(1))) == {("a", 2)}


def test_a_budget_a_passage_ends_in_each_apart():
    found = pruner(TOLD).select(QUERY, [A, B], budget=Budget(1, scope="passage"))
    assert kept(found) == {("a", 2), ("b", 1)}


def test_a_minimum_of_each_passage_goes_before_all_others():
    found = pruner(TOLD).select(QUERY, [A, B], budget=Budget(2, per_passage_min=1))
    assert kept(found) == {("a", 2), ("b", 1)}
    low = pruner(TOLD, threshold=0.45).select(QUERY, [A, B], budget=Budget(2, per_passage_min=1))
    assert low[1].sentences[1].forced == "min_keep"


def test_what_is_protected_goes_before_what_scores_better():
    found = pruner(TOLD, min_keep=0, protect=["Four"]).select(QUERY, [A, B], budget=Budget(1))
    assert kept(found) == {("b", 0)}
    assert found[1].sentences[0].forced == "protect"


@pytest.mark.parametrize("threshold", [0.1, 0.25, 0.6])
def test_what_is_held_goes_first_whether_or_not_it_scores_above_the_threshold(threshold):
    held = pruner(TOLD, threshold=threshold, min_keep=0, protect=["Four"])
    assert kept(held.select(QUERY, [A, B], budget=Budget(1))) == {("b", 0)}


def test_what_min_keep_saves_goes_before_what_scores_better_elsewhere():
    scores = {"a": (0.1, 0.2, 0.9), "b": (0.2, 0.8)}
    found = pruner(scores, min_keep=2).select(QUERY, [A, B], budget=Budget(3))
    assert kept(found) == {("a", 1), ("a", 2)}


def test_a_title_comes_with_the_first_sentence_or_not_at_all():
    operator = pruner(TOLD, threshold=0.35, min_keep=0, always_select_title=True)
    assert kept(operator.select(QUERY, [A], budget=Budget(1))) == set()
    found = operator.select(QUERY, [A], budget=Budget(2))
    assert [(s.kept, s.forced) for s in found[0].sentences] == [
        (True, "title"), (False, "budget"), (True, None)
    ]  # fmt: skip
    assert kept(operator.select(QUERY, [A], budget=Budget(4))) == {("a", 0), ("a", 1), ("a", 2)}


def test_without_the_rule_no_title_comes():
    assert kept(pruner(TOLD, threshold=0.35).select(QUERY, [A], budget=Budget(2))) == {("a", 2)}


@st.composite
def scored(draw):
    sentence = st.text(st.sampled_from("ab. \n猫\u0301\r"), min_size=1, max_size=6)
    passages, scores = [], {}
    for number in range(draw(st.integers(0, 3))):
        sentences = draw(st.lists(sentence, max_size=4))
        passages.append(passage(*sentences, id_=f"p{number}"))
        scores[f"p{number}"] = tuple(draw(st.floats(0, 1)) for _ in sentences)
    return passages, scores


OPTIONS = st.fixed_dictionaries(
    {
        "threshold": st.sampled_from([0.0, 0.3, 1.0]),
        "min_keep": st.integers(0, 2),
        "always_select_title": st.booleans(),
        "protect": st.sampled_from([(), ("猫",)]),
        "skip_below_chars": st.sampled_from([0, 6]),
        "count": st.sampled_from([words, merging, splitting, estimated_tokens]),
    }
)


@given(
    case=scored(),
    options=OPTIONS,
    tokens=st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted),
    least=st.integers(0, 2),
    scope=st.sampled_from(["query", "passage"]),
)
def test_a_larger_budget_only_adds_and_none_is_exceeded_by_text_or_parts(
    case, options, tokens, least, scope
):
    passages, scores = case
    operator = pruner(scores, **options)
    small, large = (
        operator.select(QUERY, passages, budget=Budget(n, least, scope)) for n in tokens
    )
    assert kept(small) <= kept(large)
    for selections, most in ((small, tokens[0]), (large, tokens[1])):
        counts = []
        for p, s in zip(passages, selections, strict=True):
            parts = [x.span.of(p.text) for x in s.sentences if x.kept]
            count = options["count"]
            counts.append(max(count("".join(parts)), sum(map(count, parts))) if parts else 0)
        assert (sum(counts) if scope == "query" else max(counts, default=0)) <= most


@given(
    case=scored(),
    options=OPTIONS,
    tokens=st.integers(0, 30),
    thresholds=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    scope=st.sampled_from(["query", "passage"]),
)
def test_a_higher_threshold_only_drops_under_a_budget_too(case, options, tokens, thresholds, scope):
    passages, scores = case
    operator = pruner(scores, **(options | {"skip_below_chars": 0}))
    low, high = (
        operator.select(QUERY, passages, threshold=t, budget=Budget(tokens, 0, scope))
        for t in thresholds
    )
    assert kept(high) <= kept(low)


@given(case=scored(), options=OPTIONS)
def test_a_budget_for_everything_changes_nothing(case, options):
    passages, scores = case
    operator = pruner(scores, **options)
    roomy = operator.select(QUERY, passages, budget=Budget(10**6))
    assert roomy == operator.select(QUERY, passages)


@pytest.mark.parametrize("scope", ["query", "passage"])
def test_nothing_fits_into_nothing(scope):
    found = pruner(TOLD).select(QUERY, [A, B], budget=Budget(0, 1, scope))
    assert kept(found) == set()


def test_tokens_are_estimated_by_bytes():
    assert [estimated_tokens(text) for text in ("", "abc", "abcd", "猫", "\ud800")] == [
        0,
        1,
        2,
        1,
        1,
    ]

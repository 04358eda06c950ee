"""The decision shell: by hand, its rules one by one, the promises of a pruner, failures."""

import os
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners import RandomSentences, ThresholdPruner
from rag.protocols import Pruner
from rag.ranking import Ranking
from rag.records import Budget, Hit, Passage, PassageScores, Query, Span

QUERY = Query("Where do red cats sleep?")
ODD = "ab. \n\r\x00\u0301\u200d\u2028👩猫אب\ud800"


def passage(*sentences, id_="p", score=None):
    text = "".join(sentences)
    ends = [sum(map(len, sentences[:n])) for n in range(len(sentences) + 1)]
    spans = tuple(Span(a, b) for a, b in pairwise(ends))
    return Passage(id_, "doc", text, Span(0, len(text)), spans, score=score)


@dataclass
class Told:
    """Scores that a test tells it, by passage id."""

    scores: dict
    rerank: dict = field(default_factory=dict)
    calls: int = 0
    name = "told"

    def __call__(self, query, passages):
        self.calls += 1
        return [
            PassageScores(tuple(self.scores.get(p.id, ())), self.rerank.get(p.id)) for p in passages
        ]


class ToldTogether(Told):
    def score_batch(self, queries, passages):
        self.together = len(queries)
        return [
            [PassageScores(tuple(self.scores.get(p.id, ()))) for p in of_query]
            for of_query in passages
        ]


class Late:
    name = "late"

    def __init__(self):
        self.free = threading.Event()

    def __call__(self, query, passages):
        self.free.wait(30)
        return [PassageScores((0.0,) * len(p.sentences)) for p in passages]


A = passage("One. ", "Two. ", "Three.", id_="a")
B = passage("Four. ", "Five.", id_="b")
EMPTY = passage(id_="c")
TOLD = {"a": (0.1, 0.5, 0.9), "b": (0.2, 0.3)}


def pruner(scores=TOLD, rerank=None, **options):
    return ThresholdPruner(Told(scores, rerank or {}), **options)


def kept(selections):
    return {(s.passage_id, row) for s in selections for row in s.kept_rows}


def verdicts(selection):
    return [(s.kept, s.forced) for s in selection.sentences]


@st.composite
def scored(draw):
    """Passages of any text, their scores, and some of these scores as thresholds."""
    value = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
    sentence = st.text(st.sampled_from(ODD), min_size=1, max_size=6)
    passages, scores = [], {}
    for number in range(draw(st.integers(0, 4))):
        sentences = draw(st.lists(sentence, max_size=4))
        rank = draw(st.sampled_from([None, 0.5, 1.0]))
        passages.append(passage(*sentences, id_=f"p{number}", score=rank))
        scores[f"p{number}"] = tuple(draw(value) for _ in sentences)
    return passages, scores


RULES = st.fixed_dictionaries(
    {
        "always_select_title": st.booleans(),
        "protect": st.sampled_from([(), ("猫",), ("a", r"\d")]),
        "min_keep": st.integers(0, 2),
        "skip_below_chars": st.sampled_from([0, 6]),
    }
)


# --- the threshold


def test_a_sentence_stays_if_its_score_is_strictly_above():
    found = pruner(threshold=0.5, min_keep=0).select(QUERY, [A, B, EMPTY])
    assert kept(found) == {("a", 2)}
    assert [s.score for s in found[0].sentences] == [0.1, 0.5, 0.9]
    assert (found[0].method, found[0].threshold, found[0].unit) == ("told", 0.5, "sentence")
    assert (found[1].spans, found[2].sentences) == ((), ())


def test_the_call_of_select_may_bring_another_threshold_and_budget():
    found = pruner(threshold=0.9, budget=Budget(0)).select(
        QUERY, [A], threshold=0.4, budget=Budget(99)
    )
    assert (kept(found), found[0].threshold) == ({("a", 1), ("a", 2)}, 0.4)


@given(case=scored(), rules=RULES)
def test_at_0_every_passage_stays_byte_for_byte(case, rules):
    passages, scores = case
    found = pruner(scores, threshold=0.0, **rules).select(QUERY, passages)
    assert [s.text(p.text) for p, s in zip(passages, found, strict=True)] == [
        p.text for p in passages
    ]
    assert all(s.forced is None and s.score >= 1e-6 for x in found for s in x.sentences)


@given(case=scored())
def test_at_1_nothing_stays_without_a_guard(case):
    passages, scores = case
    assert kept(pruner(scores, threshold=1.0, min_keep=0).select(QUERY, passages)) == set()


@given(case=scored(), rules=RULES, ts=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted))
def test_a_higher_threshold_only_drops(case, rules, ts):
    passages, scores = case
    low, high = (pruner(scores, threshold=t, **rules).select(QUERY, passages) for t in ts)
    assert kept(high) <= kept(low)


@given(case=scored(), rules=RULES, threshold=st.floats(0, 1), tokens=st.integers(0, 20))
def test_spans_partition_the_text_and_what_stays_is_a_shorter_subsequence(
    case, rules, threshold, tokens
):
    passages, scores = case
    operator = pruner(scores, threshold=threshold, budget=Budget(tokens), **rules)
    for p, s in zip(passages, operator.select(QUERY, passages), strict=True):
        assert [x.span for x in s.sentences] == list(p.sentences)
        assert "".join(x.span.of(p.text) for x in s.sentences) == p.text
        characters = iter(p.text)
        assert all(c in characters for c in s.text(p.text))
        assert 0.0 <= s.keep_ratio <= 1.0
        assert s.text(p.text) == s.text(p.text)


@given(case=scored(), rules=RULES, threshold=st.floats(0, 1), data=st.data())
def test_the_order_of_passages_makes_no_difference(case, rules, threshold, data):
    passages, scores = case
    budget = data.draw(st.sampled_from([None, Budget(5), Budget(2, 1, "passage")]))
    operator = pruner(scores, threshold=threshold, budget=budget, **rules)
    shuffled = data.draw(st.permutations(passages))
    one, other = operator.select(QUERY, passages), operator.select(QUERY, shuffled)
    assert {s.passage_id: s for s in one} == {s.passage_id: s for s in other}
    assert [s.passage_id for s in other] == [p.id for p in shuffled]


@given(case=scored(), rules=RULES, threshold=st.floats(0, 1))
def test_decides_by_the_definition(case, rules, threshold):
    passages, scores = case
    ranked = sorted(
        (-max(score, 1e-6), -(p.score or 0.0), p.id, row)
        for p in passages
        for row, score in enumerate(scores[p.id])
    )
    expected = set()
    for p in passages:
        here = {row for row, score in enumerate(scores[p.id]) if max(score, 1e-6) > threshold}
        for row, span in enumerate(p.sentences):
            if any(word in span.of(p.text) for word in rules["protect"]):
                here.add(row)
        if len(p.text) < rules["skip_below_chars"]:
            here |= set(range(len(p.sentences)))
        if ranked and ranked[0][2] == p.id:
            here |= set([row for *_, id_, row in ranked if id_ == p.id][: rules["min_keep"]])
        if here and rules["always_select_title"]:
            here.add(0)
        expected |= {(p.id, row) for row in here}
    assert kept(pruner(scores, threshold=threshold, **rules).select(QUERY, passages)) == expected


def test_a_megabyte_without_a_full_stop_is_one_sentence():
    long = passage("x" * 10**6, "y.", id_="a")
    found = pruner({"a": (0.2, 0.8)}, threshold=0.5, budget=Budget(10)).select(QUERY, [long])
    assert found[0].text(long.text) == "y."


# --- guards


def test_the_title_stays_only_with_another_sentence():
    both = pruner(threshold=0.4, min_keep=0, always_select_title=True).select(QUERY, [A, B])
    assert verdicts(both[0]) == [(True, "title"), (True, None), (True, None)]
    assert verdicts(both[1]) == [(False, None), (False, None)]


def test_a_passage_of_one_sentence_is_no_exception_to_the_title_rule():
    only = passage("Title.", id_="a")
    for score, expected in ((0.3, (False, None)), (0.5, (True, None))):
        operator = pruner({"a": (score,)}, threshold=0.4, min_keep=0, always_select_title=True)
        assert verdicts(operator.select(QUERY, [only])[0]) == [expected]


def test_protected_sentences_stay_in_a_passage_of_which_nothing_else_does():
    found = pruner(threshold=1.0, min_keep=0, protect=[r"F\w+e\b"]).select(QUERY, [A, B])
    assert verdicts(found[1]) == [(False, None), (True, "protect")]
    assert kept(found) == {("b", 1)}


def test_a_match_protects_every_sentence_that_it_touches():
    split = passage("Call No. ", "5 now. ", "Bye.", id_="a")
    found = pruner({"a": (0, 0, 0)}, threshold=1.0, min_keep=0, protect=[r"No\. \d"])
    assert found.select(QUERY, [split])[0].kept_rows == (0, 1)
    ahead = replace(found, protect=[r"(?=Bye)"])
    assert ahead.select(QUERY, [split])[0].kept_rows == (2,)


def test_a_protected_sentence_above_the_threshold_is_not_called_forced():
    found = pruner(threshold=0.4, protect=["Three"]).select(QUERY, [A])
    assert verdicts(found[0])[2] == (True, None)


def test_short_passages_stay_whole():
    found = pruner(threshold=1.0, min_keep=0, skip_below_chars=12).select(QUERY, [A, B])
    assert len(B.text) == 11
    assert verdicts(found[0]) == [(False, None)] * 3
    assert verdicts(found[1]) == [(True, "short")] * 2
    assert kept(replace(pruner(), threshold=1.0, min_keep=0, skip_below_chars=11).select(
        QUERY, [A, B])) == set()  # fmt: skip


def test_the_best_sentences_of_the_best_passage_are_saved():
    found = pruner(threshold=1.0, min_keep=2).select(QUERY, [B, A])
    assert verdicts(found[1]) == [(False, None), (True, "min_keep"), (True, "min_keep")]
    assert kept(found) == {("a", 1), ("a", 2)}


# --- what comes back


def test_passages_come_back_in_order_with_the_decision_and_all_else_unchanged():
    operator = pruner(threshold=0.25)
    found = operator(QUERY, [B, A, EMPTY])
    assert [replace(p, kept=None) for p in found] == [B, A, EMPTY]
    assert [p.kept for p in found] == operator.select(QUERY, [B, A, EMPTY])


def test_top_k_cuts_in_the_order_given():
    assert [p.id for p in pruner(top_k=2)(QUERY, [B, EMPTY, A])] == ["b", "c"]
    assert len(pruner(top_k=2).select(QUERY, [B, EMPTY, A])) == 3


RANKS = {"a": -1.0, "b": 3.0, "d": -1.0}
D = passage("Six.", id_="d", score=9.0)


def test_reordering_is_by_rerank_score_stable_and_those_without_one_are_last():
    found = pruner(TOLD | {"d": (0.5,)}, RANKS, reorder=True)(QUERY, [EMPTY, D, A, B])
    assert [(p.id, p.score) for p in found] == [("b", 3.0), ("d", -1.0), ("a", -1.0), ("c", -1.0)]
    assert [p.kept.rerank_score for p in found] == [3.0, -1.0, -1.0, None]
    swapped = pruner(TOLD | {"d": (0.5,)}, RANKS, reorder=True)(QUERY, [A, D, B])
    assert [p.id for p in swapped] == ["b", "a", "d"]


def test_the_cut_comes_after_the_sort_and_falls_into_the_tail():
    passages = Ranking([A, B, D], [Hit("x", 0.2), Hit("y", 0.1)])
    found = pruner(TOLD | {"d": (0.5,)}, RANKS, reorder=True, top_k=1)(QUERY, passages)
    assert [p.id for p in found] == ["b"]
    assert [hit.id for hit in found.hits] == ["b", "a", "d", "x", "y"]
    assert [hit.score for hit in found.hits] == [3.0, -1.0, -1.0, -2.0, -3.0]


@given(case=scored(), threshold=st.floats(0, 1), k=st.integers(1, 4))
def test_neither_order_nor_cut_changes_what_stays_of_a_passage(case, threshold, k):
    passages, scores = case
    rerank = {p.id: float(len(p.text) % 2) for p in passages if p.sentences}
    whole = pruner(scores, rerank, threshold=threshold, min_keep=0)
    alone = {s.passage_id: s for s in whole.select(QUERY, passages)}
    found = replace(whole, reorder=True, top_k=k)(QUERY, passages)
    assert len(found) == min(k, len(passages))
    assert all(p.kept == alone[p.id] for p in found)


def test_the_rerank_score_does_not_depend_on_the_threshold():
    for threshold in (0.0, 0.5, 1.0):
        found = pruner(rerank=RANKS, threshold=threshold).select(QUERY, [A, B])
        assert [s.rerank_score for s in found] == [-1.0, 3.0]


def test_what_is_cut_takes_no_part_in_min_keep_and_budgets():
    operator = pruner(rerank=RANKS, threshold=0.9, min_keep=1, reorder=True, top_k=1)
    assert operator(QUERY, [A, B])[0].kept_rows == (1,)
    roomy = replace(operator, threshold=0.0, budget=Budget(2), count=lambda text: 1)
    assert roomy(QUERY, [A, B])[0].kept_rows == (0, 1)


def test_words_are_units_of_their_own():
    def words(query, passages):
        spans = (Span(0, 5), Span(5, 6), Span(6, 15))
        return [PassageScores((0.1, 0.9, 0.2), spans=spans) for _ in passages]

    words.name = "words"
    text = passage("Red cat ", "sleeps.", id_="a")
    found = ThresholdPruner(words, threshold=0.5, always_select_title=True).select(QUERY, [text])
    assert (found[0].unit, found[0].method) == ("word", "words")
    assert verdicts(found[0]) == [(True, "title"), (True, None), (True, "title")]
    wide = ThresholdPruner(words, threshold=0.5, protect=["at sl"]).select(QUERY, [text])
    assert wide[0].kept_rows == (1, 2)


# --- batches


def test_a_batch_equals_a_loop_and_asks_once():
    operator = ThresholdPruner(ToldTogether(TOLD), threshold=0.25)
    queries, passages = [QUERY, Query("Other?"), QUERY], [[A, B], [EMPTY], [B]]
    found = operator.batch(query=queries, passages=passages)
    assert (operator.scorer.together, operator.scorer.calls) == (2, 0)
    assert found == [operator(q, p) for q, p in zip(queries, passages, strict=True)]
    assert found == pruner(threshold=0.25).batch(query=queries, passages=passages)


def test_a_batch_with_one_failure_spares_the_others():
    operator = ThresholdPruner(ToldTogether(TOLD | {"b": (0.2, 7.0)}), threshold=0.25)
    with pytest.warns(RuntimeWarning, match=r"scores of passage 'b' must be in \[0, 1\], got 7.0"):
        (a,), (b,) = operator.batch(query=[QUERY, QUERY], passages=[[A], [B]])
    assert a.kept_rows == (1, 2)
    assert {s.forced for s in b.kept.sentences} == {"error"}


def test_a_batch_under_a_time_limit_gives_each_query_its_own():
    operator = ThresholdPruner(ToldTogether(TOLD), threshold=0.25, timeout_s=20)
    operator.batch(query=[QUERY, QUERY], passages=[[A], [B]])
    assert operator.scorer.calls == 2


@pytest.mark.parametrize("passages", [[], [EMPTY], [EMPTY, replace(EMPTY, id="d")]])
def test_passages_without_sentences_ask_no_scorer(passages):
    operator = pruner(budget=Budget(0), always_select_title=True)
    found = operator.select(QUERY, passages)
    assert [(s.sentences, s.rerank_score) for s in found] == [((), None)] * len(passages)
    assert operator.scorer.calls == 0


# --- failures


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"a": (0.1, 0.5)}, "scores of passage 'a' must be 3, got 2"),
        ({"a": (0.1, 0.5, float("nan"))}, "must be in .0, 1., got nan"),
        ({"a": (0.1, 0.5, -0.1)}, "must be in .0, 1., got -0.1"),
    ],
)
def test_scores_that_do_not_fit_are_an_error_or_keep_everything(scores, message):
    with pytest.raises(ValueError, match=message):
        pruner(scores, on_error="raise").select(QUERY, [A])
    with pytest.warns(RuntimeWarning, match=f"kept every sentence.*{message}"):
        found = pruner(scores, threshold=1.0).select(QUERY, [A])
    assert verdicts(found[0]) == [(True, "error")] * 3
    assert found[0].text(A.text) == A.text


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([], "scores must be of 1 passages, got 0"),
        ([PassageScores((0.1,) * 3, float("nan"))], "rerank_score of passage 'a' must be finite"),
        ([PassageScores((0.1,), spans=(Span(0, 3),))], "must partition its 16 code points"),
        ([PassageScores((0.1,) * 2, spans=(Span(0, 3), Span(4, 16)))], "must partition"),
    ],
)
def test_an_answer_that_does_not_fit_is_an_error(answer, message):
    def scorer(query, passages):
        return answer

    scorer.name = "odd"
    with pytest.raises(ValueError, match=message):
        ThresholdPruner(scorer, on_error="raise")(QUERY, [A])


def test_a_late_scorer_gives_the_originals_and_the_pipeline_goes_on():
    late = Late()
    began = time.monotonic()
    with pytest.warns(RuntimeWarning, match=r"TimeoutError.*longer than 0.05 s"):
        found = ThresholdPruner(late, timeout_s=0.05, threshold=1.0)(QUERY, [A, B])
    assert time.monotonic() - began < 20
    assert [p.kept.text(p.text) for p in found] == [A.text, B.text]
    late.free.set()
    with pytest.raises(TimeoutError):
        ThresholdPruner(Late(), timeout_s=0.01, on_error="raise")(QUERY, [A])


def test_a_scorer_in_time_is_as_without_a_limit():
    assert pruner(timeout_s=20)(QUERY, [A, B]) == pruner()(QUERY, [A, B])


def test_after_a_failure_order_stays_and_the_cut_still_holds():
    operator = pruner({}, RANKS, reorder=True, top_k=1)
    with pytest.warns(RuntimeWarning):
        assert [p.id for p in operator(QUERY, [A, B])] == ["a"]


def test_nothing_is_warned_of_when_nothing_is_wrong():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruner().select(QUERY, [A, B])


# --- the rest


def test_two_processes_decide_alike():
    code = (
        "from pruners import *; from rag.records import *\n"
        "p = [Passage(i, i, 'A. B. C.', Span(0, 8), (Span(0, 3), Span(3, 6), Span(6, 8)))"
        " for i in 'xyz']\n"
        "for scorer in (RandomSentences(0.5), BM25Sentences(), LeadSentences(1)):\n"
        "    print(ThresholdPruner(scorer, protect=['B'], budget=Budget(9)).select(Query('b'), p))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1


def test_satisfies_the_protocol_and_holds_no_state():
    operator: Pruner = ThresholdPruner(RandomSentences())
    assert operator.select(QUERY, [A, B]) == operator.select(QUERY, [A, B])
    assert operator == replace(operator)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": -0.1}, "threshold must be at least 0, got -0.1"),
        ({"threshold": float("nan")}, "got nan"),
        ({"min_keep": -1}, "min_keep must be at least 0, got -1"),
        ({"skip_below_chars": -1}, "skip_below_chars must be at least 0, got -1"),
        ({"timeout_s": 0.0}, "timeout_s must be above 0, got 0.0"),
        ({"on_error": "ignore"}, "on_error must be 'keep' or 'raise', got 'ignore'"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"protect": ["fine", "(bad"]}, r"protect must hold regular expressions, got '\(bad'"),
        ({"protect": "abc"}, "protect must be a list of patterns, got the text 'abc'"),
    ],
)
def test_rejects_options_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        pruner(**options)


def test_a_threshold_of_one_call_is_checked_too():
    with pytest.raises(ValueError, match="threshold must be at least 0, got -1"):
        pruner().select(QUERY, [A], threshold=-1)

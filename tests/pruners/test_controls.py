"""Controls: everything, chance and the beginning, whatever the query asks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners import KeepAll, LeadSentences, RandomSentences, ThresholdPruner
from rag.protocols import SentenceScorer
from rag.records import Passage, Query, Span

QUERY = Query("Why?")


def passage(count, id_="p"):
    spans = tuple(Span(row, row + 1) for row in range(count))
    return Passage(id_, "doc", "x" * count, Span(0, count), spans)


def rows(scorer, *passages, threshold=0.5, query=QUERY):
    pruner = ThresholdPruner(scorer, threshold=threshold, min_keep=0)
    return [s.kept_rows for s in pruner.select(query, passages)]


def test_keep_all_keeps_all_at_every_threshold_below_1():
    assert rows(KeepAll(), passage(3), passage(0), threshold=0.999) == [(0, 1, 2), ()]


def test_lead_keeps_the_first_k_of_each_passage_at_a_half():
    assert rows(LeadSentences(2), passage(4), passage(1)) == [(0, 1), (0,)]
    assert rows(LeadSentences(0), passage(2)) == [()]
    assert rows(LeadSentences(1), passage(4), threshold=0.3) == [(0, 1, 2)]


@given(k=st.integers(0, 30), count=st.integers(0, 40))
def test_lead_falls_and_crosses_a_half_after_k(k, count):
    (found,) = LeadSentences(k)(QUERY, [passage(count)])
    assert list(found.sentences) == sorted(found.sentences, reverse=True)
    assert all(1e-6 <= score <= 1.0 for score in found.sentences)
    assert sum(score > 0.5 for score in found.sentences) == min(k, count)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_chance_keeps_its_rate_at_a_half(rate):
    (kept,) = rows(RandomSentences(rate), passage(4000))
    assert len(kept) / 4000 == pytest.approx(rate, abs=0.03)


@given(
    rates=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted), threshold=st.floats(0.001, 0.999)
)
def test_a_larger_rate_only_adds(rates, threshold):
    few, many = (rows(RandomSentences(r), passage(40), threshold=threshold)[0] for r in rates)
    assert set(few) <= set(many)
    scores = RandomSentences(rates[0])(QUERY, [passage(40)])[0].sentences
    assert all(1e-6 <= score <= 1.0 for score in scores)


def test_chance_depends_on_seed_query_passage_and_row_alone():
    a, b = passage(50, "a"), passage(50, "b")
    scorer = RandomSentences()
    together = scorer(QUERY, [a, b])
    assert together == [scorer(QUERY, [a])[0], scorer(QUERY, [b])[0]]
    others = [RandomSentences(seed=1)(QUERY, [a])[0], scorer(Query("Who?"), [a])[0]]
    assert len({together[0], together[1], *others}) == 4
    assert len(set(together[0].sentences)) == 50


def test_satisfy_the_protocol():
    scorers: list[SentenceScorer] = [KeepAll(), RandomSentences(), LeadSentences()]
    assert [scorer.name for scorer in scorers] == ["all", "random", "lead"]


def test_rejects_fields_out_of_range():
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got 1.5"):
        RandomSentences(1.5)
    with pytest.raises(ValueError, match="k must be at least 0, got -1"):
        LeadSentences(-1)

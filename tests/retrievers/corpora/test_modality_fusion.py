"""Fusion within a modality: by hand, by its definition, and no text twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.ranking import Ranking
from rag.records import Hit, Passage, Span
from retrievers.corpora.modality_fusion import fused_granularities


def ids(passages):
    return [one.id for one in passages]


def spans(corpus, places):
    """A ranking of passages of document `d`, one a span, ids by their place."""
    return [
        Passage(f"d:{corpus}{n}", "d", "x" * (end - start), Span(start, end), (), score=1.0 / n)
        for n, (start, end) in enumerate(places, 1)
    ]


def test_corpora_take_turns_and_the_trusted_one_begins(made):
    small, large = made.ranking("z1", "z2", "z3"), made.ranking("a1", "a2")
    found = fused_granularities([small, large])
    assert ids(found) == ["z1", "a1", "z2", "a2", "z3"]
    assert [one.score for one in found] == [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert ids(fused_granularities([large, small]))[0] == "a1"


def test_an_id_in_both_goes_first(made):
    found = fused_granularities([made.ranking("a", "b"), made.ranking("c", "b")], rrf_k=1)
    assert ids(found) == ["b", "a", "c"]


def test_of_passages_within_each_other_the_better_stays():
    paragraphs = spans("", [(0, 10), (30, 40)])
    documents = spans("d", [(20, 50), (0, 15)])
    assert ids(fused_granularities([paragraphs, documents])) == ["d:1", "d:d1"]
    assert ids(fused_granularities([documents, paragraphs])) == ["d:d1", "d:1"]
    found = fused_granularities([paragraphs, documents])
    assert [hit.id for hit in found.hits] == ["d:1", "d:d1", "d:2", "d:d2"]


def test_passages_that_only_touch_or_overlap_both_stay():
    found = fused_granularities([spans("", [(0, 10), (5, 25)]), spans("d", [(10, 20)])])
    assert ids(found) == ["d:1", "d:d1"]
    assert ids(fused_granularities([spans("", [(0, 10)]), spans("d", [(5, 20)])])) == [
        "d:1",
        "d:d1",
    ]


def test_one_ranking_stays_as_it_is_but_for_nested_passages(made):
    alone = made.ranking("b", "a", tail=("c",))
    assert fused_granularities([alone]) is alone
    nested = Ranking(spans("", [(0, 10), (0, 90), (20, 30)]), [Hit("e", 0.1)])
    found = fused_granularities([nested])
    assert [(one.id, one.score) for one in found] == [("d:1", 1.0), ("d:3", 1 / 3)]
    assert [hit.id for hit in found.tail] == ["d:2", "e"]
    assert max(hit.score for hit in found.tail) < found[-1].score


def test_tails_follow(made):
    found = fused_granularities(
        [made.ranking("a", tail=("x", "y")), made.ranking("b", "c", tail=("z",))]
    )
    assert ids(found) == ["a", "b", "c"]
    assert {hit.id for hit in found.tail} == {"x", "y", "z"}


@pytest.mark.parametrize("rankings", [[[]], [[], []]])
def test_nothing_found_is_an_empty_ranking(rankings):
    assert fused_granularities(rankings) == []


places = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 15)).map(lambda p: (p[0], sum(p))), max_size=6
)


def by_definition(rankings):
    """Points of each passage, best first; then each against all that stay."""
    points = {}
    for place, ranking in enumerate(rankings):
        for rank, one in enumerate(ranking, 1):
            points[one.id] = (-1 / (60 + rank), place, one.id, one)
    kept = []
    for *_, one in sorted(points.values(), key=lambda value: value[:3]):
        inside = [set(range(*(p.span.start, p.span.end))) for p in (*kept, one)]
        if not any(inside[-1] <= other or other <= inside[-1] for other in inside[:-1]):
            kept.append(one)
    return ids(kept)


@given(st.lists(places, min_size=2, max_size=3))
def test_matches_the_definition(corpora):
    rankings = [spans(corpus, of) for corpus, of in zip("abc", corpora, strict=False)]
    found = fused_granularities(rankings)
    assert ids(found) == by_definition(rankings)
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)
    assert len({hit.id for hit in found.hits}) == len(scores) == sum(map(len, rankings))


def test_refuses_a_negative_k(made):
    with pytest.raises(ValueError, match="k must be at least 0, got -1"):
        fused_granularities([made.ranking("a"), made.ranking("b")], rrf_k=-1)

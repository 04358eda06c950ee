"""Fusions of passages: RRF by hand and by definition, the others, and what tails do to them."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.ranking import TAIL, Ranking
from rag.records import Hit, Passage, Span
from retrievers import RRF, Interleave, MinMax, Union, minmax_fusion, reciprocal_rank_fusion
from retrievers.fusion.borda import Borda
from retrievers.fusion.dbsf import DBSF
from retrievers.fusion.fuse import fuse
from retrievers.fusion.tm2c2 import TM2C2
from retrievers.fusion.zscore import ZScore

MERGES = [RRF(top_k=3), RRF(top_k=3, k=0), MinMax(top_k=3), Interleave(top_k=3)]
NAMED = {"zscore": ZScore, "dbsf": DBSF, "borda": Borda}
MERGES += [make(top_k=3, missing=gap) for make in NAMED.values() for gap in ("zero", "min")]


def passage(id_, score=None):
    return Passage(id_, "doc", f"Text {id_}.", Span(0, 7), (Span(0, 7),), score=score)


def ranking(heads, tail=""):
    """Passages and hits by letter; scores fall from 1 in steps of 1/8."""
    scores = [1 - place / 8 for place in range(len(heads) + len(tail))]
    passages = [passage(i, s) for i, s in zip(heads, scores, strict=False)]
    hits = [Hit(i, s) for i, s in zip(tail, scores[len(heads) :], strict=True)]
    return Ranking(passages, hits)


def ids(found):
    return "".join(p.id for p in found)


def all_ids(found):
    return "".join(hit.id for hit in found.hits)


def in_rank_order(hits):
    keys = [(-hit.score, hit.id) for hit in hits]
    return keys == sorted(set(keys))


letters = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=6)
some_rankings = st.lists(
    st.tuples(letters, st.integers(0, 6)).map(
        lambda drawn: ranking("".join(drawn[0][: drawn[1]]), "".join(drawn[0][drawn[1] :]))
    ),
    max_size=4,
)


def test_rrf_adds_up_reciprocal_ranks_from_one():
    found = RRF()([ranking("abc"), ranking("bd")])
    assert ids(found) == "bad"
    expected = [1 / 62 + 1 / 61, 1 / 61, 1 / 62]
    assert [p.score for p in found] == pytest.approx(expected)
    assert found.tail == (Hit("c", 1 / 63),)


def test_rrf_ties_go_by_id():
    assert ids(RRF()([ranking("ba"), ranking("ab")])) == "ab"


def test_rrf_weights_count_and_weight_zero_leaves_a_ranking_out():
    rankings = [ranking("ab"), ranking("c")]
    assert ids(RRF(weights=(1.0, 3.0))(rankings)) == "cab"
    assert all_ids(RRF(weights=(1.0, 0.0))(rankings)) == "ab"


@settings(max_examples=40)
@given(some_rankings, st.integers(0, 60))
def test_rrf_matches_its_definition(rankings, k):
    weights = [1.0 + place for place in range(len(rankings))]
    hits = [r.hits for r in rankings]
    found = {hit.id: hit.score for hit in reciprocal_rank_fusion(hits, weights, k=k)}
    for id_ in {hit.id for of_one in hits for hit in of_one}:
        ranks = [
            [h.id for h in one].index(id_) + 1 if id_ in [h.id for h in one] else math.inf
            for one in hits
        ]
        assert found[id_] == pytest.approx(
            sum(w / (k + rank) for w, rank in zip(weights, ranks, strict=True))
        )


def test_minmax_weighs_all_rankings_the_same():
    rankings = [ranking("ab", "c"), ranking("cb")]
    expected = minmax_fusion([r.hits for r in rankings], [0.5, 0.5])
    assert MinMax(top_k=9)(rankings).hits == expected
    assert MinMax(top_k=9, weights=(1.0, 0.0))(rankings)[0].score == 1.0


@pytest.mark.parametrize("missing", ["zero", "min"])
@pytest.mark.parametrize("name", ["zscore", "dbsf", "borda", "tm2c2"])
def test_operators_order_passages_as_their_function_orders_hits(name, missing):
    rankings, minima = [ranking("ab", "c"), ranking("cb"), ranking("")], (0.0, -1.0, 0.0)
    make = (lambda **options: TM2C2(minima, **options)) if name == "tm2c2" else NAMED[name]
    for weights in (None, (2.0, 0.5, 1.0), (0.0, 1.0, 0.0)):
        expected = fuse(
            [r.hits for r in rankings],
            weights or (1 / 3, 1 / 3, 1 / 3),
            method=name,
            missing=missing,
            minima=minima,
        )
        assert make(top_k=9, weights=weights, missing=missing)(rankings).hits == expected


def test_a_zscore_gap_is_the_least_unless_told_otherwise():
    rankings = [ranking("abcd"), ranking("e")]
    assert all_ids(ZScore(top_k=9)(rankings)) == "abcde"
    assert all_ids(ZScore(top_k=9, missing="zero")(rankings)) == "abecd"


def test_interleave_takes_turns_and_scores_by_rank():
    found = Interleave(top_k=5)([ranking("abc"), ranking("bde"), ranking("")])
    assert ids(found) == "abdce"
    assert [p.score for p in found] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])


def test_union_keeps_earlier_passages_in_place():
    earlier = [passage("b", 0.1), passage("a", 0.9)]
    found = Union(top_k=3)(earlier, ranking("acd", "e"))
    assert ids(found) == "bac"
    assert all_ids(found) == "bacde"
    assert [p.score for p in found] == pytest.approx([1, 1 / 2, 1 / 3])
    assert ids(Union()([], ranking("ab"))) == "ab"
    assert Union()([], []) == []


def test_union_that_is_full_takes_no_more():
    assert ids(Union(top_k=2)(ranking("ab"), ranking("cd"))) == "ab"


def test_union_puts_passages_before_tails():
    found = Union(top_k=9)(ranking("ab", "cd"), ranking("d", "ce"))
    assert (ids(found), all_ids(found)) == ("abd", "abdce")
    assert [hit.score for hit in found.hits] == [1 / rank for rank in range(1, 6)]


def test_an_id_without_passage_goes_to_the_tail_just_below_the_passages():
    rankings = [ranking("a", "x"), ranking("b", "x")]
    found = RRF()(rankings)
    assert reciprocal_rank_fusion([r.hits for r in rankings], [1, 1])[0].id == "x"
    assert (ids(found), all_ids(found)) == ("ab", "abx")
    assert found.tail[0].score == math.nextafter(found[-1].score, 0)


def test_without_any_passage_the_order_of_the_tail_stays():
    found = RRF()([ranking("", "ab"), ranking("", "b")])
    assert found == []
    assert found.tail == (Hit("b", 1 / 61 + 1 / 62), Hit("a", 1 / 61))


def test_of_several_copies_of_a_passage_the_first_is_returned():
    other = Passage("a", "other", "Text a.", Span(0, 7), (Span(0, 7),))
    assert RRF()([[other], ranking("a")])[0].document == "other"


@settings(max_examples=40)
@given(some_rankings, st.sampled_from(MERGES))
def test_scores_never_rise_ids_are_unique_and_nothing_is_lost(rankings, merge):
    found = merge(rankings)
    assert in_rank_order(found.hits)
    assert set(all_ids(found)) == {hit.id for r in rankings for hit in r.hits}
    readable = {p.id for r in rankings for p in r}
    assert set(ids(found)) <= readable
    assert len(found) == min(3, len(readable))


@settings(max_examples=40)
@given(some_rankings)
def test_a_larger_top_k_only_appends(rankings):
    for small, large in [(RRF(2), RRF(4)), (MinMax(2), MinMax(4)), (Interleave(2), Interleave(4))]:
        assert ids(large(rankings))[:2] == ids(small(rankings))


@settings(max_examples=40)
@given(some_rankings, some_rankings)
def test_union_invariants(first, second):
    earlier, new = Interleave(top_k=9)(first), Interleave(top_k=9)(second)
    found = Union(top_k=9)(earlier, new)
    assert in_rank_order(found.hits)
    assert ids(found).startswith(ids(earlier))
    assert ids(Union(top_k=9)(found, new)) == ids(found)
    assert ids(Union(top_k=9)(found, [])) == ids(found)


@settings(max_examples=40)
@given(some_rankings)
def test_merging_changes_no_passage_but_its_score(rankings):
    for found in RRF(top_k=9)(rankings):
        assert found.text == f"Text {found.id}."
    assert all(p.score <= 1 for r in rankings for p in r)


def test_the_result_is_no_longer_than_a_tail_allows():
    many = [Hit(f"{n:03}", 1.0 / (n + 1)) for n in range(TAIL)]
    found = RRF()([Ranking([passage("a", 2.0)], many), Ranking([], many[::-1])])
    assert len(found.hits) == TAIL


@pytest.mark.parametrize("merge", [RRF(), MinMax(), Interleave(), ZScore(), DBSF(), Borda()])
def test_nothing_merges_to_nothing(merge):
    assert merge([]) == merge([[], []]) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RRF(top_k=0), "top_k must be at least 1, got 0"),
        (lambda: MinMax(top_k=0), "top_k must be at least 1, got 0"),
        (lambda: Interleave(top_k=0), "top_k must be at least 1, got 0"),
        (lambda: Union(top_k=0), "top_k must be at least 1, got 0"),
        (lambda: ZScore(top_k=0), "top_k must be at least 1, got 0"),
        (lambda: DBSF(top_k=0), "top_k must be at least 1, got 0"),
        (lambda: Borda(top_k=0), "top_k must be at least 1, got 0"),
        (lambda: TM2C2((), top_k=0), "top_k must be at least 1, got 0"),
        (lambda: ZScore(missing="exact"), r"missing must be one of \('zero', 'min'\), got 'exact'"),
        (lambda: DBSF(missing="mean"), "missing must be one of"),
        (lambda: Borda(missing="theoretical"), "missing must be one of"),
        (lambda: TM2C2((0.0,), missing="exact"), "missing must be one of"),
        (lambda: TM2C2((math.inf,)), r"minima must be finite, got \[inf\]"),
        (lambda: TM2C2((0.0,))([[], []]), "minima must be one a ranking, 2, got 1"),
        (lambda: RRF(k=-1), "k must be at least 0, got -1"),
        (lambda: RRF(weights=(1.0, -1.0)), r"weights must be at least 0 and finite, got \[1.0"),
        (lambda: MinMax(weights=(math.nan,)), "weights must be at least 0 and finite"),
        (lambda: RRF(weights=(1.0,))([[], []]), "weights must be one a ranking, 2, got 1"),
        (lambda: MinMax(weights=(1.0,))([]), "weights must be one a ranking, 0, got 1"),
    ],
)
def test_rejects_options_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""Min-max fusion: by hand, by the definition, and two published conventions it must equal."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.records import Hit
from retrievers import minmax_fusion

SCORES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(-20, 20).map(float))


def hits(scores):
    return [Hit(id_, score) for id_, score in scores.items()]


def ranking(fused):
    return [hit.id for hit in fused]


def test_two_rankings_by_hand():
    sparse, dense = [Hit("a", 9.0), Hit("b", 3.0), Hit("c", 1.0)], [Hit("c", 0.9), Hit("a", 0.5)]
    # Of a, b and c the sparse shares are 1, 1/4 and 0; of a and c the dense shares are 0 and 1.
    assert minmax_fusion([sparse, dense], [0.4, 0.6]) == [
        Hit("c", pytest.approx(0.6)), Hit("a", pytest.approx(0.4)), Hit("b", pytest.approx(0.1))
    ]  # fmt: skip


@given(lists=st.lists(SCORES, max_size=4), seed=st.randoms())
def test_matches_the_definition(lists, seed):
    weights = [seed.choice([0.0, 0.3, 1.0, 2.5]) for _ in lists]
    expected = {}
    for scores, weight in zip(lists, weights, strict=True):
        if weight == 0:
            continue
        for id_, score in scores.items():
            low, high = min(scores.values()), max(scores.values())
            share = 1.0 if low == high else (score - low) / (high - low)
            expected[id_] = expected.get(id_, 0.0) + weight * share
    fused = minmax_fusion([hits(scores) for scores in lists], weights)
    assert {hit.id: hit.score for hit in fused} == pytest.approx(expected)
    assert fused == sorted(fused, key=lambda hit: (-hit.score, hit.id))
    assert len(set(ranking(fused))) == len(fused)


@given(sparse=SCORES, dense=SCORES, weight=st.sampled_from([0.1, 0.5, 0.8]))
def test_a_missing_id_counts_as_the_least_of_the_list(sparse, dense, weight):
    # Lists of equal scores are set apart: their least is also their most.
    if len(set(sparse.values())) < 2 or len(set(dense.values())) < 2:
        return
    union = sparse.keys() | dense.keys()
    filled = [{id_: s.get(id_, min(s.values())) for id_ in union} for s in (sparse, dense)]
    as_given = minmax_fusion([hits(sparse), hits(dense)], [weight, 1 - weight])
    assert as_given == minmax_fusion([hits(s) for s in filled], [weight, 1 - weight])


@given(sparse=SCORES, dense=SCORES, alpha=st.sampled_from([0.1, 0.5, 1.0, 3.0]))
def test_ranks_as_pyserini_does_at_weight_alpha_over_one_plus_alpha(sparse, dense, alpha):
    # Pyserini centres each list to [-.5, .5], fills gaps with the least, and weights sparse only.
    if len(set(sparse.values())) < 2 or len(set(dense.values())) < 2:
        return

    def centred(scores, id_):
        low, high = min(scores.values()), max(scores.values())
        return (scores.get(id_, low) - (low + high) / 2) / (high - low)

    theirs = {
        id_: alpha * centred(sparse, id_) + centred(dense, id_)
        for id_ in sparse.keys() | dense.keys()
    }
    weight = alpha / (1 + alpha)
    fused = minmax_fusion([hits(sparse), hits(dense)], [weight, 1 - weight])
    # Centring takes half of each weight away, so ours is theirs moved and scaled.
    assert {hit.id: (1 + alpha) * (hit.score - 0.5) for hit in fused} == pytest.approx(theirs)


@given(scores=SCORES, weight=st.sampled_from([0.2, 1.0]))
def test_one_ranking_keeps_its_order(scores, weight):
    order = sorted(scores, key=lambda id_: (-scores[id_], id_))
    assert ranking(minmax_fusion([hits(scores)], [weight])) == order


@given(sparse=SCORES, dense=SCORES)
def test_a_ranking_of_weight_zero_adds_nothing(sparse, dense):
    both = minmax_fusion([hits(sparse), hits(dense)], [0.0, 1.0])
    assert both == minmax_fusion([hits(dense)], [1.0])


def test_equal_scores_add_the_whole_weight_and_tie_by_id():
    assert minmax_fusion([[Hit("b", 3.0), Hit("a", 3.0)]], [0.5]) == [Hit("a", 0.5), Hit("b", 0.5)]


def test_nothing_fuses_to_nothing():
    assert minmax_fusion([], []) == minmax_fusion([[], []], [0.5, 0.5]) == []


@pytest.mark.parametrize(
    ("rankings", "weights", "message"),
    [
        ([[]], [], "rankings and weights must be as long, got 1 and 0"),
        ([[]], [-1.0], r"weights must be at least 0 and finite, got \[-1.0\]"),
        ([[]], [math.nan], r"got \[nan\]"),
        ([[], [Hit("a", 1.0), Hit("a", 2.0)]], [1, 1], r"rankings\[1\] must hold each id once"),
        ([[Hit("a", math.inf)]], [1.0], r"rankings\[0\] must hold finite scores"),
    ],
)
def test_rejects_what_it_cannot_fuse(rankings, weights, message):
    with pytest.raises(ValueError, match=message):
        minmax_fusion(rankings, weights)

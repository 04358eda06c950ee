"""Every fusion method by hand and by its formula, what gaps count, and what must hold for all."""

import math
from fractions import Fraction
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.records import Hit
from retrievers.fusion.borda import borda_fusion
from retrievers.fusion.dbsf import dbsf_fusion
from retrievers.fusion.fuse import Method, Missing, check_fusion, fuse
from retrievers.fusion.gaps import Gaps
from retrievers.fusion.interleave import interleave
from retrievers.fusion.rrf import reciprocal_rank_fusion
from retrievers.fusion.tm2c2 import tm2c2_fusion
from retrievers.fusion.zscore import zscore_fusion

METHODS = get_args(Method)
BY_SCORE = ["minmax", "zscore", "dbsf", "tm2c2"]
BY_RANK = ["rrf", "borda", "interleave"]
SYMMETRIC = [method for method in METHODS if method != "interleave"]

scores = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 20).map(float))
weights = st.sampled_from([0.0, 0.3, 1.0, 2.5])
some = st.lists(st.tuples(scores, weights), max_size=4)
wild = st.dictionaries(
    st.sampled_from("abcd"),
    st.one_of(
        st.floats(-1e150, 1e150), st.floats(0, 1e-300), st.sampled_from([0.1, 0.1 + 2e-17, 5e-324])
    ),
)


def hits(of_one):
    """Hits of a dictionary, best first, ties by id."""
    return sorted((Hit(i, s) for i, s in of_one.items()), key=lambda hit: (-hit.score, hit.id))


def fused(lists, with_weights, method, missing="zero", **more):
    minima = [0.0] * len(lists)
    rankings = [hits(of_one) for of_one in lists]
    return fuse(rankings, with_weights, method=method, missing=missing, minima=minima, **more)


def values(found):
    return {hit.id: hit.score for hit in found}


def order(found):
    return [hit.id for hit in found]


def combinations():
    return [(m, g) for m in METHODS for g in get_args(Missing) if m in BY_SCORE or g in ("zero", "min")]  # fmt: skip


def exactly(lists):
    """Exact scores for `missing="exact"`: of ids that a list lacks, by their letter."""
    return lambda place, ids: [(ord(id_) % 5 + place) / 2 for id_ in ids]


# By hand ------------------------------------------------------------------------------------------

ONE, OTHER = {"a": 9.0, "b": 3.0, "c": 0.0}, {"c": 3.0, "d": 1.0}


def test_zscore_by_hand():
    # Mean 4, deviation sqrt(14); mean 2, deviation 1.
    found = values(zscore_fusion([hits(ONE), hits(OTHER)], [1.0, 2.0]))
    root = math.sqrt(14)
    assert found == pytest.approx({"a": 5 / root, "b": -1 / root, "c": 2 - 4 / root, "d": -2.0})
    found = values(zscore_fusion([hits(ONE), hits(OTHER)], [1.0, 2.0], Gaps("min")))
    assert found["a"] == pytest.approx(5 / root - 2)
    assert found["d"] == pytest.approx(-2 - 4 / root)


def test_dbsf_by_hand():
    found = values(dbsf_fusion([hits(ONE), hits(OTHER)], [1.0, 1.0]))
    root = math.sqrt(14)
    assert found == pytest.approx(
        {
            "a": 1 / 2 + 5 / root / 6,
            "b": 1 / 2 - 1 / root / 6,
            "c": 1 / 2 - 4 / root / 6 + 2 / 3,
            "d": 1 / 3,
        }
    )


def test_dbsf_clamps_nothing():
    outlier = {f"{place:02}": 0.0 for place in range(30)} | {"x": 1.0}
    first = dbsf_fusion([hits(outlier)], [1.0])[0]
    # One of 31: its z-score is sqrt(30).
    assert (first.id, first.score) == ("x", pytest.approx(0.5 + math.sqrt(30) / 6))
    assert first.score > 1.0


def test_tm2c2_by_hand():
    minima = Gaps(minima=(0.0, -1.0))
    found = values(tm2c2_fusion([hits(ONE), hits({"c": 0.6, "d": 0.2})], [0.2, 0.8], minima))
    expected = {"a": 0.2, "b": 0.2 / 3, "c": 0.8, "d": 0.8 * 1.2 / 1.6}
    assert found == pytest.approx(expected)


def test_tm2c2_does_not_depend_on_the_depth():
    minima = Gaps(minima=(0.0,))
    whole = tm2c2_fusion([hits(ONE)], [1.0], minima)
    assert tm2c2_fusion([hits(ONE)[:2]], [1.0], minima) == whole[:2]


def test_borda_by_hand():
    found = values(borda_fusion([hits(ONE), hits(OTHER)], [1.0, 3.0]))
    assert found == pytest.approx({"a": 1.0, "b": 2 / 3, "c": 1 / 3 + 3.0, "d": 1.5})


def test_two_first_ranks_add_up_by_rrf():
    found = reciprocal_rank_fusion([[Hit("a", 1.0)], [Hit("a", 9.0)]], [1.0, 1.0])
    assert found == [Hit("a", 2 / 61)]


def test_interleave_passes_over_what_has_no_weight():
    rankings = [hits(ONE), hits(OTHER), hits({"e": 1.0})]
    assert order(interleave(rankings, [0.1, 5.0, 1.0])) == list("acebd")
    assert interleave(rankings, [1.0, 0.0, 1.0])[:3] == [Hit("a", 1), Hit("e", 1 / 2), Hit("b", 1 / 3)]  # fmt: skip


# By the formula -----------------------------------------------------------------------------------


def deviation(of_one):
    mean = sum(of_one.values()) / len(of_one)
    return mean, math.sqrt(sum((s - mean) ** 2 for s in of_one.values()) / len(of_one))


def read_literally(method, of_one, id_, score):
    """What a list adds for an id of some score, and nothing shared with the implementation."""
    low, high = min(of_one.values()), max(of_one.values())
    if method == "minmax":
        return (score - low) / (high - low) if high > low else float(score >= low)
    if method == "tm2c2":
        return score / high if high > 0 else 0.0
    if method == "zscore":
        mean, sd = deviation(of_one)
        return (score - mean) / sd if high > low else 0.0
    if method == "dbsf":
        mean, sd = deviation(of_one)
        span = (mean + 3 * sd) - (mean - 3 * sd)
        return (score - (mean - 3 * sd)) / span if high > low else (0.5 if score >= low else 0.0)
    ranked = sorted(of_one, key=lambda other: (-of_one[other], other))
    rank = ranked.index(id_) + 1 if id_ in ranked else len(ranked)
    return 1 / (60 + rank) if method == "rrf" else (len(ranked) - rank + 1) / len(ranked)


@settings(max_examples=60)
@given(some, st.sampled_from([c for c in combinations() if c[0] != "interleave"]))
def test_matches_the_formula(drawn, combination):
    method, missing = combination
    lists, given_weights = [d[0] for d in drawn], [d[1] for d in drawn]
    union = {id_ for of_one, weight in drawn if weight > 0 for id_ in of_one}
    expected = dict.fromkeys(union, 0.0)
    for place, (of_one, weight) in enumerate(drawn):
        if missing == "exact":
            absent = [id_ for id_ in union if id_ not in of_one]
            of_one = of_one | dict(zip(absent, exactly(lists)(place, absent), strict=True))  # noqa: PLW2901
        if weight == 0 or not of_one:
            continue
        fillers = {"zero": None, "min": min(of_one.values()), "theoretical": 0.0, "exact": None}
        for id_ in union:
            score = of_one.get(id_, fillers[missing])
            if score is not None:
                expected[id_] += weight * read_literally(method, of_one, id_, score)
    found = fused(lists, given_weights, method, missing, score=exactly(lists))
    assert values(found) == pytest.approx(expected, abs=1e-9)


@given(scores, scores, st.sampled_from([0.1, 0.5, 1.0, 3.0]))
def test_minmax_ranks_as_pyserini_does_with_normalisation(sparse, dense, alpha):
    # In fractions, so that ties are ties: each list moved to its middle, the least for a gap.
    if len(set(sparse.values())) < 2 or len(set(dense.values())) < 2:
        return

    def moved(of_one, id_):
        low, high = Fraction(min(of_one.values())), Fraction(max(of_one.values()))
        return (Fraction(of_one.get(id_, float(low))) - (low + high) / 2) / (high - low)

    union = sparse.keys() | dense.keys()
    theirs = {i: Fraction(alpha) * moved(sparse, i) + moved(dense, i) for i in union}
    weight = alpha / (1 + alpha)
    found = order(fused([sparse, dense], [weight, 1 - weight], "minmax"))
    for before, after in pairwise(found):
        assert theirs[before] >= theirs[after] - Fraction(1, 10**12)


# Gaps ---------------------------------------------------------------------------------------------


@given(scores, scores)
def test_a_gap_counts_the_same_as_the_least_under_minmax(sparse, dense):
    # Lists of equal scores are set apart: their least is also their most.
    if len(set(sparse.values())) == 1 or len(set(dense.values())) == 1:
        return
    zero = fused([sparse, dense], [0.3, 0.7], "minmax", "zero")
    assert fused([sparse, dense], [0.3, 0.7], "minmax", "min") == zero


@given(scores, scores)
def test_a_gap_counts_the_same_as_the_theoretical_minimum_under_tm2c2(sparse, dense):
    zero = fused([sparse, dense], [0.3, 0.7], "tm2c2", "zero")
    assert fused([sparse, dense], [0.3, 0.7], "tm2c2", "theoretical") == zero


def test_a_theoretical_minimum_goes_through_the_normalisation_of_the_list():
    rankings = [[Hit("a", 4.0), Hit("b", 2.0)], [Hit("c", 0.5), Hit("a", 0.0)]]
    found = fuse(rankings, [1.0, 1.0], missing="theoretical", minima=[0.0, -1.0])
    # The first scales 0 to -1 and the second -1 to -2.
    assert values(found) == {"a": 1.0, "b": -2.0, "c": 0.0}


def test_a_theoretical_minimum_is_less_than_a_lone_hit():
    for method in ("minmax", "dbsf", "tm2c2"):
        found = fuse([[Hit("b", 4.0)], [Hit("a", 4.0)]], [2.0, 1.0], method=method, missing="theoretical", minima=[0.0, 0.0])  # fmt: skip
        assert order(found) == ["b", "a"], method


def test_exact_scores_are_asked_for_gaps_only_and_join_the_normalisation():
    asked = []

    def score(place, ids):
        asked.append((place, list(ids)))
        return [1.0] * len(ids)

    lists = [{"a": 5.0, "b": 2.0}, {"b": 3.0, "c": 2.0}, {"z": 1.0}]
    found = fused(lists, [1.0, 1.0, 0.0], "minmax", "exact", score=score)
    assert asked == [(0, ["c"]), (1, ["a"])]
    assert values(found) == pytest.approx({"a": 1.0, "b": 1 / 4 + 1.0, "c": 1 / 2})


@pytest.mark.parametrize("method", BY_SCORE)
def test_exact_scores_of_an_empty_list_that_are_all_equal_keep_the_order_of_the_other(method):
    found = fused([{}, ONE], [0.5, 0.5], method, "exact", score=lambda _, ids: [0.0] * len(ids))
    assert order(found) == list("abc")


@pytest.mark.parametrize("method", ["rrf", "borda"])
def test_a_gap_counts_as_the_last_rank(method):
    found = values(fused([ONE, OTHER], [1.0, 1.0], method, "min"))
    zero = values(fused([ONE, OTHER], [1.0, 1.0], method, "zero"))
    last = {"rrf": (1 / 63, 1 / 62), "borda": (1 / 3, 1 / 2)}[method]
    assert found["d"] - zero["d"] == pytest.approx(last[0])
    assert found["a"] - zero["a"] == pytest.approx(last[1])
    assert found["c"] == zero["c"]


# For all methods ----------------------------------------------------------------------------------


@settings(max_examples=60)
@given(some, st.sampled_from(combinations()))
def test_holds_each_id_of_a_weighed_list_once_best_first_ties_by_id(drawn, combination):
    lists, given_weights = [d[0] for d in drawn], [d[1] for d in drawn]
    found = fused(lists, given_weights, *combination, score=exactly(lists))
    assert sorted(order(found)) == sorted({i for of_one, w in drawn if w > 0 for i in of_one})
    assert found == sorted(found, key=lambda hit: (-hit.score, hit.id))


@settings(max_examples=60)
@given(some, st.sampled_from(combinations()))
def test_a_list_of_weight_zero_adds_nothing(drawn, combination):
    lists, given_weights = [d[0] for d in drawn], [d[1] for d in drawn]
    minima = [0.0, *(0.0 for _ in lists)]
    rest = fuse(
        [hits(d) for d in lists],
        given_weights,
        method=combination[0],
        missing="min" if combination[1] == "exact" else combination[1],
        minima=minima[1:],
    )
    more = fuse(
        [hits({"a": 1.0, "x": 7.0}), *(hits(d) for d in lists)],
        [0.0, *given_weights],
        method=combination[0],
        missing="min" if combination[1] == "exact" else combination[1],
        minima=minima,
    )
    assert more == rest


@settings(max_examples=60)
@given(some, st.sampled_from(SYMMETRIC), st.sampled_from(["zero", "min"]))
def test_the_order_of_the_lists_makes_no_difference(drawn, method, missing):
    lists, given_weights = [d[0] for d in drawn], [d[1] for d in drawn]
    forwards = fused(lists, given_weights, method, missing)
    assert fused(lists[::-1], given_weights[::-1], method, missing) == forwards


@settings(max_examples=60)
@given(some, st.sampled_from(BY_SCORE), st.randoms(use_true_random=False))
def test_the_order_of_the_hits_makes_no_difference_to_scores(drawn, method, seed):
    rankings, given_weights = [hits(d[0]) for d in drawn], [d[1] for d in drawn]
    shuffled = [seed.sample(ranking, len(ranking)) for ranking in rankings]
    minima = [0.0] * len(rankings)
    as_given = fuse(rankings, given_weights, method=method, minima=minima)
    assert fuse(shuffled, given_weights, method=method, minima=minima) == as_given


@given(scores, st.sampled_from(METHODS))
def test_one_list_keeps_its_order(of_one, method):
    in_order = order(hits(of_one))
    assert order(fused([of_one], [0.5], method)) == in_order
    # The other leg's own ids come with it only where it has a weight.
    assert order(fused([of_one, {"x": 1.0}], [1.0, 0.0], method)) == in_order


@given(scores, scores, st.sampled_from(["minmax", "zscore", "dbsf"]), st.integers(-9, 9))
def test_moving_and_scaling_a_list_changes_nothing(sparse, dense, method, move):
    moved = {id_: 4.0 * score + move for id_, score in dense.items()}
    expected = values(fused([sparse, dense], [0.3, 0.7], method))
    assert values(fused([sparse, moved], [0.3, 0.7], method)) == pytest.approx(expected, abs=1e-9)


@given(scores, scores)
def test_scaling_a_list_changes_nothing_under_tm2c2(sparse, dense):
    scaled = {id_: 4.0 * score for id_, score in dense.items()}
    expected = fused([sparse, dense], [0.3, 0.7], "tm2c2")
    assert fused([sparse, scaled], [0.3, 0.7], "tm2c2") == expected


@given(scores, scores, st.sampled_from(BY_RANK))
def test_any_rising_map_of_a_list_changes_nothing_for_ranks(sparse, dense, method):
    risen = {id_: math.exp(score) - 3.0 for id_, score in dense.items()}
    expected = fused([sparse, dense], [0.3, 0.7], method)
    assert fused([sparse, risen], [0.3, 0.7], method) == expected


@settings(max_examples=60)
@given(wild, wild, st.sampled_from(combinations()))
def test_never_gives_a_nan(sparse, dense, combination):
    minima = [min(of_one.values(), default=0.0) for of_one in (sparse, dense)]
    found = fuse(
        [hits(sparse), hits(dense)],
        [0.5, 0.5],
        method=combination[0],
        missing=combination[1],
        minima=minima,
        score=lambda _, ids: [0.1] * len(ids),
    )
    assert all(math.isfinite(hit.score) for hit in found)


@pytest.mark.parametrize(("method", "missing"), combinations())
def test_nothing_one_and_equal_scores(method, missing):
    def of(*lists):
        return fused(lists, [0.5] * len(lists), method, missing, score=lambda _, i: [1.0] * len(i))

    assert of() == of({}, {}) == []
    assert order(of({}, {"a": 1.0})) == ["a"]
    assert order(of({"b": 2.0, "a": 2.0, "c": 2.0}, {})) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("method", "expected"), [("minmax", 1.0), ("zscore", 0.0), ("dbsf", 0.5), ("tm2c2", 1.0)]
)
def test_equal_scores_of_a_list_count(method, expected):
    # The mean of three times 0.1 is not 0.1 in floating point.
    found = fused([{"a": 0.1, "b": 0.1, "c": 0.1}], [1.0], method)
    assert [hit.score for hit in found] == [expected] * 3


def test_tm2c2_of_a_list_at_its_minimum_adds_nothing():
    just_below = -1.0 - 1e-7
    for lowest in (-1.0, just_below):
        found = tm2c2_fusion([[Hit("a", lowest)]], [1.0], Gaps(minima=(-1.0,)))
        assert found == [Hit("a", 0.0)]


def unlike(**options):
    return lambda: fuse([hits(ONE), hits(OTHER)], [0.5, 0.5], **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (unlike(method="rank"), r"method must be one of \('minmax', .*, got 'rank'"),
        (unlike(missing="none"), r"missing must be one of \('zero', .*, got 'none'"),
        (unlike(missing="theoretical"), "missing='theoretical' needs minima, one a ranking"),
        (unlike(missing="exact"), "missing='exact' needs score"),
        (unlike(method="tm2c2"), "tm2c2 needs minima, one a ranking, got None"),
        (unlike(method="tm2c2", minima=[0.0]), "minima must be one a ranking, 2, got 1"),
        (unlike(missing="theoretical", minima=[0.0, math.nan]), r"minima must be finite, got \[0.0, nan\]"),
        (unlike(method="tm2c2", minima=[9.5, 0.0]), r"minima\[0\] must be at most the scores of rankings\[0\], got 9.5 and at most 9.0"),
        (unlike(method="rrf", missing="exact"), r"missing must be one of \('zero', 'min'\) for rrf, which reads ranks, got 'exact'"),
        (unlike(method="borda", missing="theoretical"), r"for borda, which reads ranks, got 'theoretical'"),
        (unlike(method="interleave", missing="exact"), r"for interleave, which reads ranks"),
        (unlike(missing="exact", score=lambda _, ids: []), r"score\(0, ids\) must give one score an id, 1, got 0"),
        (unlike(missing="exact", score=lambda _, ids: [math.nan] * len(ids)), r"rankings\[0\] must hold finite scores"),
        (lambda: check_fusion("rrf", "exact"), "which reads ranks"),
        (lambda: fuse([[]], []), "rankings and weights must be as long, got 1 and 0"),
        (lambda: interleave([[]], [math.inf]), "weights must be at least 0 and finite"),
        (lambda: fuse([[Hit("a", 1.0), Hit("a", 2.0)]], [1.0], method="borda"), r"rankings\[0\] must hold each id once"),
        (lambda: reciprocal_rank_fusion([], [], k=-1), "k must be at least 0, got -1"),
        (lambda: fuse([[Hit("a", 1e151)]], [1.0]), "finite scores within 1e150 of 0, got 1e"),
    ],
)  # fmt: skip
def test_rejects_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()

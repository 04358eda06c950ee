"""Graph expansion: the blend read literally with networkx as oracle, invariants, errors."""

import asyncio
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.ranking import Ranking
from rag.records import Passage, Query, Span
from retrievers.graph.corpus_graph import CorpusGraph, Facts
from retrievers.graph.expansion import GraphExpansion, with_edges
from retrievers.graph.lists import Lists
from retrievers.graph.settings import KINDS, EdgeWeights, GraphSettings
from retrievers.sorted_strings import SortedStrings

METHODS = ("pagerank", "push", "hops")
NAMED = {
    0: ["ada"],
    1: ["engine"],
    2: ["engine"],
    3: ["mill"],
    7: ["mill"],
    8: ["mill"],
    9: ["mill"],
}
EDGES = {
    "mention": {(0, 1): 1.0, (1, 3): 0.5, (4, 3): 1.0, (3, 5): 0.25},
    "seq": {(0, 1): 1.0, (1, 2): 1.0, (5, 6): 1.0},
    "knn": {(0, 9): 1.0, (9, 0): 1.0},
    "phrase": {(7, 8): 0.75, (8, 7): 0.75, (4, 5): 0.5, (5, 4): 0.5},
}
NOTHING, ADA, ENGINE, MILL = "what is it", "Who was Ada?", "An Engine?", "a Mill"
QUESTIONS = st.sampled_from([NOTHING, ADA, ENGINE, MILL, "Ada, her Engine and a Mill"])


def graph(n=10, edges=EDGES, named=NAMED):
    names = sorted({name for one in named.values() for name in one})
    facts = Facts(
        np.zeros((n, 16), np.uint8),
        SortedStrings.of(names),
        Lists.of([sorted(names.index(name) for name in named.get(row, ())) for row in range(n)]),
        Lists.of([()] * n),
        SortedStrings.of(()),
        Lists.of([()] * n),
        np.zeros(0, bool),
    )
    matrices = {}
    for kind, one in edges.items():
        dense = np.zeros((n, n), np.float32)
        for place, weight in one.items():
            dense[place] = weight
        matrices[kind] = sp.csr_array(dense)
    ids = SortedStrings.of(f"p{row}" for row in range(n))
    return CorpusGraph(GraphSettings(), ids, matrices, facts, "en")


def passage(name, score=None, text=None):
    text = text or f"text of {name}"
    return Passage(name, "d", text, Span(0, len(text)), (), score=score)


GRAPH = graph()
PASSAGES = {f"p{row}": passage(f"p{row}") for row in range(10)}
COPIES = PASSAGES | {"p5": passage("p5", text="copy"), "p3": passage("p3", text="copy")}


def ranking(**scores):
    return [passage(name, score) for name, score in scores.items()]


# Stated here, so that tuning the defaults changes no test.
WEIGHTS = EdgeWeights(mention=1.0, phrase=0.4, seq=0.3, knn=0.0)
OPTIONS = {
    "top_k": 50,
    "weights": WEIGHTS,
    "damping": 0.5,
    "seeds": 2,
    "graph_weight": 0.8,
    "unnamed_weight": 0.3,
    "reached": 100,
}


def expansion(graph=GRAPH, passages=PASSAGES, **changes):
    """An expansion that starts from as many passages whatever the question names, unless told."""
    options = OPTIONS | changes
    return GraphExpansion(graph, passages, **{"unnamed_seeds": options["seeds"]} | options)


def scores(found):
    return {one.id: one.score for one in found}


def ids(found):
    return [one.id for one in found]


def pagerank_by_networkx(weights, starts, damping):
    """Return the walk's scores of each row with the best 1, by another library."""
    networkx = pytest.importorskip("networkx")
    total = np.zeros((10, 10))
    for kind, one in EDGES.items():
        dense = np.zeros((10, 10))
        for place, weight in one.items():
            dense[place] = weight
        both = np.minimum if kind == "knn" else np.maximum
        total += getattr(weights, kind) * both(dense, dense.T)
    if not any(starts.values()):
        return dict.fromkeys(range(10), 0.0)
    restart = {row: starts.get(row, 0.0) for row in range(10)}
    ranks = networkx.pagerank(
        networkx.from_numpy_array(total, create_using=networkx.DiGraph),
        alpha=damping,
        personalization=restart,
        dangling=restart,
        nstart=restart,
        tol=1e-13,
        max_iter=1000,
    )
    return {row: rank / max(ranks.values()) for row, rank in ranks.items()}


def bearers(question):
    """Return the rows that a question names with their shares."""
    shares = {}
    for name in ("ada", "engine", "mill"):
        rows = [row for row, names in NAMED.items() if name in names]
        if name.title() in question:
            shares |= {row: max(shares.get(row, 0), 1 / len(rows)) for row in rows}
    return shares


def blended_by_definition(question, given, *, weights, damping, seeds, most, least, reached):
    """Read the formulas of the docstring literally; return the scores by id."""
    base = {one.id: one.score or 0.0 for one in given}
    low, high = min(base.values(), default=0), max(base.values(), default=0)
    base = {name: (s - low) / (high - low) if high > low else 1.0 for name, s in base.items()}
    named = bearers(question)
    starts = dict(named)
    for name in sorted(base, key=lambda one: (-base[one], one))[:seeds]:
        if name in PASSAGES:
            starts[int(name[1:])] = max(starts.get(int(name[1:]), 0), base[name])
    walked = pagerank_by_networkx(weights, starts, damping)
    walked = {f"p{row}": score for row, score in walked.items()}
    b = least + (most - least) * max(named.values(), default=0.0)
    new = sorted((-s, name) for name, s in walked.items() if s > 0 and name not in base)
    kept = [*base, *(name for _, name in new[:reached] if b)]
    return {name: (1 - b) * base.get(name, 0) + b * walked.get(name, 0) for name in kept}


RANKINGS = st.lists(
    st.tuples(
        st.sampled_from([f"p{row}" for row in range(10)] + ["unknown"]),
        st.sampled_from([-1.0, 0.0, 0.5, 2.0, 3.0, 8.0]) | st.none(),
    ),
    unique_by=lambda pair: pair[0],
    max_size=6,
).map(lambda pairs: [passage(*pair) for pair in sorted(pairs, key=lambda p: (-(p[1] or 0), p[0]))])


@settings(max_examples=60)
@given(
    question=QUESTIONS,
    given_=RANKINGS,
    knn=st.sampled_from([0.0, 1.0]),
    damping=st.sampled_from([0.0, 0.5, 0.85]),
    seeds=st.integers(0, 4),
    most=st.sampled_from([0.8, 0.25]),
    least=st.sampled_from([0.0, 0.3, 0.5]),
    reached=st.sampled_from([0, 100]),
)
def test_scores_match_the_formulas(question, given_, knn, damping, seeds, most, least, reached):
    weights = replace(WEIGHTS, knn=knn)
    operator = expansion(
        weights=weights,
        damping=damping,
        seeds=seeds,
        graph_weight=most,
        unnamed_weight=least,
        reached=reached,
    )
    found = operator(Query(question), given_)
    expected = blended_by_definition(
        question,
        given_,
        weights=weights,
        damping=damping,
        seeds=seeds,
        most=most,
        least=least,
        reached=reached,
    )
    assert scores(found) == pytest.approx(expected, abs=2e-5)


def test_the_blend_by_hand():
    operator = expansion(damping=0.0, seeds=1, graph_weight=0.75, unnamed_weight=0.25)
    given_ = ranking(p4=9.0, p6=7.0, p8=5.0)
    assert scores(operator(Query(NOTHING), given_)) == {"p4": 1.0, "p6": 0.375, "p8": 0.0}
    assert scores(operator(Query(ENGINE), given_)) == {
        "p4": 1.0,
        "p1": 0.25,
        "p2": 0.25,
        "p6": 0.25,
        "p8": 0.0,
    }
    assert scores(operator(Query(ADA), given_)) == {"p4": 1.0, "p0": 0.75, "p6": 0.125, "p8": 0.0}


@pytest.mark.parametrize(
    ("question", "b"),
    [(NOTHING, 0.3), (ADA, 0.8), (ENGINE, 0.55), (MILL, 0.425), ("The Mill of Ada", 0.8)],
)
def test_b_goes_from_no_name_to_one_that_is_sure(question, b):
    operator = expansion()
    assert operator.blend(bearers(question)) == pytest.approx(b)
    found = operator(Query(question), ranking(unknown=1.0))
    assert scores(found)["unknown"] == pytest.approx(1 - b)
    assert operator.blend({}) == pytest.approx(0.3)


def test_names_have_no_say_unless_asked_for():
    given_ = ranking(p4=2.0, p6=1.0)
    assert expansion(named=False)(Query(ADA), given_) == expansion()(Query(NOTHING), given_)
    assert expansion()(Query(ADA), given_) != expansion()(Query(NOTHING), given_)


SCORED = st.lists(
    st.tuples(st.sampled_from([f"p{row}" for row in range(10)] + ["x", "y"]), st.integers(-9, 9)),
    unique_by=lambda pair: pair[0],
    max_size=8,
).map(lambda pairs: sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


@given(pairs=SCORED, question=QUESTIONS, top_k=st.integers(1, 9), method=st.sampled_from(METHODS))
def test_without_weight_the_ranking_stays_as_it_is(pairs, question, top_k, method):
    given_ = [passage(name, float(score)) for name, score in pairs]
    operator = expansion(graph_weight=0.0, unnamed_weight=0.0, top_k=top_k, method=method)
    found = operator(Query(question), given_)
    bare = [replace(one, score=None, edges=()) for one in found]
    assert bare == [replace(one, score=None) for one in given_[:top_k]]
    whole = {**scores(found), **{hit.id: hit.score for hit in found.tail}}
    assert list(whole) == ids(given_)
    span = (pairs[0][1] - pairs[-1][1]) if pairs else 0
    for name, score in pairs:
        assert whole[name] == pytest.approx((score - pairs[-1][1]) / span if span else 1.0)


def test_without_weight_only_a_question_that_names_something_is_expanded():
    operator = expansion(unnamed_weight=0.0)
    given_ = ranking(p4=2.0, p6=1.0)
    assert ids(operator(Query(NOTHING), given_)) == ["p4", "p6"]
    assert len(operator(Query(ADA), given_)) > 2


@given(given_=RANKINGS, question=QUESTIONS, method=st.sampled_from(METHODS), k=st.integers(1, 9))
def test_scores_fall_ids_and_texts_are_unique_and_a_larger_k_only_appends(
    given_, question, method, k
):
    given_ = [COPIES.get(one.id, one) for one in given_]
    given_ = [replace(one, score=float(-place)) for place, one in enumerate(given_)]
    operator = expansion(passages=COPIES, top_k=k, method=method)
    found = operator(Query(question), given_)
    assert isinstance(found, Ranking)
    assert len(found) <= k
    order = [(-one.score, one.id) for one in found]
    assert order == sorted(order)
    assert len(set(ids(found))) == len({one.text for one in found}) == len(found)
    larger = replace(operator, top_k=k + 1)(Query(question), given_)
    assert [one.id for one in larger][:k] == ids(found)
    assert scores(larger[:k]) == scores(found)
    everything = replace(operator, top_k=99)(Query(question), given_)
    assert len(found) == min(k, len(everything))
    both = [(-hit.score, hit.id) for hit in found.hits]
    assert both == sorted(both)
    assert set(ids(everything)) <= {hit.id for hit in found.hits}


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_equals_single_calls(method):
    operator = expansion(method=method, top_k=4)
    questions = [Query(text) for text in (NOTHING, ADA, ENGINE, MILL, ADA)]
    rankings = [
        ranking(p4=2.0, p6=1.0),
        [],
        ranking(p1=1.0),
        ranking(unknown=3.0),
        ranking(p9=None),
    ]
    together = operator.batch(query=questions, passages=rankings)
    alone = [operator(*pair) for pair in zip(questions, rankings, strict=True)]
    assert together == alone
    assert [one.tail for one in together] == [one.tail for one in alone]
    assert operator.batch(query=[], passages=[]) == []
    assert asyncio.run(operator.abatch(query=questions, passages=rankings)) == alone
    assert asyncio.run(operator.acall(questions[0], rankings[0])) == alone[0]


def test_batches_of_two_lengths_are_refused():
    with pytest.raises(ValueError, match="query and passages must be as long, got 1 and 2"):
        expansion().batch(query=[Query("x")], passages=[[], []])


def test_an_empty_ranking_is_expanded_from_names_alone():
    found = expansion()(Query(ADA), [])
    assert sorted(ids(found)) == [f"p{row}" for row in range(7)]
    assert (found[0].id, found[0].score) == ("p0", 0.8)
    assert expansion()(Query(NOTHING), []) == []
    assert expansion(named=False)(Query(ADA), []) == []
    empty = expansion(graph(0, {}, {}), {})
    assert empty(Query(ADA), []) == []
    assert scores(empty(Query(ADA), ranking(x=1.0, y=0.0))) == {"x": 0.7, "y": 0.0}


def test_a_question_that_names_nothing_starts_from_seeds_of_its_own():
    given_ = ranking(p4=3.0, p5=2.0, p6=1.0)
    for name, seeds in ((NOTHING, 3), (ADA, 1)):
        own = expansion(seeds=1, unnamed_seeds=3, damping=0.0)
        same = expansion(seeds=seeds, damping=0.0)
        assert scores(own(Query(name), given_)) == scores(same(Query(name), given_))
    fewer = expansion(seeds=1, damping=0.0)(Query(NOTHING), given_)
    assert scores(fewer) != scores(expansion(seeds=3, damping=0.0)(Query(NOTHING), given_))


def test_without_seeds_the_walk_starts_from_names_alone():
    given_ = ranking(p4=2.0, p6=1.0)
    assert set(ids(expansion(seeds=0)(Query(MILL), given_))) == set(PASSAGES)
    assert scores(expansion(seeds=0)(Query(NOTHING), given_)) == {"p4": 0.7, "p6": 0.0}


def test_passages_that_the_graph_does_not_hold_keep_their_share():
    given_ = ranking(x=4.0, p6=3.0, y=2.0)
    assert scores(expansion(seeds=1)(Query(NOTHING), given_)) == {"x": 0.7, "p6": 0.35, "y": 0.0}
    found = scores(expansion(seeds=2)(Query(NOTHING), given_))
    assert (found["x"], found["y"]) == (0.7, 0.0)
    assert found["p5"] > 0


def test_passages_without_a_score_count_0():
    found = expansion(seeds=0)(Query(NOTHING), ranking(p1=None, p2=2.0, p3=-2.0))
    assert scores(found) == {"p1": 0.35, "p2": 0.7, "p3": 0.0}


def test_equal_scores_count_1_and_are_ordered_by_id():
    for score in (None, 0.0, -3.0, 7.0):
        found = expansion(seeds=0)(Query(NOTHING), ranking(p6=score, x=score, p2=score))
        assert [(one.id, one.score) for one in found] == [("p2", 0.7), ("p6", 0.7), ("x", 0.7)]


def test_passages_of_equal_text_are_returned_once_as_the_better_one():
    operator = expansion(passages=COPIES, graph_weight=0.0, unnamed_weight=0.0)
    given_ = [
        replace(COPIES[name], score=score)
        for name, score in (("p5", 3.0), ("p3", 2.0), ("p1", 1.0))
    ]
    assert ids(operator(Query(NOTHING), given_)) == ["p5", "p1"]


def test_passages_are_returned_as_they_were_given():
    mine = replace(passage("p4", 2.0), text="my own text", page=7)
    found = expansion()(Query(NOTHING), [mine])
    assert replace(found[0], score=2.0, edges=()) == mine
    assert found[1].text == PASSAGES[found[1].id].text


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(place, score):
    given_ = ranking(p1=3.0, p2=2.0, p3=1.0)
    given_[place] = replace(given_[place], score=score)
    message = f"scores of passages must be finite, got {score} for 'p{place + 1}'"
    with pytest.raises(ValueError, match=message):
        expansion()(Query(NOTHING), given_)


def test_the_largest_scores_are_normalised():
    found = expansion(seeds=0)(Query(NOTHING), ranking(p1=1e308, p2=-1e308))
    assert scores(found) == {"p1": 0.7, "p2": 0.0}


@pytest.mark.parametrize("method", METHODS)
def test_a_damping_of_0_gives_the_seeds_alone(method):
    found = expansion(method=method, damping=0.0, seeds=2, unnamed_weight=0.5)
    given_ = ranking(p4=3.0, p6=2.0, p7=1.0)
    assert scores(found(Query(NOTHING), given_)) == pytest.approx({"p4": 1.0, "p6": 0.5, "p7": 0.0})


def test_push_is_close_to_pagerank():
    given_ = ranking(p4=3.0, p6=2.0, p7=1.0)
    exact = scores(expansion()(Query(ADA), given_))
    assert scores(expansion(method="push")(Query(ADA), given_)) == pytest.approx(exact, abs=1e-4)


def test_hops_follow_the_best_path_of_two_edges():
    operator = expansion(method="hops", damping=0.5, seeds=0)
    # Weights: p0-p1 1.3, the heaviest; p1-p2 0.3, p1-p3 0.5; p3 is two edges away, p5 three.
    expected = {"p0": 1, "p1": 0.5, "p2": 0.25 * 0.3 / 1.3, "p3": 0.25 * 0.5 / 1.3}
    found = scores(operator(Query(ADA), []))
    assert found == pytest.approx({name: 0.8 * score for name, score in expected.items()})


@pytest.mark.parametrize("method", METHODS)
def test_a_walk_never_reaches_another_component(method):
    operator = expansion(method=method, damping=0.9, seeds=9)
    assert set(ids(operator(Query(NOTHING), ranking(p7=1.0)))) == {"p7", "p8"}
    assert set(ids(operator(Query(NOTHING), ranking(p9=1.0)))) == {"p9"}
    assert not {"p7", "p8", "p9"} & set(ids(operator(Query(ADA), ranking(p4=1.0))))


def test_few_passages_are_added_and_the_nearest_first():
    for most in range(6):
        found = expansion(reached=most, seeds=1)(Query(NOTHING), ranking(p4=1.0))
        assert len(found) == 1 + most
        everything = expansion(seeds=1)(Query(NOTHING), ranking(p4=1.0))
        assert scores(found) == scores(everything[: 1 + most])


@pytest.mark.parametrize("method", METHODS)
def test_only_what_exists_is_returned_walked_through_and_named(method):
    here = frozenset({"p0", "p2", "p3", "p4", "p7", "unknown"})
    operator = expansion(method=method, within=here)
    given_ = ranking(p1=9.0, p4=3.0, unknown=2.0, p6=1.0)
    found = operator(Query(ADA), given_)
    assert set(ids(found)) == {"p0", "p4", "p3", "unknown"}
    assert scores(replace(operator, seeds=0)(Query(ADA), given_))["p0"] == pytest.approx(0.8)
    assert scores(operator(Query(ENGINE), given_))["unknown"] == 0.0
    assert scores(operator(Query(ENGINE), ranking(unknown=1.0)))["unknown"] == pytest.approx(0.2)
    assert scores(operator(Query(MILL), ranking(unknown=1.0)))["unknown"] == pytest.approx(0.45)
    nothing = replace(operator, within=frozenset())
    assert nothing(Query(ADA), given_) == []


def test_scores_are_those_of_a_corpus_that_holds_only_what_exists():
    here = frozenset({"p0", "p1", "p3", "p4", "p5"})
    kept = {
        kind: {pair: w for pair, w in one.items() if {f"p{row}" for row in pair} <= here}
        for kind, one in EDGES.items()
    }
    alone = graph(10, kept, {row: names for row, names in NAMED.items() if f"p{row}" in here})
    given_ = ranking(p4=3.0, p5=1.0)
    for question in (NOTHING, ADA, ENGINE, MILL):
        found = expansion(within=here)(Query(question), given_)
        expected = expansion(alone)(Query(question), given_)
        assert scores(found) == pytest.approx(scores(expected), abs=1e-12)


@given(given_=RANKINGS, question=QUESTIONS, top_k=st.integers(1, 12))
def test_the_edges_of_the_result_are_those_of_the_graph_between_its_passages(
    given_, question, top_k
):
    weights = replace(WEIGHTS, knn=1.0, seq=0.0)
    found = expansion(top_k=top_k, weights=weights)(Query(question), given_)
    here = set(ids(found))
    expected = {
        (f"p{i}", f"p{j}", kind, weight)
        for kind, one in EDGES.items()
        for (i, j), weight in one.items()
        if kind != "seq" and {f"p{i}", f"p{j}"} <= here
    }
    edges = [(e.source, e.target, e.kind, e.weight) for one in found for e in one.edges]
    assert len(edges) == len(expected)
    assert set(edges) == expected
    assert all(edge.source == one.id for one in found for edge in one.edges)
    places = {name: place for place, name in enumerate(ids(found))}
    for one in found:
        order = [(places[edge.target], KINDS.index(edge.kind)) for edge in one.edges]
        assert order == sorted(order)


def test_old_edges_are_replaced_and_all_kinds_kept_without_weights():
    first = expansion()(Query(ADA), ranking(p4=1.0))
    assert with_edges(first[:1], GRAPH) == [replace(first[0], edges=())]
    found = with_edges([passage("p0"), passage("x"), passage("p9")], GRAPH)
    assert [[edge.kind for edge in one.edges] for one in found] == [["knn"], [], ["knn"]]
    assert with_edges([], GRAPH) == []


def test_a_kind_that_counts_nothing_leads_nowhere():
    only = EdgeWeights.only("seq")
    assert set(ids(expansion(weights=only)(Query(NOTHING), ranking(p5=1.0)))) == {"p5", "p6"}
    assert ids(expansion(weights=EdgeWeights.only())(Query(NOTHING), ranking(p5=1.0))) == ["p5"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"seeds": -1}, "seeds must be at least 0, got -1"),
        ({"unnamed_seeds": -1}, "unnamed_seeds must be at least 0, got -1"),
        ({"reached": -1}, "reached must be at least 0, got -1"),
        ({"graph_weight": 1.1}, "graph_weight must be in [0, 1], got 1.1"),
        ({"graph_weight": math.nan}, "graph_weight must be in [0, 1], got nan"),
        ({"unnamed_weight": -0.1}, "unnamed_weight must be in [0, 1], got -0.1"),
        ({"damping": 1.0}, "damping must be in [0, 1), got 1.0"),
        ({"damping": -0.1}, "damping must be in [0, 1), got -0.1"),
        ({"damping": math.nan}, "damping must be in [0, 1), got nan"),
        ({"method": "walk"}, "method must be one of ('pagerank', 'push', 'hops'), got 'walk'"),
    ],
)
def test_arguments_out_of_bounds_are_refused(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        expansion(**change)

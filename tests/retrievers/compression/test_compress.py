"""Semantic compression of rankings: order, scores, tail, budget, weights, vectors, errors."""

import asyncio
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.ranking import Ranking
from rag.records import Hit, Passage, Query, Span
from retrievers.compression.compress import (
    CompressedRanking,
    SemanticCompression,
    scaled,
    words_and_a_third,
)
from retrievers.compression.objective import Objective
from retrievers.compression.selection import compress

QUERY = Query("red cat")
KINDS = ["none", "redundancy", "logdet", "groups", "dispersion"]


def passage(id_, score, text="x", document="doc", **options):
    span = Span(0, len(text))
    return Passage(id_, document, text, span, (span,), score=score, **options)


class NoEncoder:
    """Fails if it is asked."""

    def encode(self, texts):
        pytest.fail(f"encoded {texts}")

    encode_queries = encode


class Vectors(dict):
    """Hands back vectors by id; keeps what it was asked for."""

    def __init__(self, *args, **vectors):
        super().__init__(*args, **vectors)
        self.calls = []

    def __call__(self, ids):
        self.calls.append(list(ids))
        return np.array([self[id_] for id_ in ids])


def ranking_of(n, seed, dim=4):
    """A ranking in order, ties by id, some copies and a zero vector, and the vectors."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, dim))[rng.integers(0, n, n)] if n else np.zeros((0, dim))
    vectors[: n // 9] = 0.0
    scores = np.sort(rng.integers(-3, 9, n) / 2.0)[::-1]
    ids = [f"p{number:03}" for number in range(n)]
    documents = rng.integers(0, 3, n)
    found = [
        passage(id_, float(score), "w " * int(words), f"d{document}")
        for id_, score, words, document in zip(
            ids, scores, rng.integers(1, 9, n), documents, strict=True
        )
    ]
    return Ranking(found, [Hit("zz", -9.0)]), Vectors(zip(ids, vectors, strict=True))


def operator(vectors, **options):
    kind = options.get("kind", "none")
    options.setdefault("diversity", 0.0 if kind == "none" else 0.5)
    return SemanticCompression(vectors, NoEncoder(), **options)


def test_keeps_one_passage_of_each_topic():
    vectors = Vectors(a=[1.0, 0.0], b=[0.99, -0.1], c=[0.0, 1.0])
    ranking = [passage("a", 9.0), passage("b", 8.0), passage("c", 5.0), passage("d", 1.0)]
    vectors["d"] = [0.0, -1.0]
    found = operator(vectors, top_k=2)(QUERY, ranking)
    assert [p.id for p in found] == ["a", "c"]
    assert isinstance(found, CompressedRanking)
    assert found.compression.rows == (0, 2)
    assert [p.score for p in found] == list(found.compression.gains)
    assert found.tail == (Hit("b", found[1].score - 1), Hit("d", found[1].score - 2))
    assert vectors.calls == [["a", "b", "c", "d"]]


@pytest.mark.parametrize("kind", KINDS)
@given(
    n=st.integers(0, 30),
    k=st.integers(1, 35),
    seed=st.integers(0, 999),
    budget=st.none() | st.integers(1, 60),
    pool=st.integers(0, 30),
)
@settings(max_examples=40, deadline=None)
def test_scores_never_rise_and_nothing_is_lost_or_doubled(kind, n, k, seed, budget, pool):
    ranking, vectors = ranking_of(n, seed)
    compression = operator(vectors, kind=kind, top_k=k, budget_tokens=budget, pool=k + pool)
    hits = compression(QUERY, ranking).hits
    assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.id))
    assert sorted(hit.id for hit in hits) == sorted([*(p.id for p in ranking), "zz"])


@pytest.mark.parametrize("kind", KINDS)
@given(n=st.integers(1, 30), k=st.integers(1, 12), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_takes_what_the_pure_function_takes(kind, n, k, seed):
    ranking, vectors = ranking_of(n, seed)
    found = operator(vectors, kind=kind, top_k=k, pool=max(k, n // 2))(QUERY, ranking)
    pool = ranking[: max(k, n // 2)]
    scores = np.array([p.score for p in pool])
    span = scores.max() - scores.min()
    relevance = (scores - scores.min()) / span if span else np.ones(len(pool))
    expected = compress(
        vectors([p.id for p in pool]),
        scaled(scores),
        k=k,
        objective=Objective(1, 1, 0.0 if kind == "none" else 0.5, kind),
        groups=np.array([int(p.document[1]) for p in pool]),
    )
    assert scaled(scores) == pytest.approx(relevance, abs=1e-12)
    assert found.compression == expected
    assert [p.id for p in found] == [pool[row].id for row in expected.rows]


@given(n=st.integers(0, 30), k=st.integers(1, 35), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_relevance_alone_returns_the_best_of_the_ranking_as_they_are(n, k, seed):
    ranking, vectors = ranking_of(n, seed)
    found = operator(vectors, top_k=k, coverage=0.0)(QUERY, ranking)
    assert found == ranking[:k]
    assert [hit.id for hit in found.hits] == [hit.id for hit in ranking.hits]


@pytest.mark.parametrize("greedy", ["auto", "stochastic"])
def test_a_batch_equals_a_loop_and_asynchronous_calls_agree(greedy):
    rankings = [ranking_of(12, seed)[0] for seed in range(3)]
    vectors = ranking_of(12, 5)[1]
    compression = operator(vectors, top_k=4, kind="logdet", greedy=greedy, seed=7)
    rankings.append([])
    queries = [QUERY] * 4
    batch = compression.batch(query=queries, passages=rankings)
    assert len(vectors.calls) == 1
    loop = [compression(QUERY, one) for one in rankings]
    assert batch == loop
    assert [b.compression for b in batch] == [one.compression for one in loop]
    assert asyncio.run(compression.abatch(query=queries, passages=rankings)) == batch
    assert asyncio.run(compression.acall(QUERY, rankings[0])) == batch[0]
    assert compression.batch(query=[], passages=[]) == []
    with pytest.raises(ValueError, match="query and passages must be as long, got 1 and 0"):
        compression.batch(query=[QUERY], passages=[])


def test_an_empty_ranking_keeps_its_tail():
    found = operator(Vectors())(QUERY, Ranking((), [Hit("z", 1.0)]))
    assert (list(found), found.tail, found.compression.rows) == ([], (Hit("z", 1.0),), ())


def test_a_seed_changes_what_stochastic_greedy_takes():
    ranking, vectors = ranking_of(30, 3)
    found = {
        tuple(p.id for p in operator(vectors, top_k=8, greedy="stochastic", seed=seed)(QUERY, ranking))
        for seed in range(9)
    }  # fmt: skip
    assert len(found) > 1


@given(n=st.integers(1, 25), seed=st.integers(0, 999), budget=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_the_budget_holds_in_the_tokens_that_are_counted(n, seed, budget):
    ranking, vectors = ranking_of(n, seed)
    found = operator(vectors, top_k=30, pool=30, budget_tokens=budget)(QUERY, ranking)
    assert sum(words_and_a_third(p.searchable) for p in found) <= budget


def test_a_token_counter_is_the_callers_and_reads_the_title_too():
    read = []

    def letters(text):
        read.append(text)
        return len(text.strip())

    ranking = [
        passage("a", 3.0, "long text", title="t"),
        passage("b", 2.0, "abc"),
        passage("c", 1, " "),
    ]
    vectors = Vectors(a=[1.0, 0.0], b=[1.0, 1.0], c=[0.0, 1.0])
    found = operator(vectors, coverage=0.0, budget_tokens=4, count=letters)(QUERY, ranking)
    assert read == ["t\nlong text", "abc", " "]
    assert [p.id for p in found] == ["b", "c"], "what has no token counts as one"
    nothing = operator(vectors, budget_tokens=1, count=lambda _: 2)(QUERY, ranking)
    assert [hit.id for hit in nothing.hits] == ["a", "b", "c"]
    assert list(nothing) == []


def test_tokens_are_words_and_a_third_rounded_up():
    assert [words_and_a_third("w " * words) for words in range(5)] == [0, 2, 3, 4, 6]


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ("minmax", [1.0, 0.25, 0.0]),
        ("uniform", [1.0, 1.0, 1.0]),
        ("softmax", np.exp([4.0, 1.0, 0.0]) / np.exp([4.0, 1.0, 0.0]).sum()),
    ],
)
def test_weights_of_what_is_covered(weighting, expected):
    vectors = Vectors(zip("abc", np.eye(3), strict=True))
    ranking = [passage("a", 4.0), passage("b", 1.0), passage("c", 0.0)]
    found = operator(vectors, relevance=0.0, weighting=weighting)(QUERY, ranking)
    assert found.compression.coverage == pytest.approx(tuple(expected))


@pytest.mark.parametrize(
    ("groups", "expected"), [("document", "ab"), ("parent", "ac"), ("title", "ad")]
)
def test_groups_are_documents_parents_or_titles(groups, expected):
    ranking = [
        passage("a", 1.0, document="1", parent="s", title="t"),
        passage("b", 0.9, document="2", parent="s", title="t"),
        passage("c", 0.8, document="1", parent="r", title="t"),
        passage("d", 0.7, document="1", parent="s", title="u"),
        passage("e", 0.0, document="1", parent="s", title="t"),
    ]
    vectors = Vectors((p.id, [1.0, 0.0]) for p in ranking)
    options = {"relevance": 0.0, "coverage": 0.0, "diversity": 1.0, "kind": "groups"}
    found = operator(vectors, top_k=2, groups=groups, **options)(QUERY, ranking)
    assert "".join(p.id for p in found) == expected


@pytest.mark.parametrize("groups", ["parent", "title"])
def test_a_passage_without_parent_or_title_belongs_to_its_document(groups):
    ranking = [
        passage("a", 1.0, document="1"),
        passage("b", 0.9, document="1"),
        passage("c", 0.8, document="2"),
        passage("d", 0),
    ]
    vectors = Vectors((p.id, [1.0, 0.0]) for p in ranking)
    options = {"relevance": 0.0, "coverage": 0.0, "diversity": 1.0, "kind": "groups"}
    found = operator(vectors, top_k=2, groups=groups, **options)(QUERY, ranking)
    assert [p.id for p in found] == ["a", "c"]


def test_equal_or_missing_scores_count_alike():
    vectors = Vectors(zip("abc", np.eye(3), strict=True))
    for score in (None, 0.0, -7.5):
        ranking = [passage(id_, score) for id_ in "abc"]
        found = operator(vectors, top_k=3)(QUERY, ranking)
        assert [p.id for p in found] == ["a", "b", "c"]
        assert found.compression.relevance == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("scores", [[1.7e308, 0.0, -1.7e308], [1e-323, 5e-324, 0.0]])
def test_scores_of_any_size_are_scaled(scores):
    assert scaled(np.array(scores)).tolist() == [1.0, 0.5, 0.0]
    vectors = Vectors(zip("abc", np.eye(3), strict=True))
    ranking = [passage(id_, score) for id_, score in zip("abc", scores, strict=True)]
    for weighting in ("minmax", "softmax"):
        found = operator(vectors, weighting=weighting, top_k=3)(QUERY, ranking)
        assert [p.id for p in found] == ["a", "b", "c"]


def test_only_passages_without_a_stored_vector_are_encoded_and_the_query_never():
    calls = []

    class Encoder:
        def encode(self, texts):
            calls.append(list(texts))
            return np.array([[0.0, 1.0]] * len(texts))

    def stored(ids):
        return np.array([{"a": [1.0, 0.0]}[id_] for id_ in ids])

    ranking = [
        passage("a", 2.0, "one"),
        passage("b", 1.0, "two", title="t"),
        passage("c", 0, "tri"),
    ]
    found = SemanticCompression(stored, Encoder(), top_k=2)(QUERY, ranking)
    assert calls == [["t\ntwo", "tri"]]
    assert [p.id for p in found] == ["a", "b"]


def test_a_store_is_asked_by_its_method():
    class Store:
        def vectors(self, ids):
            return np.eye(3)[: len(ids)]

    found = operator(Store(), top_k=2)(QUERY, [passage("a", 2.0), passage("b", 1.0)])
    assert [p.id for p in found] == ["a", "b"]


def test_only_the_pool_is_looked_at_and_the_rest_follows():
    ranking, vectors = ranking_of(20, 1)
    found = operator(vectors, top_k=2, pool=5)(QUERY, ranking)
    assert vectors.calls == [[p.id for p in ranking[:5]]]
    assert [hit.id for hit in found.hits][-16:] == [*(p.id for p in ranking[5:]), "zz"]
    assert all(one.score > other.score for one, other in pairwise(found.tail))


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused(score):
    vectors = Vectors(a=[1.0], b=[1.0])
    with pytest.raises(ValueError, match=f"scores must be finite, got {score} for 'b'"):
        operator(vectors)(QUERY, [passage("a", 1.0), passage("b", score)])


def test_a_passage_that_stands_twice_is_refused():
    vectors = Vectors(a=[1.0])
    with pytest.raises(ValueError, match="passages must have unique ids, got 'a' twice"):
        operator(vectors)(QUERY, [passage("a", 1.0), passage("a", 1.0)])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"budget_tokens": 0}, "budget_tokens must be at least 1, got 0"),
        ({"coverage": -1.0}, r"coverage must be finite and at least 0, got -1\.0"),
        ({"relevance": math.nan}, "relevance must be finite and at least 0, got nan"),
        ({"diversity": 1.0}, r"diversity must be 0 for the kind 'none', got 1\.0"),
        ({"kind": "mmr"}, r"kind must be one of \('none', .* got 'mmr'"),
        ({"weighting": "rank"}, r"weighting must be one of \('minmax', .* got 'rank'"),
        ({"groups": "page"}, r"groups must be one of \('document', .* got 'page'"),
        ({"greedy": "best"}, r"greedy must be one of \('auto', .* got 'best'"),
        ({"greedy": "lazy", "kind": "dispersion", "diversity": 1.0}, "greedy must be plain, stochastic or auto for dispersion"),
        ({"greedy": "stochastic", "budget_tokens": 9}, "greedy must be plain, lazy, block or auto with a budget"),
        ({"pool": 2}, "pool must be at least top_k = 3, got 2"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        SemanticCompression(Vectors(), NoEncoder(), **wrong)

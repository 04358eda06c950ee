"""Hybrid retrieval: legs, interpolation modes and their identities, filters, and mistakes."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.records import Hit, Passage, Query, Span
from retrievers.dense.index import DenseIndex
from retrievers.feedback.vector import VectorFeedback
from retrievers.fusion.minmax import minmax_fusion
from retrievers.hybrid import Hybrid
from retrievers.scoped import ScopedPassages, ScopedSparse, ScopedVectors
from retrievers.sparse.index import SparseIndex
from retrievers.sparse.rm3 import RM3

TEXTS = {
    "a": "red cat",
    "b": "a dog and a red cat",
    "c": "the sun",
    "d": "green dog",
    "e": "red sun and red sea",
}
MODES = ("none", "dense", "pre", "post", "both")


class LetterEncoder:
    """Counts letters: alike words, alike vectors."""

    name = "letters"
    fingerprint = "letters"
    dim = 26

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        counts = [[t.lower().count(chr(97 + i)) + 0.1 for i in range(26)] for t in texts]
        vectors = np.array(counts, np.float32).reshape(-1, 26)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Unused:
    """Stands for a leg that must not be touched."""

    dim = 26
    name = fingerprint = "unused"
    ids = tuple(TEXTS)

    def search_batch(self, queries, top_k, *, within=None):
        raise AssertionError("searched the unused leg")

    search_vectors = encode = encode_queries = search_batch


class Counting:
    """A dense index that counts the batches it searches."""

    def __init__(self, inner):
        self.inner = inner
        self.searches = 0
        self.dim = inner.dim

    def search_vectors(self, vectors, top_k, *, within=None):
        self.searches += 1
        return self.inner.search_vectors(vectors, top_k, within=within)

    def scores_of(self, vector, ids):
        return self.inner.scores_of(vector, ids)

    def vectors(self, ids):
        return self.inner.vectors(ids)

    def __contains__(self, id_):
        return id_ in self.inner


def passages_of(texts):
    return {i: Passage(i, "doc", t, Span(0, len(t)), (Span(0, len(t)),)) for i, t in texts.items()}


def sparse_of(texts):
    index = SparseIndex()
    index.add(list(texts), list(texts.values()))
    return index


def dense_of(texts):
    return DenseIndex.build(list(texts), LetterEncoder().encode(list(texts.values())))


PASSAGES = passages_of(TEXTS)
SPARSE = sparse_of(TEXTS)
DENSE = dense_of(TEXTS)
QUERY = Query("red cats")
# A larger corpus of random words, with some passages that have no common word with any query.
RNG = np.random.default_rng(0)
WORDS = ["red", "cat", "dog", "sun", "sea", "green", "ship", "night", "stone", "bird"]
MANY_TEXTS = {f"p{n:03}": " ".join(RNG.choice(WORDS, 6)) + f" {n}" for n in range(80)}
MANY = {
    "sparse": sparse_of(MANY_TEXTS),
    "dense": dense_of(MANY_TEXTS),
    "encoder": LetterEncoder(),
    "passages": passages_of(MANY_TEXTS),
}
QUESTIONS = [Query("red cat at night"), Query("a green ship"), Query("stone bird"), Query("zebra")]


def hybrid(**fields):
    legs = {"sparse": SPARSE, "dense": DENSE, "encoder": LetterEncoder(), "passages": PASSAGES}
    return Hybrid(**legs | fields)


def many(**fields):
    return Hybrid(**MANY | fields)


def ids(passages):
    return [passage.id for passage in passages]


def orders(retriever, questions=QUESTIONS):
    return [[hit.id for hit in hits] for hits in retriever.hits(questions)]


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_returns_the_fusion_of_both_legs(weight):
    vector = LetterEncoder().encode([QUERY.text])
    legs = [SPARSE.search(QUERY, 1000), DENSE.search_vectors(vector, 1000)[0]]
    expected = minmax_fusion(legs, [weight, 1 - weight])[:4]
    found = hybrid(sparse_weight=weight, top_k=4)(QUERY)
    assert [(p.id, p.score) for p in found] == [(hit.id, hit.score) for hit in expected]
    assert [p.text for p in found] == [TEXTS[p.id] for p in found]


def test_scores_fall_from_one_and_ids_are_unique():
    found = hybrid(top_k=5)(QUERY)
    scores = [p.score for p in found]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] <= 1.0
    assert scores[-1] >= 0.0
    assert len(set(ids(found))) == len(found) == 5


@pytest.mark.parametrize("mode", MODES)
def test_more_results_only_append(mode):
    for question in QUESTIONS:
        few, more = (many(interpolation=mode, top_k=k)(question) for k in (2, 9))
        assert ids(few) == ids(more)[:2]
        assert [p.score for p in few] == [p.score for p in more][:2]


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_equals_a_loop(mode):
    retriever = many(interpolation=mode, top_k=7)
    assert retriever.batch(query=QUESTIONS) == [retriever(question) for question in QUESTIONS]
    assert retriever.batch(query=[]) == []


@pytest.mark.parametrize("mode", MODES)
def test_awaiting_equals_calling(mode):
    retriever = many(interpolation=mode)

    async def both():
        return await retriever.acall(QUESTIONS[0]), await retriever.abatch(query=QUESTIONS)

    assert asyncio.run(both()) == (retriever(QUESTIONS[0]), retriever.batch(query=QUESTIONS))


def test_weight_one_leaves_the_dense_leg_alone():
    for mode in ("none", "post", "both"):
        fields = {"dense": Unused(), "encoder": Unused(), "sparse_weight": 1.0}
        found = hybrid(**fields, interpolation=mode)(QUERY)
        assert ids(found) == [hit.id for hit in SPARSE.search(QUERY, 3)]


def test_weight_zero_leaves_the_sparse_leg_alone():
    vector = LetterEncoder().encode([QUERY.text])
    found = hybrid(sparse=Unused(), sparse_weight=0.0)(QUERY)
    assert ids(found) == [hit.id for hit in DENSE.search_vectors(vector, 3)[0]]
    for mode in ("dense", "pre", "post", "both"):
        hybrid(sparse=Unused(), sparse_weight=0.0, interpolation=mode)(QUERY)


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_costs_one_dense_search_or_two(mode):
    dense = Counting(MANY["dense"])
    many(dense=dense, interpolation=mode).batch(query=QUESTIONS)
    assert dense.searches == (1 if mode == "none" else 2)
    dense.searches = 0
    many(dense=dense, interpolation=mode, feedback=VectorFeedback(k=0))(QUERY)
    assert dense.searches == 1, "k=0 is no feedback"


@given(weight=st.sampled_from([0.1, 0.3, 0.5, 0.9]), k=st.integers(0, 5))
def test_the_modes_are_two_weights(weight, k):
    feedback = VectorFeedback(k=k)

    def both(before, after):
        fields = {"sparse_weight": after, "feedback_weight": before, "feedback": feedback}
        return many(interpolation="both", **fields).hits(QUESTIONS)

    def mode(name):
        found = many(interpolation=name, sparse_weight=weight, feedback=feedback)
        return found.hits(QUESTIONS)

    assert both(weight, 0.0) == mode("pre")
    assert both(0.0, weight) == mode("post")
    assert both(0.0, 0.0) == mode("dense")
    assert both(weight, weight) == mode("both")


def test_without_feedback_weight_the_modes_fall_together():
    unmoved = VectorFeedback(alpha=0.4, beta=0.0)
    found = {mode: orders(many(interpolation=mode, feedback=unmoved)) for mode in MODES}
    assert found["post"] == found["both"] == found["none"]
    assert found["pre"] == found["dense"] == orders(many(sparse_weight=0.0))


def test_without_a_known_word_the_dense_leg_decides():
    zebra = [Query("zebra")]
    found = {mode: orders(many(interpolation=mode), zebra) for mode in MODES}
    assert found["pre"] == found["dense"]
    assert found["both"] == found["post"]
    assert found["none"] == orders(many(sparse_weight=0.0), zebra)


def test_the_vector_moves_to_the_feedback_passages_and_is_searched_again():
    vector = LetterEncoder().encode([QUESTIONS[0].text])[0]
    dense, feedback = MANY["dense"], VectorFeedback(k=2, alpha=0.5, beta=0.5)
    first = dense.search_vectors(vector[None], 1000)[0]
    moved = 0.5 * vector + 0.5 * dense.vectors([hit.id for hit in first[:2]]).mean(axis=0)
    expected = [hit.id for hit in dense.search_vectors(moved[None], 1000)[0]]
    assert orders(many(interpolation="dense", feedback=feedback), QUESTIONS[:1]) == [expected]


def test_feedback_that_only_terms_find_is_read_from_the_store():
    """With depth 1 the sparse leg's best is not in the dense list, yet it moves the vector."""
    question = Query("sun")
    assert SPARSE.search(question, 1)[0].id != "d"
    fields = {"depth": 1, "top_k": 1, "interpolation": "pre", "feedback_weight": 1.0}
    found = hybrid(**fields, feedback=VectorFeedback(k=1, alpha=0.0, beta=1.0))(question)
    assert ids(found) == [SPARSE.search(question, 1)[0].id]


def test_a_passage_without_a_vector_is_passed_over_in_feedback():
    texts = {id_: text for id_, text in TEXTS.items() if id_ != "a"}
    gone = hybrid(dense=Counting(dense_of(texts)), interpolation="pre", feedback_weight=1.0)
    kept = hybrid(
        sparse=sparse_of(texts), dense=dense_of(texts), interpolation="pre", feedback_weight=1.0
    )
    assert SPARSE.search(QUERY, 1)[0].id == "a"
    assert orders(gone, [QUERY]) == orders(kept, [QUERY])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fusion", ["minmax", "rrf", "tm2c2", "zscore", "dbsf", "borda"])
def test_a_filter_is_applied_before_anything_is_ranked(mode, fusion):
    """Searching within some passages is searching an index that holds no others."""
    within = frozenset(list(MANY_TEXTS)[::3])
    texts = {id_: MANY_TEXTS[id_] for id_ in sorted(within)}
    fields = {"interpolation": mode, "fusion": fusion}
    found = many(**fields, within=within, sparse_weight=0.0).hits(QUESTIONS)
    alone = hybrid(
        **fields, sparse=MANY["sparse"], dense=Counting(dense_of(texts)), sparse_weight=0.0
    ).hits(QUESTIONS)
    assert [[hit.id for hit in hits] for hits in found] == [
        [hit.id for hit in hits] for hits in alone
    ]
    mixed = many(**fields, within=within).hits(QUESTIONS)
    assert all(hit.id in within for hits in mixed for hit in hits)


def test_a_scope_cannot_be_left():
    scope = frozenset(list(MANY_TEXTS)[:20])
    scoped = {
        "sparse": ScopedSparse(MANY["sparse"], scope),
        "dense": ScopedVectors(MANY["dense"], scope),
        "passages": ScopedPassages(MANY["passages"], scope),
    }
    other = frozenset(list(MANY_TEXTS)[15:])
    for mode in MODES:
        whole = many(**scoped, interpolation=mode, top_k=80).batch(query=QUESTIONS)
        assert all(set(ids(found)) <= scope for found in whole)
        narrowed = many(**scoped, interpolation=mode, within=other).hits(QUESTIONS)
        assert all(hit.id in scope & other for hits in narrowed for hit in hits)
    with pytest.raises(KeyError, match="p020"):
        scoped["dense"].vectors(["p000", "p020"])
    with pytest.raises(KeyError, match="p020"):
        scoped["sparse"].scores_of(QUERY, ["p020"])
    with pytest.raises(KeyError, match="p020"):
        scoped["passages"]["p020"]
    assert "p020" not in scoped["dense"]
    assert len(scoped["passages"]) == len(list(scoped["passages"])) == 20


def test_passages_outside_a_scope_have_no_say_in_an_expanded_query():
    texts = {"a": "red cat", "b": "red milk", **{f"z{n}": f"filler{n}" for n in range(40)}}
    index = sparse_of(texts)
    scoped = ScopedSparse(RM3(index), frozenset({"a", "z1"}))
    alone = RM3(index).scores_of(Query("red"), ["a"], within=frozenset({"a", "z1"}))
    assert scoped.scores_of(Query("red"), ["a"]).tolist() == alone.tolist()
    assert alone.tolist() != RM3(index).scores_of(Query("red"), ["a"]).tolist()


def test_depth_cuts_both_legs():
    found = hybrid(depth=1, top_k=1, sparse_weight=0.9)(QUERY)
    assert ids(found) == [SPARSE.search(QUERY, 1)[0].id]
    assert found[0].score >= 0.9


@pytest.mark.parametrize("missing", ["zero", "min", "theoretical", "exact"])
def test_what_a_leg_lacks_is_filled_in_as_said(missing):
    found = many(depth=10, top_k=10, missing=missing).hits(QUESTIONS[:1])[0]
    assert len(found) > 10
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    if missing == "exact":
        by_terms = dict(MANY["sparse"].search(QUESTIONS[0], 80) and [
            (hit.id, hit.score) for hit in MANY["sparse"].search(QUESTIONS[0], 80)
        ])  # fmt: skip
        vector = LetterEncoder().encode([QUESTIONS[0].text])[0]
        union = [hit.id for hit in found]
        sparse = [Hit(id_, by_terms.get(id_, 0.0)) for id_ in union]
        dense = [
            Hit(id_, score)
            for id_, score in zip(union, MANY["dense"].scores_of(vector, union), strict=True)
        ]
        expected = minmax_fusion([sparse, dense], [0.5, 0.5])
        assert [hit.id for hit in found] == [hit.id for hit in expected]


def test_the_corpus_passages_stay_as_they_were():
    hybrid()(QUERY)
    assert all(p.score is None for p in PASSAGES.values())


def test_hands_back_vectors():
    assert hybrid().vectors(["c", "a"]).tolist() == DENSE.vectors(["c", "a"]).tolist()
    with pytest.raises(KeyError, match="nobody"):
        hybrid().vectors(["nobody"])


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_corpus_finds_nothing(mode):
    empty = hybrid(
        sparse=SparseIndex(),
        dense=DenseIndex.build([], np.zeros((0, 26), np.float32)),
        passages={},
        interpolation=mode,
    )
    assert empty(QUERY) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"depth": 2}, "depth must be at least top_k = 3, got 2"),
        ({"sparse_weight": 1.1}, r"sparse_weight must be in \[0, 1\], got 1.1"),
        ({"sparse_weight": float("nan")}, "got nan"),
        ({"interpolation": "before"}, "interpolation must be one of .*, got 'before'"),
        ({"fusion": "sum"}, "fusion must be one of .*, got 'sum'"),
        ({"missing": "skip"}, "missing must be one of .*, got 'skip'"),
        ({"interpolation": "pre", "feedback_weight": 2.0}, r"feedback_weight must be in \[0, 1\], got 2.0"),
        ({"interpolation": "post", "feedback_weight": 0.5}, "feedback_weight needs interpolation pre or both.*got 'post'"),
        ({"sparse": sparse_of({"z": "z"})}, "sparse and dense must index the same"),
        (
            {"dense": DenseIndex.build(list(TEXTS), np.eye(5, dtype=np.float32))},
            "encoder must give vectors as wide as dense, 5, got 26 from 'letters'",
        ),
    ],
)  # fmt: skip
def test_rejects_parts_that_do_not_fit(fields, message):
    with pytest.raises(ValueError, match=message):
        hybrid(**fields)


def test_returns_one_of_several_passages_with_the_same_text():
    texts = {"a": "red cat", "b": "red cat", "c": "red dog"}
    index = {
        "sparse": sparse_of(texts),
        "dense": dense_of(texts),
        "passages": passages_of(texts),
    }
    assert ids(hybrid(**index, top_k=2)(QUERY)) == ["a", "c"]
    assert ids(hybrid(**index, top_k=3)(QUERY)) == ["a", "c"]

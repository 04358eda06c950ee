"""Rerankers: order, tails and batches that all of them share, and what each computes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.ranking import Ranking
from rag.records import Hit, Passage, Query, Span
from retrievers.rerank.cross_encoder import CrossEncoderReranker
from retrievers.rerank.late_interaction import LateInteraction, maxsim
from retrievers.rerank.mmr import MMR, mmr_order

QUERY = Query("red cat")


def passage(id_, text, score=None):
    span = Span(0, len(text))
    return Passage(id_, "doc", text, span, (span,), title="t", score=score)


class LetterEncoder:
    """Counts letters; keeps the texts of each call."""

    name = fingerprint = "letters"
    dim = 26

    def __init__(self):
        self.calls = []

    def encode(self, texts, *, progress=None):
        self.calls.append(list(texts))
        counts = [[t.lower().count(chr(97 + i)) + 0.1 for i in range(26)] for t in texts]
        vectors = np.array(counts, np.float32).reshape(-1, 26)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode_queries = encode


class TokenEncoder:
    """A one-hot vector a letter."""

    def encode(self, texts):
        return [np.eye(26)[[ord(c) - 97 for c in t.lower() if c.isalpha()]] for t in texts]

    encode_queries = encode


class Overlap:
    """Scores a pair by the words that it shares; keeps the sizes of its batches."""

    def __init__(self):
        self.calls = []

    def scores(self, pairs, *, batch_size=32):
        self.calls.append((len(pairs), batch_size))
        return np.array([len(set(a.split()) & set(b.split())) for a, b in pairs], float)


class Constant:
    """Scores every pair alike."""

    def __init__(self, value):
        self.value = value

    def scores(self, pairs, *, batch_size=32):
        return np.full(len(pairs), self.value)


class NoVectors:
    def vectors(self, ids):
        raise KeyError(ids[0])


def mmr(**options):
    return MMR(NoVectors(), LetterEncoder(), **options)


def cross(**options):
    return CrossEncoderReranker(Overlap(), **options)


def late(**options):
    return LateInteraction(TokenEncoder(), **options)


ALL = [mmr, cross, late]
PASSAGES = [
    passage("c", "blue dog"),
    passage("b", "red cat"),
    passage("a", "red cat"),
    passage("d", "a red sea"),
]


@pytest.mark.parametrize("make", ALL)
def test_returns_a_permutation_whose_scores_fall_with_ties_by_id(make):
    found = make(top_k=4)(QUERY, PASSAGES)
    assert sorted(p.id for p in found) == ["a", "b", "c", "d"]
    scores = [p.score for p in found]
    assert scores == sorted(scores, reverse=True)
    assert found[0].id == "a"
    assert all(p.score is None for p in PASSAGES), "the input stays as it was"


@pytest.mark.parametrize("make", ALL)
def test_what_falls_out_goes_on_in_the_tail(make):
    ranking = Ranking(PASSAGES, [Hit("x", 9.0), Hit("y", 8.0)])
    found = make(top_k=2)(QUERY, ranking)
    assert len(found) == 2
    hits = found.hits
    assert sorted(hit.id for hit in hits) == ["a", "b", "c", "d", "x", "y"]
    assert [hit.id for hit in hits][-2:] == ["x", "y"]
    assert all(one.score >= other.score for one, other in pairwise(hits))


@pytest.mark.parametrize("make", ALL)
def test_a_batch_equals_a_loop(make):
    queries = [QUERY, Query("blue dog"), QUERY]
    found = [PASSAGES, [], PASSAGES[1:]]
    reranker = make(top_k=2)
    batch = reranker.batch(query=queries, passages=found)
    assert batch == [reranker(query, one) for query, one in zip(queries, found, strict=True)]
    assert reranker.batch(query=[], passages=[]) == []


@pytest.mark.parametrize("make", ALL)
def test_more_than_there_are_is_all(make):
    assert len(make(top_k=99)(QUERY, PASSAGES)) == 4
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        make(top_k=0)


def test_a_cross_encoder_reads_all_pairs_in_one_call_and_equal_ones_once():
    scorer = Overlap()
    reranker = CrossEncoderReranker(scorer, batch_size=7)
    reranker.batch(query=[QUERY, QUERY, Query("sea")], passages=[PASSAGES, PASSAGES[:1], PASSAGES])
    assert scorer.calls == [(6, 7)], "three different texts for each of two questions"
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        CrossEncoderReranker(scorer, batch_size=0)


def test_maxsim_by_hand():
    query = np.array([[1.0, 0.0], [0.0, 1.0]])
    read = np.array([[0.6, 0.8], [1.0, 0.0]])
    assert maxsim(query, read) == pytest.approx(1.0 + 0.8)
    assert maxsim(query, np.zeros((0, 2))) == 0.0
    with pytest.raises(ValueError, match=r"got \(2, 2\) and \(2, 3\)"):
        maxsim(query, np.zeros((2, 3)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match=r"scores must be finite, got .* for 'c'"):
        CrossEncoderReranker(Constant(value))(QUERY, PASSAGES)


def test_a_batch_of_another_length_is_refused():
    for make in ALL:
        with pytest.raises(ValueError, match=r"as long|longer|shorter"):
            make().batch(query=[QUERY], passages=[])


def test_mmr_passes_over_a_near_copy():
    vectors = np.array([[1.0, 0.1], [1.0, 0.11], [0.6, -0.8]])
    rows, _ = mmr_order(np.array([1.0, 0.0]), vectors, 2, 0.5)
    assert rows == [0, 2]


def by_definition(query, vectors, k, w):
    """Read the formula literally, keeping nothing from step to step."""

    def cosine(a, b):
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

    relevance = [cosine(query, v) for v in vectors]
    taken = [int(np.argmax(relevance))]
    while len(taken) < min(k, len(vectors)):
        gains = {
            row: w * relevance[row] - (1 - w) * max(cosine(vectors[row], vectors[t]) for t in taken)
            for row in range(len(vectors))
            if row not in taken
        }
        taken.append(max(gains, key=gains.__getitem__))
    return taken


def random_vectors(n, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=8), rng.normal(size=(n, 8))


@given(n=st.integers(1, 12), k=st.integers(1, 15), w=st.floats(0, 1), seed=st.integers(0, 99))
def test_mmr_takes_distinct_rows_as_defined_and_a_larger_k_only_appends(n, k, w, seed):
    query, vectors = random_vectors(n, seed)
    rows, _ = mmr_order(query, vectors, k, w)
    assert len(set(rows)) == len(rows) == min(k, n)
    assert mmr_order(query, vectors, k + 1, w)[0][: len(rows)] == rows
    assert rows == by_definition(query, vectors, k, w)


@pytest.mark.parametrize("w", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_mmr_takes_what_langchain_takes(w, seed):
    utils = pytest.importorskip("langchain_core.vectorstores.utils")
    query, vectors = random_vectors(60, seed)
    expected = utils.maximal_marginal_relevance(query, list(vectors), lambda_mult=w, k=20)
    assert mmr_order(query, vectors, 20, w)[0] == expected


def test_mmr_takes_zero_vectors_and_nothing_without_harm():
    rows, gains = mmr_order(np.array([1.0, 0.0]), np.array([[0.0, 0.0], [1.0, 0.0]]), 2, 0.5)
    assert rows == [1, 0]
    assert np.isfinite(gains).all()
    assert mmr_order(np.array([1.0]), np.zeros((0, 1)), 3, 0.5)[0] == []
    with pytest.raises(ValueError, match=r"got \(4,\) and \(3, 8\)"):
        mmr_order(np.zeros(4), np.zeros((3, 8)), 2, 0.5)


@given(
    n=st.integers(2, 40),
    dim=st.sampled_from([8, 26, 384, 385]),
    w=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_copies_tie_exactly_and_the_lower_row_wins(n, dim, w, seed):
    rng = np.random.default_rng(seed)
    one, query = rng.normal(size=(2, dim))
    rows, _ = mmr_order(query, np.tile(one, (n, 1)), n, w)
    assert rows == list(range(n))


@given(seed=st.integers(0, 500), w=st.floats(0, 1), k=st.integers(1, 9))
def test_mmr_scores_never_rise_and_tie_by_id(seed, w, k):
    # Few different vectors, some opposite: gains tie, and would rise where the nearest is far.
    rng = np.random.default_rng(seed)
    choices = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.6, -0.8]])
    rows = choices[rng.integers(0, 4, 8)]
    ids = [str(id_) for id_ in rng.permutation(8)]
    vectors = dict(zip(ids, rows, strict=True))

    class Asks(LetterEncoder):
        def encode_queries(self, texts):
            return np.array([[0.8, 0.6]] * len(texts))

    reranker = MMR(lambda ids: np.array([vectors[i] for i in ids]), Asks(), k, w)
    hits = reranker(QUERY, [passage(id_, "x") for id_ in ids]).hits
    assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.id))
    assert sorted(hit.id for hit in hits) == sorted(ids)


def test_mmr_encodes_only_the_passages_that_have_no_vector_once_and_together():
    encoder = LetterEncoder()
    known = {p.id: LetterEncoder().encode([p.searchable])[0] for p in PASSAGES if p.id in "bd"}

    def stored(ids):
        return np.array([known[id_] for id_ in ids])

    found = MMR(stored, encoder).batch(query=[QUERY, QUERY], passages=[PASSAGES, PASSAGES[:3]])
    assert encoder.calls == [["t\nblue dog", "t\nred cat"], ["red cat", "red cat"]]
    assert found == mmr().batch(query=[QUERY, QUERY], passages=[PASSAGES, PASSAGES[:3]])


def test_mmr_reads_stored_vectors_and_encodes_only_where_there_are_none():
    encoder = LetterEncoder()

    class Stored:
        def vectors(self, ids):
            return LetterEncoder().encode([p.searchable for p in by_id(ids)])

    def by_id(ids):
        return [p for id_ in ids for p in PASSAGES if p.id == id_]

    stored = MMR(Stored(), encoder)(QUERY, PASSAGES)
    assert encoder.calls == [["red cat"]]
    assert stored == mmr()(QUERY, PASSAGES)
    with pytest.raises(ValueError, match=r"relevance_weight must be in \[0, 1\], got 1.5"):
        mmr(relevance_weight=1.5)

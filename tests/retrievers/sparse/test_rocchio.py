"""Rocchio over terms: its definition read literally, over counts and impacts, and its edges."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.records import Query
from retrievers.sparse import rocchio
from retrievers.sparse.index import SparseIndex
from retrievers.sparse.weighting import Impact

# Every word of so few passages is common.
SparseRocchio = partial(rocchio.SparseRocchio, common=1.0)
WORDS = [f"w{n}" for n in range(9)]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=7), min_size=1, max_size=12)
QUERIES = st.lists(st.sampled_from([*WORDS, "unseen"]), min_size=1, max_size=4)
WEIGHTS = st.sampled_from([0.0, 0.15, 0.75, 1.0])


def index_of(texts, weighting=None):
    index = SparseIndex(weighting)
    index.add_terms([f"p{row:02}" for row in range(len(texts))], texts)
    return index


def moved(query, best, worst, alpha, beta, gamma):
    """Vectors over WORDS and the query's unknown term, each of length 1, moved as defined."""

    def unit(counts):
        vector = np.array([counts.get(word, 0.0) for word in [*WORDS, "unseen"]])
        return vector / (np.linalg.norm(vector) or 1.0)

    found = alpha * unit(query)
    found = found + (beta * np.mean([unit(one) for one in best], axis=0) if best else 0.0)
    found = found - (gamma * np.mean([unit(one) for one in worst], axis=0) if worst else 0.0)
    return dict(zip([*WORDS, "unseen"], found.tolist(), strict=True))


@given(
    texts=TEXTS, query=QUERIES, alpha=WEIGHTS, beta=WEIGHTS, gamma=WEIGHTS,
    passages=st.integers(1, 4), bottom=st.integers(0, 3), impacts=st.booleans(),
)  # fmt: skip
def test_is_its_definition(texts, query, alpha, beta, gamma, passages, bottom, impacts):
    index, asked = index_of(texts, Impact() if impacts else None), Query(" ".join(query))
    contents = [index.term_counts(hit.id) for hit in index.search(asked, 1000)]
    best, rest = contents[:passages], contents[passages:]
    worst = rest[-bottom:] if bottom else []
    expected = moved(index.query_weights(asked), best, worst, alpha, beta, gamma)
    search = SparseRocchio(index, alpha, beta, gamma, passages, 99, bottom)
    found = search.expand(asked)
    # What cancels to 0 may come out as a rounding error above it.
    assert all(weight > 0.0 for weight in found.values())
    found = {term: weight for term, weight in found.items() if weight > 1e-12}
    expected = {term: weight for term, weight in expected.items() if weight > 1e-12}
    assert found == pytest.approx(expected, rel=1e-9)


@given(texts=TEXTS, query=QUERIES, terms=st.integers(1, 5))
def test_adds_at_most_so_many_terms_the_heaviest_and_keeps_the_query(texts, query, terms):
    index, asked = index_of(texts), Query(" ".join(query))
    every = SparseRocchio(index, terms=99).expand(asked)
    found = SparseRocchio(index, terms=terms).expand(asked)
    assert set(query) <= set(found)
    new = sorted(every.keys() - set(query), key=lambda term: (-every[term], term))
    assert found == {term: every[term] for term in [*set(query), *new[:terms]]}


@given(texts=TEXTS, query=QUERIES, data=st.data())
def test_filters_before_it_ranks_and_before_it_reads_feedback(texts, query, data):
    index, asked = index_of(texts), Query(" ".join(query))
    within = data.draw(st.frozensets(st.sampled_from([*index.ids, "nobody"])))
    search = SparseRocchio(index, passages=2, terms=99)
    hits = [hit for hit in index.search(asked, 99) if hit.id in within][:2]
    best = [index.term_counts(hit.id) for hit in hits]
    expected = moved(index.query_weights(asked), best, [], 1.0, 0.75, 0.0)
    weights = search.expand(asked, within=within)
    assert weights == pytest.approx({t: w for t, w in expected.items() if w > 0.0}, rel=1e-9)
    every = index.search_terms(weights, 99)
    assert search.search(asked, 5, within=within) == [h for h in every if h.id in within][:5]


def test_by_hand_with_the_worst_passages():
    # b = 0 and Impact rank by the count alone: p00, p01, p02.
    index = index_of([["cat"] * 3 + ["milk"] * 4, ["cat", "cat"], ["cat", "dog"]], Impact())
    search = SparseRocchio(index, alpha=1.0, beta=0.5, gamma=0.2, passages=1, bottom=1)
    half = 0.5**0.5
    assert search.expand(Query("cat")) == pytest.approx(
        {"cat": 1.0 + 0.5 * 0.6 - 0.2 * half, "milk": 0.5 * 0.8}
    )


def test_keeps_the_protocol():
    index = index_of([["cat", "milk"], ["cat", "cat"], ["milk"], ["dog"]])
    search, queries = SparseRocchio(index), [Query("cat"), Query("dog"), Query("zebra")]
    assert search.search_batch(queries, 4) == [search.search(query, 4) for query in queries]
    hits = search.search(Query("cat"), 9)
    scores = search.scores_of(Query("cat"), [hit.id for hit in hits])
    assert scores == pytest.approx([hit.score for hit in hits])
    assert search.ids == index.ids
    assert SparseRocchio(index.with_weighting(Impact())).expand_terms({"dog": 2.0}) == {"dog": 1.75}


def test_no_passage_is_both_best_and_worst():
    index = index_of([["cat", "milk"], ["cat"]])
    plain = SparseRocchio(index, passages=2).expand(Query("cat"))
    assert SparseRocchio(index, passages=2, bottom=5).expand(Query("cat")) == plain
    assert SparseRocchio(index, passages=2, gamma=0.0, bottom=5).expand(Query("cat")) == plain


def test_without_feedback_the_ranking_is_the_plain_one():
    index = index_of([["cat", "milk"], ["cat", "cat"], ["milk"], ["dog"]])
    search = SparseRocchio(index, beta=0.0)
    for text in ("cat", "cat milk", "dog dog cat", "unseen", "?"):
        plain = [hit.id for hit in index.search(Query(text), 9)]
        assert [hit.id for hit in search.search(Query(text), 9)] == plain
    assert SparseRocchio(index, alpha=0.0, beta=0.0).search(Query("cat"), 9) == []
    assert SparseRocchio(SparseIndex()).expand(Query("cat")) == {"cat": 1.0}


def test_finds_what_shares_no_term_with_the_query():
    index = index_of([["cat", "milk"], ["milk"], ["dog"]])
    found = [hit.id for hit in SparseRocchio(index).search(Query("cat"), 9)]
    assert found == ["p00", "p01"]


def test_a_passage_deleted_between_the_two_rounds_gives_no_feedback(monkeypatch):
    index = index_of([["cat", "cat", "left"], ["cat", "right"], ["dog"]])
    search = index.search_terms

    def overtaken(*args, **options):
        hits = search(*args, **options)
        index.delete(["p00"])
        return hits

    monkeypatch.setattr(index, "search_terms", overtaken)
    half = 0.75 * 0.5**0.5
    assert SparseRocchio(index).expand(Query("cat")) == pytest.approx(
        {"cat": 1.0 + half, "right": half}
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": float("inf")}, "gamma must be at least 0 and finite, got inf"),
        ({"alpha": -1.0}, "alpha must be at least 0 and finite, got -1.0"),
        ({"beta": float("nan")}, "beta must be at least 0 and finite, got nan"),
        ({"passages": 0}, "passages must be at least 1, got 0"),
        ({"bottom": -1}, "bottom must be at least 0, got -1"),
        ({"terms": 0}, "terms must be at least 1, got 0"),
    ],
)
def test_rejects_options_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        SparseRocchio(SparseIndex(), **options)
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        SparseRocchio(SparseIndex()).search(Query("cat"), 0)


def test_adds_only_terms_that_few_passages_hold():
    texts = [
        ["cat", "usual", "usual", "milk", "x"],
        ["cat", "usual"],
        *[["usual", f"w{n}"] for n in range(18)],
    ]
    search = rocchio.SparseRocchio(index_of(texts), beta=0.5, passages=2)
    half = 0.5**0.5
    assert search.expand(Query("cat usual")) == pytest.approx(
        {"cat": half + 0.5 * (half + 1.0) / 2, "usual": half, "milk": 0.5 * half / 2}
    )

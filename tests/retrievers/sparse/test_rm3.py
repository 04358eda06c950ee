"""RM3: its definition read literally, the plain ranking, filters, limits of what is added."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.records import Query
from retrievers.sparse.index import SparseIndex
from retrievers.sparse.rm3 import RM3
from retrievers.sparse.weighting import BM25

WORDS = [f"w{n}" for n in range(16)]
# Among enough others, so that a word is rare enough to be added, or just not.
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=7), min_size=1, max_size=12)
QUERIES = st.lists(st.sampled_from([*WORDS, "unseen"]), min_size=1, max_size=4)
OPTIONS = {
    "feedback_passages": st.integers(1, 6),
    "feedback_terms": st.integers(1, 6),
    "original_weight": st.floats(0, 1),
}


def passages_of(texts, others=25):
    found = {f"p{row:02}": text for row, text in enumerate(texts)}
    return found | {f"z{n:02}": [f"other{n}"] for n in range(others)}


def index_of(passages, weighting=None):
    index = SparseIndex(weighting)
    index.add_terms(list(passages), list(passages.values()))
    return index


def rm3(passages, query, hits, count, original_weight):
    """The definition, step by step, from the passages themselves."""

    def heaviest(weights):
        return dict(sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))[:count])

    model = {}
    for id_, score in hits:
        text = passages[id_]
        counts = {
            t: text.count(t)
            for t in text
            if re.fullmatch("[a-z0-9]+", t)
            and 2 <= len(t) <= 20
            and 10 * sum(t in other for other in passages.values()) <= len(passages)
        }
        counts = heaviest(counts)
        norm = sum(counts.values())
        for term, n in counts.items():
            model[term] = model.get(term, 0.0) + score * n / norm
    model = heaviest(model)
    own = {t: query.count(t) / len(query) for t in query}
    if not model:
        return own
    total = sum(model.values())
    return {
        t: original_weight * own.get(t, 0.0) + (1 - original_weight) * model.get(t, 0.0) / total
        for t in own.keys() | model.keys()
    }


def test_is_worked_by_hand():
    index = index_of(passages_of([["cat", "cat", "milk"], ["cat", "milk", "bowl"], ["dog"]]))
    a, b = (hit.score for hit in index.search(Query("cat"), 10))
    # Shares inside each passage, weighed by its score, then made to add up to 1.
    model = {"cat": a * 2 / 3 + b / 3, "milk": a / 3 + b / 3, "bowl": b / 3}
    expected = {term: 0.5 * weight / (a + b) for term, weight in model.items()}
    expected["cat"] += 0.5
    search = RM3(index)
    assert search.expand(Query("cat")) == pytest.approx(expected)
    hits = search.search(Query("cat"), 9)
    assert search.scores_of(Query("cat"), [hit.id for hit in hits]) == pytest.approx(
        [hit.score for hit in hits]
    )
    queries = [Query("cat"), Query("dog"), Query("zebra")]
    assert search.search_batch(queries, 4) == [search.search(query, 4) for query in queries]
    assert search.ids == index.ids
    with pytest.raises(KeyError, match="nobody"):
        search.scores_of(Query("cat"), ["nobody"])


def test_finds_what_shares_no_term_with_the_query():
    index = index_of(passages_of([["cat", "milk"], ["milk"]]))
    assert [hit.id for hit in RM3(index).search(Query("cat"), 9)] == ["p00", "p01"]


def test_adds_no_short_long_or_odd_term():
    odd = ["\u00e91", "a.b", "y", "x" * 21, "fine", "x" * 20]
    index = index_of(passages_of([["cat", *odd]]))
    assert set(RM3(index).expand(Query("cat"))) == {"cat", "fine", "x" * 20}


@given(texts=TEXTS, query=QUERIES, options=st.fixed_dictionaries(OPTIONS))
def test_is_its_definition(texts, query, options):
    passages = passages_of(texts)
    index, asked = index_of(passages), Query(" ".join(query))
    hits = [(hit.id, hit.score) for hit in index.search(asked, options["feedback_passages"])]
    expected = rm3(passages, query, hits, options["feedback_terms"], options["original_weight"])
    found = RM3(index, **options).expand(asked)
    if options["original_weight"] < 1.0:
        assert found == pytest.approx({t: w for t, w in expected.items() if w > 0.0}, rel=1e-9)
    assert sum(found.values()) == pytest.approx(1.0)


@given(texts=TEXTS, query=QUERIES)
def test_an_original_weight_of_one_is_the_plain_ranking(texts, query):
    index, asked = index_of(passages_of(texts)), Query(" ".join(query))
    plain, found = index.search(asked, 50), RM3(index, original_weight=1.0).search(asked, 50)
    assert {hit.id for hit in plain} == {hit.id for hit in found}
    own = index.scores_of(asked, [hit.id for hit in found])
    assert [hit.score * len(query) for hit in found] == pytest.approx(own, rel=1e-12)
    # Scaling a query may round a tie apart, and only that.
    assert all(below <= above * (1 + 1e-12) for above, below in pairwise(own))


@given(texts=TEXTS, query=QUERIES, data=st.data())
def test_filters_before_it_ranks_and_before_it_reads_feedback(texts, query, data):
    passages, asked = passages_of(texts), Query(" ".join(query))
    index = index_of(passages)
    search = RM3(index, 3, 4)
    within = data.draw(st.frozensets(st.sampled_from([*passages, "nobody"])))
    hits = [hit for hit in index.search(asked, 99) if hit.id in within][:3]
    feedback = [(hit.id, hit.score) for hit in hits]
    weights = search.expand(asked, within=within)
    assert weights == pytest.approx(rm3(passages, query, feedback, 4, 0.5), rel=1e-9)
    every = index.search_terms(weights, 99)
    assert search.search(asked, 5, within=within) == [h for h in every if h.id in within][:5]


@pytest.mark.parametrize(("holders", "added"), [(2, True), (3, False)])
def test_adds_a_term_that_a_tenth_of_the_passages_hold_and_none_of_more(holders, added):
    passages = {f"p{n}": ["common"] if 0 < n < holders else [f"other{n}"] for n in range(20)}
    passages["p0"] = ["cat", "common"]
    assert len(passages) == 20
    assert ("common" in RM3(index_of(passages)).expand(Query("cat"))) is added


def test_never_takes_a_term_back_from_the_query_for_being_common():
    index = index_of({f"p{n}": ["cat", f"other{n}"] for n in range(20)})
    weights = RM3(index, feedback_passages=1).expand(Query("cat"))
    assert weights == pytest.approx({"cat": 0.5, "other0": 0.5})


def test_each_passage_speaks_in_proportion_to_its_score():
    index = index_of(passages_of([["cat", "cat", "cat", "left"], ["cat", "right"]]), BM25(b=0.0))
    a, b = (hit.score for hit in index.search(Query("cat"), 2))
    assert a > b
    weights = RM3(index, original_weight=0.0).expand(Query("cat"))
    assert weights["left"] / weights["right"] == pytest.approx((a / 4) / (b / 2))


@pytest.mark.parametrize("passages", [{}, {"a": ["cat", "milk"]}, {"a": ["cat", "milk"], "b": []}])
def test_falls_back_to_the_query_in_a_tiny_corpus(passages):
    index = index_of(passages)
    search = RM3(index, original_weight=0.0)
    assert search.expand(Query("cat cat dog")) == pytest.approx({"cat": 2 / 3, "dog": 1 / 3})
    found = [hit.id for hit in search.search(Query("cat"), 9)]
    assert found == [hit.id for hit in index.search(Query("cat"), 9)]
    assert search.expand(Query("?")) == {}
    assert search.search(Query("?"), 3) == []


def test_a_passage_deleted_between_the_two_rounds_gives_no_feedback(monkeypatch):
    index = index_of(passages_of([["cat", "left"], ["cat", "cat", "right"]]))
    search = index.search_terms

    def overtaken(*args, **options):
        hits = search(*args, **options)
        index.delete(["p00"])
        return hits

    monkeypatch.setattr(index, "search_terms", overtaken)
    assert set(RM3(index).expand(Query("cat"))) == {"cat", "right"}


def test_rejects_no_results():
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        RM3(index_of({"a": ["cat"]})).search(Query("cat"), 0)


@pytest.mark.parametrize("weight", [float("nan"), -0.1])
def test_rejects_weights_by_name(weight):
    with pytest.raises(ValueError, match=r"original_weight must be in \[0, 1\], got"):
        RM3(SparseIndex(), original_weight=weight)


@pytest.mark.parametrize("name", ["feedback_passages", "feedback_terms"])
def test_rejects_counts_by_name(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        RM3(SparseIndex(), **{name: 0})

"""RM3 and Rocchio over terms: hand-worked expansions, invariants, fallbacks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.records import Query
from retrievers.sparse.index import SparseIndex
from retrievers.sparse.rm3 import RM3
from retrievers.sparse.rocchio import SparseRocchio
from retrievers.sparse.weighting import Impact


def corpus(found, fillers=40):
    """Passages of terms among many others, so that terms are rare enough to expand by."""
    index = SparseIndex()
    others = {f"z{n}": [f"filler{n}"] for n in range(fillers)}
    passages = {**found, **others}
    index.add_terms(list(passages), list(passages.values()))
    return index


INDEX = corpus({"a": ["cat", "cat", "milk"], "b": ["cat", "milk", "bowl"], "c": ["dog"]})
CAT = Query("cat")


def test_rm3_is_worked_by_hand():
    (a, b) = INDEX.search(CAT, 10)
    assert (a.id, b.id) == ("a", "b")
    # Shares inside each passage, weighed by its score, then made to add up to 1.
    model = {
        "cat": a.score * 2 / 3 + b.score / 3,
        "milk": a.score / 3 + b.score / 3,
        "bowl": b.score / 3,
    }
    total = sum(model.values())
    expected = {term: 0.5 * weight / total for term, weight in model.items()}
    expected["cat"] += 0.5
    assert RM3(INDEX).expand(CAT) == pytest.approx(expected)


def test_rm3_keeps_the_heaviest_terms_of_each_passage_and_of_all():
    found = RM3(INDEX, feedback_terms=1).expand(CAT)
    # Of b the first of three equals in the alphabet: bowl.
    assert set(found) == {"cat"} or set(found) == {"cat", "bowl"}
    assert "milk" not in found


@given(
    weight=st.floats(0, 1), passages=st.integers(1, 5), terms=st.integers(1, 5),
    asked=st.sampled_from(["cat", "milk bowl", "cat dog", "unknown", "cat unknown"]),
)  # fmt: skip
def test_rm3_weights_add_up_to_one_and_only_grow_the_query(weight, passages, terms, asked):
    search = RM3(INDEX, passages, terms, weight)
    found = search.expand(Query(asked))
    assert sum(found.values()) == pytest.approx(1.0)
    assert all(value > 0 for value in found.values())
    new = set(found) - set(asked.split())
    assert len(new) <= terms


def test_rm3_of_original_weight_one_is_the_plain_ranking():
    for asked in ("cat milk", "dog", "bowl cat"):
        plain = [hit.id for hit in INDEX.search(Query(asked), 9)]
        assert [h.id for h in RM3(INDEX, original_weight=1.0).search(Query(asked), 9)] == plain


def test_rm3_finds_what_shares_no_term_with_the_query():
    index = corpus({"a": ["cat", "milk"], "b": ["milk"]})
    assert [hit.id for hit in index.search(CAT, 9)] == ["a"]
    assert [hit.id for hit in RM3(index).search(CAT, 9)] == ["a", "b"]


def test_rm3_adds_no_common_short_long_or_odd_term():
    long, many = "x" * 21, {f"m{n}": ["common"] for n in range(9)}
    index = corpus({"a": ["cat", "common", "é1", "a.b", "y", long, "fine"], **many})
    assert set(RM3(index).expand(CAT)) == {"cat", "fine"}


def test_rm3_of_a_tiny_corpus_is_the_query_itself():
    index = SparseIndex()
    index.add(["a", "b"], ["cat milk", "dog"])
    assert RM3(index).expand(CAT) == {"cat": 1.0}


def test_rocchio_is_worked_by_hand():
    a = {"cat": 2 / math.sqrt(5), "milk": 1 / math.sqrt(5)}
    b = dict.fromkeys(("cat", "milk", "bowl"), 1 / math.sqrt(3))
    expected = {
        "cat": 1.0 + 0.75 * (a["cat"] + b["cat"]) / 2,
        "milk": 0.75 * (a["milk"] + b["milk"]) / 2,
        "bowl": 0.75 * b["bowl"] / 2,
    }
    assert SparseRocchio(INDEX).expand(CAT) == pytest.approx(expected)
    only = SparseRocchio(INDEX, terms=1).expand(CAT)
    assert set(only) == {"cat", "milk"}


def test_rocchio_takes_the_worst_away():
    with_worst = SparseRocchio(INDEX, passages=1, bottom=1, gamma=0.5).expand(CAT)
    without = SparseRocchio(INDEX, passages=1).expand(CAT)
    assert with_worst["cat"] < without["cat"]
    assert "bowl" not in with_worst, "a negative weight is dropped"


def test_rocchio_moves_impacts_too():
    index = SparseIndex(Impact())
    index.add_vectors(["a", "b"], [{"cat": 3.0, "milk": 4.0}, {"milk": 1.0}])
    search = SparseRocchio(index, alpha=1.0, beta=1.0)
    assert search.expand_terms({"cat": 2.0}) == pytest.approx({"cat": 1.6, "milk": 0.8})


@pytest.mark.parametrize("make", [RM3, SparseRocchio])
def test_expanded_searches_keep_the_protocol(make):
    search = make(INDEX)
    within = frozenset({"b", "c", "z1"})
    found = search.search(CAT, 9, within=within)
    assert {hit.id for hit in found} <= within
    assert found[0].id == "b"
    # Feedback comes from within too: a scope tells nothing of what lies outside.
    assert "milk" in search.expand(CAT, within=within)
    assert search.expand(CAT, within=frozenset({"c"})).keys() == {"cat"}
    queries = [CAT, Query("dog"), Query("zebra")]
    assert search.search_batch(queries, 4) == [search.search(q, 4) for q in queries]
    hits = search.search(CAT, 9)
    np.testing.assert_allclose(search.scores_of(CAT, [h.id for h in hits]), [h.score for h in hits])
    assert search.ids == INDEX.ids
    with pytest.raises(KeyError, match="nobody"):
        search.scores_of(CAT, ["nobody"])


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (RM3, {"feedback_passages": 0}, "feedback_passages must be at least 1, got 0"),
        (RM3, {"feedback_terms": 0}, "feedback_terms must be at least 1, got 0"),
        (RM3, {"original_weight": 1.1}, r"original_weight must be in \[0, 1\], got 1.1"),
        (SparseRocchio, {"alpha": -1.0}, "alpha must be at least 0 and finite, got -1.0"),
        (SparseRocchio, {"beta": math.nan}, "beta must be at least 0 and finite, got nan"),
        (SparseRocchio, {"passages": 0}, "passages must be at least 1, got 0"),
        (SparseRocchio, {"bottom": -1}, "bottom must be at least 0, got -1"),
    ],
)
def test_rejects_options_by_name(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(INDEX, **options)

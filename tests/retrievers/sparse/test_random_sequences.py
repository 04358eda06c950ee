"""Any sequence of changes, saves and openings equals a fresh index, by a state machine."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from retrievers.sparse.index import SparseIndex
from retrievers.sparse.weighting import BM25, Impact

WORDS = [f"w{n}" for n in range(7)]
IDS = [f"p{n}" for n in range(10)]
QUERIES = ({"w1": 1.0, "w4": 2.0, "unknown": 1.0}, {"w0": 1.0, "w1": -0.5, "w6": 3.0})
COUNTED = (BM25(), BM25("okapi", k1=1.5, b=0.75), BM25("l"), BM25("plus"), Impact())
SETTINGS = settings(max_examples=40, stateful_step_count=14, deadline=None)

some_ids = st.lists(st.sampled_from(IDS), max_size=4)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


class Changes(RuleBasedStateMachine):
    """An index, the passages that it ought to hold, and two folders with what they ought to."""

    weightings = COUNTED

    def __init__(self):
        super().__init__()
        self.index, self.passages = SparseIndex(self.weightings[-1]), {}
        self.home = Path(tempfile.mkdtemp(prefix="sparse-"))
        self.saved, self.older = {}, None

    def teardown(self):
        shutil.rmtree(self.home)

    def put(self, index, passages):
        index.add_terms(list(passages), list(passages.values()))

    @rule(passages=st.dictionaries(st.sampled_from(IDS), st.lists(st.sampled_from(WORDS), max_size=5), max_size=4))  # fmt: skip
    def add(self, passages):
        self.put(self.index, passages)
        self.passages |= passages

    @rule(id_=st.sampled_from(IDS), word=st.sampled_from(WORDS))
    def add_one_and_search(self, id_, word):
        passage = {id_: self.filled(word)}
        self.put(self.index, passage)
        self.passages |= passage
        assert id_ in {hit.id for hit in self.index.search_terms({word: 1.0}, 99)}

    def filled(self, word):
        return [word, word, "w0"]

    @rule(ids=some_ids)
    def delete(self, ids):
        assert self.index.delete(ids) == len(set(ids) & self.passages.keys())
        self.passages = {id_: p for id_, p in self.passages.items() if id_ not in ids}

    @rule()
    def merge(self):
        self.index.merge()
        assert self.index.statistics.deleted == 0
        assert self.index.statistics.segments <= 1

    @rule(folder=st.sampled_from(["one", "two"]))
    def save(self, folder):
        self.index.save(self.home / folder)
        self.saved[folder] = dict(self.passages)

    @rule(folder=st.sampled_from(["one", "two"]))
    def open(self, folder):
        if folder in self.saved:
            self.older = (self.index, self.passages)
            self.index = SparseIndex.open(self.home / folder)
            self.passages = dict(self.saved[folder])

    @rule()
    def go_on_with_what_was_there_before_the_last_opening(self):
        if self.older:
            self.older, (self.index, self.passages) = (self.index, self.passages), self.older

    @rule()
    def look_by_a_view(self):
        self.index = self.index.with_weighting(self.weightings[-1])

    @invariant()
    def it_is_the_index_of_its_passages(self):
        self.compare(self.index, self.passages)

    @invariant()
    def folders_hold_what_was_saved(self):
        for folder, passages in self.saved.items():
            opened = SparseIndex.open(self.home / folder)
            assert opened.ids == tuple(sorted(passages))
            assert {id_: opened.term_counts(id_) for id_ in passages} == {
                id_: self.values(passage) for id_, passage in passages.items()
            }

    def values(self, passage):
        return {word: float(passage.count(word)) for word in passage}

    def compare(self, index, passages):
        fresh = SparseIndex(self.weightings[-1])
        self.put(fresh, passages)
        found, expected = index.statistics, fresh.statistics
        for fact in ("passages", "total_length", "vocabulary"):
            assert getattr(found, fact) == getattr(expected, fact), fact
        assert found.segments <= 8
        assert index.ids == fresh.ids == tuple(sorted(passages))
        assert [index.df(word) for word in WORDS] == [fresh.df(word) for word in WORDS]
        within = frozenset(IDS[::2])
        for weighting in self.weightings:
            one, other = index.with_weighting(weighting), fresh.with_weighting(weighting)
            for query in QUERIES:
                scores, ids = other.scores_of_terms(query, fresh.ids), fresh.ids
                np.testing.assert_allclose(one.scores_of_terms(query, ids), scores, rtol=1e-9)
                assert one.search_terms(query, 99) == other.search_terms(query, 99)
                some = one.search_terms(query, 2, within=within)
                assert some == other.search_terms(query, 2, within=within)


class ImpactChanges(Changes):
    """The same of impacts, with ties among them."""

    weightings = (Impact(),)

    def put(self, index, passages):
        index.add_vectors(list(passages), list(map(self.values, passages.values())))

    def values(self, passage):
        return {word: 0.25 * passage.count(word) for word in passage}


TestCounts = Changes.TestCase
TestCounts.settings = SETTINGS
TestImpacts = ImpactChanges.TestCase
TestImpacts.settings = SETTINGS


def test_many_changes_of_many_passages_equal_a_fresh_index():
    """Large enough that segments merge by themselves, in part and for their deletions."""
    rng = np.random.default_rng(0)
    machine = Changes()
    seen = set()
    try:
        for turn in range(150):
            machine.put(machine.index, more := drawn(rng, 2000, int(rng.integers(1, 60))))
            machine.passages |= more
            if turn % 3 == 0:
                gone = [str(id_) for id_ in rng.choice(list(machine.passages), 15)]
                machine.delete(gone)
            if turn % 40 == 39:
                machine.save("one")
                machine.open("one")
                machine.compare(machine.index, machine.passages)
            found = machine.index.statistics
            seen.add((found.segments, found.deleted > 0))
            assert found.segments <= 8
            assert found.deleted <= 0.25 * found.passages
        machine.compare(machine.index, machine.passages)
    finally:
        machine.teardown()
    assert {segments for segments, _ in seen} >= {1, 2, 8}


def drawn(rng, ids, count):
    return {
        f"m{number:04}": [str(word) for word in rng.choice(WORDS, 4)]
        for number in rng.choice(ids, count, replace=False)
    }

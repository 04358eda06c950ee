"""Any sequence of changes equals a fresh index, in memory, on disk, and after a killed writer."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import IndexFolderError
from rag.records import Query
from retrievers.sparse.index import SparseIndex
from retrievers.sparse.weighting import BM25, Impact

WORDS = [f"w{n}" for n in range(9)]
IDS = [f"p{n}" for n in range(12)]
OKAPI = BM25("okapi", k1=1.5, b=0.75)
QUERY = {"w1": 1.0, "w4": 2.0, "w7": 0.5, "unknown": 1.0}

passage = st.lists(st.sampled_from(WORDS), max_size=6)
change = st.one_of(
    st.tuples(st.just("add"), st.dictionaries(st.sampled_from(IDS), passage, max_size=5)),
    st.tuples(st.just("delete"), st.lists(st.sampled_from(IDS), max_size=4)),
    st.tuples(st.just("merge"), st.none()),
    st.tuples(st.just("save"), st.none()),
)


def built(passages, weighting=None):
    index = SparseIndex(weighting)
    index.add_terms(list(passages), list(passages.values()))
    return index


def assert_same(index, passages):
    """The index is that of these passages: statistics, frequencies, scores and rankings."""
    for weighting in (BM25(), OKAPI):
        view, fresh = index.with_weighting(weighting), built(passages, weighting)
        for fact in ("passages", "total_length", "vocabulary"):
            assert getattr(view.statistics, fact) == getattr(fresh.statistics, fact), fact
        assert view.ids == fresh.ids == tuple(sorted(passages))
        assert [view.df(word) for word in WORDS] == [fresh.df(word) for word in WORDS]
        ids = list(passages)
        np.testing.assert_allclose(
            view.scores_of_terms(QUERY, ids), fresh.scores_of_terms(QUERY, ids), rtol=1e-9
        )
        assert view.search_terms(QUERY, 99) == fresh.search_terms(QUERY, 99)
        assert view.search_terms(QUERY, 3) == fresh.search_terms(QUERY, 99)[:3]
    for id_, terms in passages.items():
        assert index.term_counts(id_) == {t: float(terms.count(t)) for t in terms}


@settings(max_examples=60)
@given(changes=st.lists(change, max_size=10))
def test_any_sequence_of_changes_equals_a_fresh_index(changes, tmp_path_factory):
    index, passages = SparseIndex(), {}
    folder = tmp_path_factory.mktemp("changes")
    for name, given_ in changes:
        if name == "add":
            index.add_terms(list(given_), list(given_.values()))
            passages |= given_
        elif name == "delete":
            assert index.delete(given_) == len(set(given_) & passages.keys())
            passages = {id_: p for id_, p in passages.items() if id_ not in given_}
        elif name == "merge":
            index.merge()
        else:
            index.save(folder)
            index = SparseIndex.open(folder)
        assert len(index) == len(passages)
    assert_same(index, passages)
    index.merge()
    assert index.statistics.deleted == 0
    assert_same(index, passages)


def many(start, count, rng):
    return {f"m{start + n:04}": list(rng.choice(WORDS, 5)) for n in range(count)}


def test_segments_merge_by_themselves_and_stay_few():
    rng = np.random.default_rng(0)
    index, passages = SparseIndex(), {}
    for start in range(0, 600, 20):
        more = many(start, 20, rng)
        index.add_terms(list(more), list(more.values()))
        passages |= more
        assert index.search_terms(QUERY, 5)
        assert index.statistics.segments <= 8
    gone = list(passages)[::2]
    index.delete(gone)
    passages = {id_: p for id_, p in passages.items() if id_ not in set(gone)}
    assert_same(index, passages)
    assert index.statistics.deleted <= 0.2 * 600


def saved(folder, count=40):
    rng = np.random.default_rng(1)
    passages = many(0, count, rng)
    index = built(passages)
    index.save(folder)
    return index, passages


def test_a_saved_index_gives_the_same_bits_and_is_mapped(tmp_path):
    index, passages = saved(tmp_path)
    opened = SparseIndex.open(tmp_path)
    ids = list(passages)
    assert opened.search_terms(QUERY, 99) == index.search_terms(QUERY, 99)
    assert (
        opened.scores_of_terms(QUERY, ids).tobytes() == index.scores_of_terms(QUERY, ids).tobytes()
    )
    bases = [part.segment.rows.base for part in opened._postings.snapshot().parts]
    assert all(isinstance(base, np.memmap) for base in bases)


def test_saving_again_writes_nothing_anew_and_elsewhere_links(tmp_path):
    index, passages = saved(tmp_path / "one")
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "one").rglob("*.npy")}
    index.save(tmp_path / "one")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "one").rglob("*.npy")} == files
    SparseIndex.open(tmp_path / "one").save(tmp_path / "two")
    linked = {p.stat().st_ino for p in (tmp_path / "two").rglob("*.npy")}
    assert linked == {p.stat().st_ino for p in files}
    for path in [*(tmp_path / "two").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    assert_same(SparseIndex.open(tmp_path / "two"), passages)


@pytest.mark.parametrize("call", ["fsync", "rename", "replace", "hardlink_to"])
def test_a_writer_killed_at_any_call_leaves_the_old_index_or_the_new(tmp_path, monkeypatch, call):
    rng = np.random.default_rng(2)
    _, before = saved(tmp_path / "home")
    home = SparseIndex.open(tmp_path / "home")
    if call == "hardlink_to":
        home.save(tmp_path / "other")
        folder = tmp_path / "other"
    else:
        folder = tmp_path / "home"
    index = SparseIndex.open(tmp_path / "home")
    more = many(500, 7, rng)
    index.add_terms(list(more), list(more.values()))
    index.delete(["m0003", "m0004"])
    after = {**{i: p for i, p in before.items() if i not in ("m0003", "m0004")}, **more}
    owner = os if call == "fsync" else Path
    original = getattr(owner, call)
    crashes = 0
    for nth in range(200):
        calls = 0

        def crash(*args, nth=nth):
            nonlocal calls
            calls += 1
            if calls > nth:
                raise KeyboardInterrupt
            return original(*args)

        with monkeypatch.context() as patch:
            patch.setattr(owner, call, crash)
            try:
                index.save(folder)
            except KeyboardInterrupt:
                crashes += 1
                left = SparseIndex.open(folder)
                assert left.ids in (tuple(sorted(before)), tuple(sorted(after)))
                continue
        break
    assert crashes >= (0 if call == "hardlink_to" else 1)
    assert_same(SparseIndex.open(folder), after)
    index.save(folder)
    assert not list(folder.glob(".*")), "what a killed writer left is gone"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "sparse.json").unlink(), "holds no readable sparse index"),
        (lambda f: (f / "sparse.json").write_text("{"), "sparse.json is damaged"),
        (lambda f: (f / "sparse.json").write_text('{"format": 9, "segments": [], "passages": 0, "total_length": 0}'), "of format 9"),
        (lambda f: next(f.rglob("rows.npy")).unlink(), "holds no readable segment"),
        (lambda f: next(f.rglob("rows.npy")).write_bytes(b"x"), "holds no readable segment"),
        (lambda f: np.save(next(f.rglob("lengths.npy")), np.zeros(3, np.int32)), "do not fit each other"),
        (lambda f: np.save(next(f.rglob("rows.npy")), np.zeros(3)), "is damaged"),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path, spoil, message):
    saved(tmp_path)
    spoil(tmp_path)
    with pytest.raises(IndexFolderError, match=message):
        SparseIndex.open(tmp_path)


def test_another_analyser_is_refused(tmp_path):
    from rag.text.analyser import Analyser

    saved(tmp_path)
    with pytest.raises(IndexFolderError, match="was indexed with analyser"):
        SparseIndex.open(tmp_path, analyser=Analyser("none"))


def test_a_search_sees_the_passages_of_one_moment():
    """While one thread replaces passages two by two, no search finds only one of a pair."""
    index = built({"a": ["w1"], "b": ["w1"]})
    wrong, stop = [], threading.Event()

    def search():
        while not stop.is_set():
            found = {hit.id for hit in index.search_terms({"w1": 1.0, "w2": 1.0}, 9)}
            if found != {"a", "b"}:
                wrong.append(found)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(300):
        index.add_terms(["a", "b"], [[WORDS[1 + n % 2]]] * 2)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_filter_is_applied_before_ranking():
    rng = np.random.default_rng(3)
    passages = many(0, 200, rng)
    index = built(passages)
    within = frozenset(list(passages)[::7]) | {"unknown"}
    kept = {id_: p for id_, p in passages.items() if id_ in within}
    found = index.search_terms(QUERY, 5, within=within)
    everything = index.search_terms(QUERY, 999)
    assert found == [hit for hit in everything if hit.id in kept][:5]
    assert index.search_terms(QUERY, 5, within=frozenset()) == []


def test_what_was_deleted_or_replaced_is_found_no_more():
    index = SparseIndex()
    index.add(["a", "b"], ["red cat", "blue dog"])
    index.add(["a"], ["green bird"])
    assert index.search(Query("red cat"), 9) == []
    assert [hit.id for hit in index.search(Query("green"), 9)] == ["a"]
    assert index.delete(["b", "nobody"]) == 1
    assert index.search(Query("dog"), 9) == []
    assert ("b" in index, "a" in index, len(index)) == (False, True, 1)
    assert index.df("dog") == 0
    assert index.statistics.vocabulary == 2


def test_ties_go_by_id_across_segments():
    index = SparseIndex()
    for id_ in ("c", "a", "d", "b"):
        index.add([id_], ["red cat"])
    assert [hit.id for hit in index.search(Query("cat"), 3)] == ["a", "b", "c"]


def test_odd_questions_and_corpora_have_plain_results():
    empty = SparseIndex()
    assert empty.search(Query("anything"), 5) == []
    assert (len(empty), empty.ids) == (0, ())
    index = built({"a": ["w1"], "b": []})
    assert index.search(Query("zebra"), 5) == []
    assert [hit.id for hit in index.search_terms({"w1": 1.0}, 99)] == ["a"]
    assert index.search_terms({"w1": 0.0}, 5) == []
    assert index.search_terms({"w1": -1.0}, 5)[0].score < 0
    assert index.search_batch([], 5) == []
    queries = [Query("w1"), Query("zebra")]
    assert index.search_batch(queries, 5) == [index.search(query, 5) for query in queries]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i: i.search_terms({"w1": 1.0}, 0), "top_k must be at least 1, got 0"),
        (lambda i: i.search_terms({"w1": float("nan")}, 1), "weights must be finite, got nan for 'w1'"),
        (lambda i: i.add(["x"], []), "ids and texts must be as long, got 1 and 0"),
        (lambda i: i.add(["x", "x"], ["", ""]), "ids must be unique, got 'x' twice"),
        (lambda i: i.add_vectors(["x"], [{"w": 1.0}]), r"impacts need weighting=Impact\(\)"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(built({"a": ["w1"]}))


def test_an_index_holds_counts_or_impacts():
    index = SparseIndex(Impact())
    index.add_vectors(["a"], [{"w": 1.5}])
    with pytest.raises(ValueError, match="impacts"):
        index.add(["b"], ["red"])
    for wrong in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="above 0 and finite"):
            index.add_vectors(["c"], [{"w": wrong}])
    with pytest.raises(KeyError, match="nobody"):
        index.scores_of_terms({"w": 1.0}, ["nobody"])

"""Recall: counted by hand, measured, recorded, and forgotten when the index changes."""

import importlib.util
import json

import numpy as np
import pytest

from rag.records import Hit
from retrievers import DenseIndex
from retrievers.dense.exact import Exact
from retrievers.dense.hnsw import HNSW
from retrievers.dense.recall import Recall, measure_recall

needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None, reason="faiss is not installed"
)
LOSSY = HNSW(m=2, ef_construction=2, ef_search=1, scan_up_to=0)


def unit(n, seed=0, dim=32):
    vectors = np.random.default_rng(seed).standard_normal((n, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def named(n):
    return [f"p{row:04}" for row in range(n)]


class Forgetful:
    """Finds the best three but for one, and another of equal score in place of another."""

    ids = ("a", "b", "c", "d")

    def vectors(self, ids):
        return np.ones((len(ids), 1), np.float32)

    def search_vectors(self, vectors, top_k, *, exact=False):
        true = [Hit("a", 0.9), Hit("b", 0.8), Hit("c", 0.7), Hit("d", 0.7)]
        found = [Hit("a", 0.9), Hit("d", 0.7), Hit("e", 0.1)]
        return [(true if exact else found)[:top_k] for _ in vectors]


def test_by_hand_equal_scores_count_whichever_was_found():
    assert measure_recall(Forgetful(), top_k=3, sample=2, seed=5) == Recall(2 / 3, 3, 2, 5)
    assert measure_recall(Forgetful(), np.ones((4, 1)), top_k=1) == Recall(1.0, 1, 4, None)


@needs_faiss
def test_measures_what_a_poor_graph_misses_the_same_each_time():
    index = DenseIndex.build(named(600), unit(600), kind=LOSSY)
    assert index.recall is None
    measured = index.measure(top_k=10, sample=40, seed=3)
    assert 0.05 < measured.value < 0.95
    assert (measured.at, measured.queries, measured.seed) == (10, 40, 3)
    assert index.recall == measured == measure_recall(index, top_k=10, sample=40, seed=3)
    asked = unit(7, seed=8)
    shares = []
    for one in asked:
        true = {hit.id for hit in index.search_vectors(one[None], 10, exact=True)[0]}
        shares.append(len(true & {hit.id for hit in index.search_vector(one, 10)}) / 10)
    assert index.measure(asked, top_k=10).value == pytest.approx(np.mean(shares))


@needs_faiss
@pytest.mark.parametrize("change", ["add", "delete", "compact"])
def test_a_change_makes_it_unknown_and_saving_measures_it(tmp_path, change):
    index = DenseIndex.build(named(200), unit(200), kind=LOSSY)
    index.save(tmp_path)
    recorded = json.loads((tmp_path / "dense.json").read_text())["recall"]
    assert recorded == {
        "value": index.recall.value,
        "at": 100,
        "queries": 100,
        "seed": 0,
        "exact": False,
    }
    assert DenseIndex.load(tmp_path).recall == index.recall
    assert DenseIndex.load(tmp_path, kind=HNSW()).recall is None
    match change:
        case "add":
            index.add(["new"], unit(1, seed=2))
        case "delete":
            index.delete(["p0003"])
        case "compact":
            index.compact()
    assert index.recall is None


def test_exact_kinds_need_no_measuring(tmp_path):
    index = DenseIndex.build(named(20), unit(20), kind=Exact("numpy"))
    assert index.recall == index.measure() == Recall(1.0, exact=True)
    index.save(tmp_path)
    assert json.loads((tmp_path / "dense.json").read_text())["recall"] == {
        "value": 1.0,
        "exact": True,
    }
    assert DenseIndex.load(tmp_path).recall == index.recall
    assert measure_recall(index).value == 1.0


def test_an_empty_index_misses_nothing():
    assert measure_recall(DenseIndex(4)) == Recall(1.0, 100, 0, 0)


def test_rejects_an_empty_sample():
    with pytest.raises(ValueError, match="sample must be at least 1, got 0"):
        measure_recall(DenseIndex(4), sample=0)

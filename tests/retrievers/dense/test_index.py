"""Dense index: exact cosine by faiss and numpy alike, ties, vectors by id, and on disk."""

import importlib.util
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import IndexFolderError, MissingExtraError
from rag.records import Hit
from retrievers import DenseIndex
from retrievers.dense.exact import Exact
from retrievers.dense.index import DenseStatistics

BACKENDS = ["numpy", "faiss"] if importlib.util.find_spec("faiss") else ["numpy"]


def unit(n, seed=0, dim=6):
    vectors = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def named(n):
    return [f"p{row:03}" for row in range(n)]


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def test_three_passages_by_hand(backend):
    vectors = np.array([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8]], np.float32)
    built = DenseIndex.build(["up", "right", "between"], vectors, backend=backend)
    hits = built.search_vector(np.array([1.0, 0.0]), 2)
    assert hits == [Hit("right", 1.0), Hit("between", pytest.approx(0.6))]
    assert built.backend == backend


@given(n=st.integers(0, 40), top_k=st.integers(1, 45), seed=st.integers(0, 99))
def test_backends_agree_with_the_definition(n, top_k, seed):
    vectors, asked = unit(n, seed).round(1), unit(1, seed + 1)[0].round(1)
    vectors = vectors.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kept = vectors.astype(np.float32).astype(np.float64)
    by_definition = [(-sum(a * b for a, b in zip(v, asked.tolist(), strict=True)), i)
                     for v, i in zip(kept.tolist(), named(n), strict=True)]  # fmt: skip
    expected = sorted(by_definition)[:top_k]
    rankings = [
        DenseIndex.build(named(n), vectors, backend=b).search_vector(asked, top_k) for b in BACKENDS
    ]
    assert all(ranking == rankings[0] for ranking in rankings)
    assert [hit.score for hit in rankings[0]] == pytest.approx([-score for score, _ in expected])
    assert rankings[0] == sorted(rankings[0], key=lambda hit: (-hit.score, hit.id))
    assert len({hit.id for hit in rankings[0]}) == len(rankings[0]) == min(n, top_k)


@pytest.mark.parametrize("top_k", [1, 3, 60, 99, 100])
def test_equal_vectors_tie_by_id_however_many(backend, top_k):
    # More ties than faiss is asked for, with one better and one worse among them.
    vectors = np.repeat(unit(1, seed=5, dim=37), 100, axis=0)
    vectors[50] = unit(1, seed=6, dim=37)[0]
    built = DenseIndex.build(named(100)[::-1], vectors, backend=backend)
    hits = built.search_vector(vectors[0], top_k)
    expected = [id_ for id_ in named(100) if id_ != "p049"] + ["p049"]
    assert [hit.id for hit in hits] == expected[:top_k]


@pytest.mark.parametrize("top_k", [1, 5, 300])
@pytest.mark.parametrize("best_last", [True, False])
def test_near_ties_beyond_single_precision_are_still_in_order(backend, top_k, best_last):
    # One vector many times, each with one component moved by the least that float32 can: far more
    # of them tie in float32 than faiss is asked for.
    vectors = np.repeat(unit(1, seed=5, dim=37), 500, axis=0)
    asked = unit(1, seed=8, dim=37)[0]
    for row in range(500):
        vectors[row, row % 37] = np.nextafter(vectors[row, row % 37], np.float32(row % 3 - 1))
    if best_last:
        vectors = vectors[np.argsort(vectors.astype(float) @ asked.astype(float))]
    exact = sorted((vectors.astype(float) @ asked.astype(float)).tolist(), reverse=True)
    hits = DenseIndex.build(named(500), vectors, backend=backend).search_vector(asked, top_k)
    assert [hit.score for hit in hits] == pytest.approx(exact[:top_k], abs=1e-14, rel=0)


def test_the_order_of_building_makes_no_difference(backend):
    vectors, order = unit(30), np.random.default_rng(1).permutation(30)
    ids = named(30)
    one = DenseIndex.build(ids, vectors, backend=backend)
    other = DenseIndex.build([ids[row] for row in order], vectors[order], backend=backend)
    assert one.search_vector(vectors[3], 30) == other.search_vector(vectors[3], 30)


def test_the_length_of_the_query_scales_the_scores_only(backend):
    built = DenseIndex.build(named(50), unit(50), backend=backend)
    asked = unit(1, seed=7)[0]
    for scale in (1e-3, 1e3):
        scaled = built.search_vector(asked * np.float32(scale), 5)
        assert [hit.id for hit in scaled] == [hit.id for hit in built.search_vector(asked, 5)]


def test_hands_back_vectors_in_the_order_asked():
    vectors = unit(5)
    built = DenseIndex.build(named(5), vectors)
    assert built.vectors(["p003", "p000", "p003"]).tolist() == vectors[[3, 0, 3]].tolist()
    assert built.vectors([]).shape == (0, 6)
    assert built.vectors(["p001"]).dtype == np.float32


def test_an_unknown_id_is_named():
    with pytest.raises(KeyError, match="no vector for passage 'nobody'"):
        DenseIndex.build(["a"], unit(1)).vectors(["a", "nobody"])


@pytest.mark.parametrize("n", [0, 1, 20])
def test_a_loaded_index_is_the_saved_one(n, tmp_path, backend):
    built = DenseIndex.build(named(n), unit(n), backend=backend)
    built.save(tmp_path / "new")
    loaded = DenseIndex.load(tmp_path / "new", backend=backend)
    asked = unit(1, seed=3)[0]
    assert (loaded.ids, loaded.dim, len(loaded)) == (built.ids, 6, n)
    assert loaded.search_vector(asked, 7) == built.search_vector(asked, 7)
    assert loaded.vectors(named(n)).tolist() == built.vectors(named(n)).tolist()


@pytest.mark.parametrize("damage", ["missing", "mixed", "format", "pickle", "keys"])
def test_load_refuses_a_damaged_folder(tmp_path, damage):
    DenseIndex.build(named(3), unit(3)).save(tmp_path)
    about = json.loads((tmp_path / "dense.json").read_text())
    match damage:
        case "missing":
            (tmp_path / "vectors.npy").unlink()
        case "mixed":
            np.save(tmp_path / "vectors.npy", unit(4))
        case "format":
            (tmp_path / "dense.json").write_text(json.dumps(about | {"format": 99}))
        case "pickle":
            np.save(tmp_path / "vectors.npy", np.array([{}], object), allow_pickle=True)
        case "keys":
            (tmp_path / "dense.json").write_text("{}")
    with pytest.raises(IndexFolderError, match="dense index"):
        DenseIndex.load(tmp_path)


def test_faiss_by_name_needs_faiss(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert DenseIndex.build(["a"], unit(1)).backend == "numpy"
    with pytest.raises(MissingExtraError, match=r"pip install 'dovetail-rag\[cpu\]'"):
        DenseIndex.build(["a"], unit(1), backend="faiss")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 2.0])
def test_rejects_a_vector_that_is_not_unit_and_names_it(bad):
    vectors = unit(3)
    vectors[1] *= bad
    with pytest.raises(ValueError, match=r"vectors must have unit length, got .* for 'p001'"):
        DenseIndex.build(named(3), vectors)


@pytest.mark.parametrize(
    ("ids", "shape", "message"),
    [
        (["a"], (2, 6), r"vectors must be \(1, dim\), got \(2, 6\)"),
        (["a"], (6,), r"got \(6,\)"),
        (["a", "a"], (2, 6), "ids must be unique, got 'a' twice"),
    ],
)
def test_rejects_what_it_cannot_build(ids, shape, message):
    vectors = np.full(shape, 1 / np.sqrt(6), np.float32)
    with pytest.raises(ValueError, match=message):
        DenseIndex.build(ids, vectors)


@pytest.mark.parametrize(
    ("asked", "top_k", "message"),
    [
        (np.zeros(6), 1, "vector must be finite and not zero, got norm 0.0"),
        (np.full(6, np.nan), 1, "got norm nan"),
        (np.full(6, np.inf), 1, "got norm inf"),
        (np.ones(5), 1, r"vector must be \(6,\), got \(5,\)"),
        (np.ones((1, 6)), 1, r"got \(1, 6\)"),
        (np.ones(6), 0, "top_k must be at least 1, got 0"),
    ],
)
@pytest.mark.parametrize("n", [0, 3])
def test_rejects_a_query_it_cannot_compare(asked, top_k, message, n):
    with pytest.raises(ValueError, match=message):
        DenseIndex.build(named(n), unit(n)).search_vector(asked, top_k)


def test_counts_what_it_holds():
    built = DenseIndex.build(named(10), unit(10), dtype="float16")
    built.add(["p003", "new"], unit(2, seed=4))
    assert built.statistics == DenseStatistics(vectors=11, dead=1, tail=12, vector_bytes=144)
    assert ("p003" in built, "new" in built, "p010" in built, 3 in built) == (
        True,
        True,
        False,
        False,
    )
    assert built.delete(["p001", "p001", "nobody"]) == 1
    assert ("p001" in built, len(built), built.dtype) == (False, 10, "float16")
    built.delete(["p002"])  # a quarter would be dead: they are dropped
    assert built.statistics == DenseStatistics(vectors=9, dead=0, tail=0, vector_bytes=108)


def test_scores_given_passages_in_the_order_asked():
    built = DenseIndex.build(["a", "b"], np.array([[1.0, 0.0], [0.6, 0.8]]))
    scores = built.scores_of(np.array([0.0, 2.0]), ["b", "a", "b"])
    assert scores.tolist() == pytest.approx([1.6, 0.0, 1.6])
    assert scores.dtype == np.float64
    assert built.scores_of(np.array([0.0, 2.0]), []).shape == (0,)
    with pytest.raises(KeyError, match="no vector for passage 'nobody'"):
        built.scores_of(np.ones(2), ["nobody"])
    with pytest.raises(ValueError, match="vector must be finite and not zero"):
        built.scores_of(np.zeros(2), ["a"])


def test_hands_out_copies():
    built = DenseIndex.build(named(3), unit(3))
    built.vectors(named(3))[:] = 0.0
    assert built.vectors(named(3)).tolist() == unit(3).tolist()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (np.ones(6), r"vectors must be \(queries, 6\), got \(6,\)"),
        (np.ones((2, 5)), r"got \(2, 5\)"),
        (np.array([np.ones(6), np.zeros(6)]), "vector must be finite and not zero, got norm 0.0"),
        (np.full((1, 6), 1e200), "got norm inf"),
    ],
)
def test_rejects_a_batch_it_cannot_compare(asked, message):
    with pytest.raises(ValueError, match=message):
        DenseIndex.build(named(3), unit(3)).search_vectors(asked, 2)


def test_rejects_a_kind_beside_a_backend_and_an_unknown_backend():
    with pytest.raises(ValueError, match=r"kind or backend, not both, got Exact\(.*\) and 'numpy'"):
        DenseIndex.build(named(3), unit(3), kind=Exact(), backend="numpy")
    with pytest.raises(ValueError, match=r"backend must be one of \('faiss', 'numpy'\), got 'gpu'"):
        DenseIndex.build(named(3), unit(3), backend="gpu")


def test_threads_take_in_new_rows_one_at_a_time(backend, monkeypatch):
    built = DenseIndex.build(named(50), unit(50), backend=backend)
    inside, most = [], []

    def sync(real=built._engine.sync):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.003)
        real()
        inside.pop()

    monkeypatch.setattr(built._engine, "sync", sync)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: built.search_vector(one, 9), unit(12, seed=3)))
    assert most == [1] * 12


def test_searches_from_many_threads_find_the_same(backend, tmp_path):
    asked = unit(64, seed=3)
    built = DenseIndex.build(named(500), unit(500), backend=backend)
    built.save(tmp_path)
    expected = [built.search_vector(one, 9) for one in asked]
    loaded = DenseIndex.load(tmp_path, backend=backend)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda one: loaded.search_vector(one, 9), asked)) == expected

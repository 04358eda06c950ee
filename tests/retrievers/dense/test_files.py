"""Dense index folders: engines as a cache, damage, old formats, and readers of what is replaced."""

import importlib.util
import json

import numpy as np
import pytest

from rag.errors import IndexFolderError
from retrievers import DenseIndex
from retrievers.dense import files
from retrievers.dense.exact import Exact
from retrievers.dense.faiss_rows import FaissRows
from retrievers.dense.flat import Flat
from retrievers.dense.hnsw import HNSW
from retrievers.dense.ivfpq import IVFPQ

needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None, reason="faiss is not installed"
)
GRAPH = HNSW(m=4, ef_construction=10, ef_search=12, scan_up_to=0)
LISTS = IVFPQ(lists=6, sub_quantisers=2, bits=4, probes=3, scan_up_to=0)


def unit(n, seed=0, dim=6):
    vectors = np.random.default_rng(seed).standard_normal((n, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def named(n):
    return [f"p{row:03}" for row in range(n)]


def changed(kind, n=300):
    index = DenseIndex.build(named(n), unit(n), kind=kind)
    index.delete(named(n)[3::40])
    index.add(["p000", "new"], unit(2, seed=8))
    return index


@needs_faiss
@pytest.mark.parametrize("kind", [GRAPH, LISTS], ids=repr)
def test_a_saved_engine_is_used_and_a_missing_or_other_one_built_again(tmp_path, kind, monkeypatch):
    index = changed(kind)
    asked = unit(20, seed=5)
    found = index.search_vectors(asked, 9)
    index.save(tmp_path)
    loaded = DenseIndex.load(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(FaissRows, "sync", lambda engine: None)  # nothing may be built
        assert loaded.search_vectors(asked, 9) == found
    data = (tmp_path / "index.faiss").read_bytes()
    for damage in ("missing", "other", "cut"):
        match damage:
            case "missing":
                (tmp_path / "index.faiss").unlink()
            case "other":
                (tmp_path / "index.faiss").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
            case "cut":
                (tmp_path / "index.faiss").write_bytes(data[:50])
        again = DenseIndex.load(tmp_path)
        assert again.kind == kind
        assert set(again.ids) == set(index.ids)
        for hits in again.search_vectors(asked, 9):
            assert len(hits) == 9
            assert not {hit.id for hit in hits} & set(named(300)[3::40])
        again.add(["more"], unit(1, seed=11))
        assert again.search_vector(unit(1, seed=11)[0], 1)[0].id == "more"


@needs_faiss
def test_an_engine_of_another_number_of_rows_is_refused_though_its_hash_fits(tmp_path):
    DenseIndex.build(named(100), unit(100), kind=GRAPH).save(tmp_path / "a")
    DenseIndex.build(named(110), unit(110, seed=1), kind=GRAPH).save(tmp_path / "b")
    sha256 = json.loads((tmp_path / "b/dense.json").read_text())["engine"]
    about = json.loads((tmp_path / "a/dense.json").read_text()) | {"engine": sha256}
    (tmp_path / "a/dense.json").write_text(json.dumps(about))
    (tmp_path / "a/index.faiss").write_bytes((tmp_path / "b/index.faiss").read_bytes())
    loaded = DenseIndex.load(tmp_path / "a")
    fresh = DenseIndex.build(named(100), unit(100), kind=GRAPH)
    asked = unit(10, seed=4)
    assert loaded.search_vectors(asked, 20) == fresh.search_vectors(asked, 20)


@needs_faiss
@pytest.mark.parametrize("other", [Exact("numpy"), Flat(), LISTS, GRAPH, HNSW(m=6)], ids=repr)
def test_another_kind_may_be_asked_for_when_loading(tmp_path, other):
    index = changed(GRAPH)
    index.save(tmp_path)
    loaded = DenseIndex.load(tmp_path, kind=other)
    assert loaded.kind == other
    expected = index.search_vectors(unit(4), 5, exact=True)
    assert loaded.search_vectors(unit(4), 5, exact=True) == expected
    if other.exact:
        assert loaded.search_vectors(unit(4), 5) == expected


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_exact_kind_leaves_nothing_deleted_on_disk_and_equals_a_fresh_one(tmp_path, dtype):
    index = DenseIndex.build(named(30), unit(30), dtype=dtype)
    index.delete(["p004"])
    index.add(["a", "p007"], unit(2, seed=3))
    index.save(tmp_path / "changed")
    fresh = DenseIndex.build(named(30)[:4] + named(30)[5:], np.delete(unit(30), 4, 0), dtype=dtype)
    fresh.add(["p007", "a"], unit(2, seed=3)[::-1])
    fresh.save(tmp_path / "fresh")
    for name in ("vectors.npy", "dense.json"):
        assert (tmp_path / "changed" / name).read_bytes() == (
            tmp_path / "fresh" / name
        ).read_bytes()
    assert np.load(tmp_path / "changed/vectors.npy").shape == (30, 6)
    assert DenseIndex.load(tmp_path / "changed").dtype == dtype


@pytest.mark.parametrize("kind", [Exact("numpy"), pytest.param(GRAPH, marks=needs_faiss)], ids=repr)
def test_saving_into_the_same_folder_leaves_readers_of_the_old_one_alone(tmp_path, kind):
    index = DenseIndex.build(named(100), unit(100), kind=kind)
    index.save(tmp_path)
    for step in range(3):
        reader = DenseIndex.load(tmp_path)
        before = reader.search_vectors(unit(3), 100)
        late = DenseIndex.load(tmp_path)  # reads its engine only after the next save
        writer = DenseIndex.load(tmp_path)
        writer.delete([f"p{step:03}"])
        writer.add(["new"], unit(1, seed=step + 20))
        writer.save(tmp_path)
        assert reader.search_vectors(unit(3), 100) == before
        assert late.vectors(late.ids).tolist() == reader.vectors(reader.ids).tolist()
        assert {len(hits) for hits in late.search_vectors(unit(3), 100)} == {len(reader)}
        assert DenseIndex.load(tmp_path).ids == writer.ids
    assert len(list(tmp_path.glob("vectors*.npy"))) == 1
    assert {path.suffix for path in tmp_path.iterdir()} <= {".npy", ".json", ".faiss"}


def test_a_save_that_breaks_off_leaves_the_old_index(tmp_path, monkeypatch):
    DenseIndex.build(named(5), unit(5)).save(tmp_path)

    def fail(path, write):
        if path.name == files.ABOUT:
            raise OSError("disk full")
        return real(path, write)

    real = files.write_atomically
    monkeypatch.setattr(files, "write_atomically", fail)
    with pytest.raises(OSError, match="disk full"):
        DenseIndex.build(named(5), unit(5, seed=1)).save(tmp_path)
    kept = DenseIndex.load(tmp_path)
    assert kept.vectors(named(5)).tolist() == unit(5).astype(np.float32).tolist()


@needs_faiss
def test_an_exact_kind_removes_the_engine_of_the_one_before(tmp_path):
    changed(GRAPH).save(tmp_path)
    assert (tmp_path / "index.faiss").exists()
    changed(Flat()).save(tmp_path)
    assert min(path.name for path in tmp_path.iterdir()) == "dense.json"
    assert not (tmp_path / "index.faiss").exists()


def test_reads_the_first_format(tmp_path):
    vectors = unit(4).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    (tmp_path / "dense.json").write_text(json.dumps({"format": 1, "dim": 6, "ids": named(4)}))
    loaded = DenseIndex.load(tmp_path)
    assert (loaded.ids, loaded.kind) == (tuple(named(4)), Flat())
    assert loaded.vectors(["p002"]).tolist() == vectors[2:3].tolist()
    loaded.delete(["p001"])
    loaded.save(tmp_path)
    assert DenseIndex.load(tmp_path).ids == ("p000", "p002", "p003")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": {"name": "tree"}},
        {"kind": {"name": "hnsw", "m": 0}},
        {"kind": {"name": "hnsw", "colour": 1}},
        {"kind": None},
        {"ids": ["a", "a", "b"]},
        {"ids": ["a", 1, "b"]},
        {"ids": ["a", "b"]},
        {"ids": 3},
        {"dtype": "float16"},
        {"dim": 7},
        {"vectors": "../vectors.npy"},
        {"vectors": "vectors.00000000.npy"},
        {"recall": {"value": 1.0, "colour": 1}},
        {"format": 3},
    ],
)
def test_refuses_a_record_that_does_not_fit(tmp_path, change):
    DenseIndex.build(named(3), unit(3), kind=Exact("numpy")).save(tmp_path)
    about = json.loads((tmp_path / "dense.json").read_text()) | change
    (tmp_path / "dense.json").write_text(json.dumps(about))
    with pytest.raises(IndexFolderError, match="dense index"):
        DenseIndex.load(tmp_path)


def test_refuses_a_record_that_is_no_object(tmp_path):
    DenseIndex.build(named(3), unit(3)).save(tmp_path)
    (tmp_path / "dense.json").write_text("[1]")
    with pytest.raises(IndexFolderError, match="holds no readable dense index"):
        DenseIndex.load(tmp_path)

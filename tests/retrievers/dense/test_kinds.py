"""Kinds of dense index: changes, filters, batches and reloads, against a plain model of each."""

import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import MissingExtraError
from retrievers import DenseIndex
from retrievers.dense.exact import Exact
from retrievers.dense.faiss_rows import FaissRows, approximate
from retrievers.dense.flat import Flat
from retrievers.dense.hnsw import HNSW
from retrievers.dense.ivfpq import IVFPQ
from retrievers.dense.kinds import index_kind
from retrievers.dense.scan import Allowed
from retrievers.dense.vectors import VectorStore

FAISS = importlib.util.find_spec("faiss") is not None
DIM = 8
EXACT = [Exact("numpy"), Exact("cpu"), *([Flat()] if FAISS else [])]
# A small index would be scanned: these search as large ones do.
APPROXIMATE = [
    HNSW(m=8, ef_construction=40, ef_search=64, scan_up_to=0),
    IVFPQ(lists=8, sub_quantisers=4, bits=4, probes=5, refine=6, scan_up_to=0),
]
APPROXIMATE = APPROXIMATE if FAISS else []
EVERY = EXACT + APPROXIMATE
needs_faiss = pytest.mark.skipif(not FAISS, reason="faiss is not installed")


def clustered(n, seed=0, dim=DIM, clusters=12):
    random = np.random.default_rng(seed)
    centres = random.standard_normal((clusters, dim))
    vectors = centres[random.integers(0, clusters, n)] + 0.4 * random.standard_normal((n, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def named(n):
    return [f"p{row:04}" for row in range(n)]


def by_definition(kept, query, top_k, within=None):
    """Rank what a plain dictionary holds: float64, one vector at a time."""
    scored = [
        (-sum(a * b for a, b in zip(vector.tolist(), query.tolist(), strict=True)), id_)
        for id_, vector in kept.items()
        if within is None or id_ in within
    ]
    return [(id_, -score) for score, id_ in sorted(scored)[:top_k]]


def check(index, kept, query, top_k, within=None):
    """Compare a search with the definition; return the share of the true ones that was found."""
    expected = by_definition(kept, query, top_k, within)
    hits = index.search_vector(query, top_k, within=within)
    found = [hit.id for hit in hits]
    assert len(set(found)) == len(found) == len(expected)
    assert set(found) <= (set(kept) if within is None else set(kept) & within)
    assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.id))
    own = [kept[id_].astype(float) @ query for id_ in found]
    assert [hit.score for hit in hits] == pytest.approx(own, abs=1e-12)
    assert [hit.score for hit in hits] == index.scores_of(query, found).tolist()
    if index.kind.exact:
        assert found == [id_ for id_, _ in expected]
    return len({id_ for id_, _ in expected} & set(found)) / max(len(expected), 1)


@pytest.fixture(params=EVERY, ids=repr)
def kind(request):
    return request.param


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("seed", range(3))
def test_after_any_changes_an_index_holds_what_is_left_and_nothing_else(kind, dtype, seed):
    random = np.random.default_rng(seed)
    vectors = clustered(2_000, seed)
    index = DenseIndex.build(named(300), vectors[:300], kind=kind, dtype=dtype)
    kept = dict(zip(named(300), index.vectors(named(300)), strict=True))
    shares, drawn = [], 300
    for step in range(30):
        match random.choice(
            ["add", "delete", "replace", "compact", "reload"], p=[0.3, 0.3, 0.2, 0.1, 0.1]
        ):
            case "add" | "replace" as what:
                pool = named(600) if what == "add" else sorted(kept)
                ids = [str(id_) for id_ in random.choice(pool, min(12, len(pool)), replace=False)]
                index.add(ids, vectors[drawn : drawn + len(ids)])
                kept |= dict(zip(ids, index.vectors(ids), strict=True))
                assert np.abs(index.vectors(ids) - vectors[drawn : drawn + len(ids)]).max() < 1e-3
                drawn += len(ids)
            case "delete":
                ids = {str(id_) for id_ in random.choice(named(600), 40, replace=False)}
                assert index.delete([*ids, "nobody"]) == len(ids & set(kept))
                kept = {id_: vector for id_, vector in kept.items() if id_ not in ids}
            case "compact":
                index.compact()
                assert index.statistics.dead == 0
            case "reload":
                with tempfile.TemporaryDirectory() as folder:
                    index.save(Path(folder))
                    index = DenseIndex.load(Path(folder))
                    assert index.kind == kind
                    index.search_vector(vectors[0], 1)
        assert (index.ids, len(index)) == (tuple(sorted(kept)), len(kept))
        assert index.statistics.dead <= 0.2 * (len(kept) + index.statistics.dead)
        within = frozenset(named(600)[step % 2 :: 2]) if step % 3 else None
        shares.append(check(index, kept, vectors[-1 - step] * 3.0, 10, within))
    assert np.mean(shares) > (0.999 if kind.exact else 0.85)


@settings(max_examples=25)
@given(seed=st.integers(0, 999), top_k=st.integers(1, 90), share=st.floats(0, 1))
@pytest.mark.parametrize("kind", EXACT, ids=repr)
def test_a_filter_is_filtering_before_ranking(kind, seed, top_k, share):
    vectors, random = clustered(80, seed).round(1), np.random.default_rng(seed)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = DenseIndex.build(named(80), vectors, kind=kind)
    index.delete(named(80)[::9])
    within = frozenset(id_ for id_ in named(100) if random.random() < share)
    everything = index.search_vector(vectors[0], 80)
    filtered = [hit for hit in everything if hit.id in within][:top_k]
    assert index.search_vector(vectors[0], top_k, within=within) == filtered
    assert index.search_vector(vectors[0], top_k, within=within) == filtered


def test_unknown_ids_in_a_filter_are_no_error_and_none_known_finds_nothing(kind):
    vectors = clustered(100)
    index = DenseIndex.build(named(100), vectors, kind=kind)
    only = index.search_vector(vectors[0], 5, within=frozenset({"p0003", "nobody"}))
    assert [hit.id for hit in only] == ["p0003"]
    assert index.search_vectors(vectors[:2], 5, within=frozenset({"nobody"})) == [[], []]
    assert index.search_vector(vectors[0], 5, within=frozenset()) == []
    index.delete(["p0003"])
    assert index.search_vector(vectors[0], 5, within=frozenset({"p0003", "nobody"})) == []
    index.add(["nobody"], vectors[:1])
    again = index.search_vector(vectors[0], 5, within=frozenset({"p0003", "nobody"}))
    assert [hit.id for hit in again] == ["nobody"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("within", [None, frozenset(named(400)[::3]), frozenset(named(9))])
def test_a_batch_equals_a_loop_to_the_last_bit(kind, dtype, within):
    index = DenseIndex.build(named(400), clustered(400), kind=kind, dtype=dtype)
    index.delete(named(400)[5::50])
    asked = np.random.default_rng(1).standard_normal((40, DIM))
    loop = [index.search_vector(one, 13, within=within) for one in asked]
    assert index.search_vectors(asked, 13, within=within) == loop
    assert index.search_vectors(asked[:3], 13, within=within) == loop[:3]
    assert index.search_vectors(asked[:0], 13) == []


def test_equal_vectors_tie_by_id_in_whatever_order_they_came(kind):
    vectors = clustered(400)
    index = DenseIndex.build(named(400), vectors, kind=kind)
    index.add(["b", "z"], vectors[[7, 7]])
    index.add(["a", "p0007", "c"], vectors[[7, 7, 7]])
    hits = index.search_vector(vectors[7], 5)
    assert [hit.id for hit in hits] == ["a", "b", "c", "p0007", "z"]
    assert len({hit.score for hit in hits}) == 1


def test_a_re_added_id_has_its_new_vector_only(kind):
    vectors = clustered(200)
    index = DenseIndex.build(named(200), vectors, kind=kind)
    for _ in range(3):  # once more than a compaction needs
        index.add(named(30), -vectors[:30])
        found = index.search_vector(vectors[4], 200)
        assert len(found) == len({hit.id for hit in found}) == 200
        by_id = {hit.id: hit.score for hit in found}
        assert by_id["p0004"] == pytest.approx(-1.0)
    index.delete(["p0004"])
    assert "p0004" not in {hit.id for hit in index.search_vector(-vectors[4], 200)}
    index.add(["p0004"], vectors[4:5])
    assert index.search_vector(vectors[4], 1)[0].id == "p0004"


def test_an_emptied_index_finds_nothing_and_fills_again(kind):
    vectors = clustered(100)
    index = DenseIndex.build(named(100), vectors, kind=kind)
    assert index.delete(named(100)) == 100
    assert index.search_vector(vectors[0], 3) == []
    assert index.search_vectors(vectors[:2], 3) == [[], []]
    assert index.statistics.dead == 0
    index.add(["one"], vectors[:1])
    assert [hit.id for hit in index.search_vector(vectors[0], 3)] == ["one"]


def test_an_index_may_start_empty_and_grow(kind):
    vectors = clustered(300)
    index = DenseIndex(DIM, kind=kind)
    kept = {}
    assert index.search_vector(vectors[0], 4) == []
    for start in range(0, 300, 50):
        ids = named(300)[start : start + 50]
        index.add(ids, vectors[start : start + 50])
        kept |= dict(zip(ids, index.vectors(ids), strict=True))
        assert check(index, kept, vectors[0], 8) >= (1.0 if kind.exact else 0.6)


@needs_faiss
@pytest.mark.parametrize("kind", APPROXIMATE, ids=repr)
def test_an_approximate_kind_finds_most_of_the_true_ones(kind):
    vectors = clustered(3_000, dim=16, clusters=60)
    index = DenseIndex.build(named(3_000), vectors, kind=kind)
    index.delete(named(3_000)[::10])
    asked = clustered(60, seed=0, dim=16, clusters=60)
    for within in (None, frozenset(named(3_000)[:1_500])):
        true = index.search_vectors(asked, 20, within=within, exact=True)
        found = index.search_vectors(asked, 20, within=within)
        share = [
            len({h.id for h in a} & {h.id for h in b}) / 20
            for a, b in zip(true, found, strict=True)
        ]
        assert np.mean(share) > 0.9
        assert found != true or kind.name == "hnsw"  # it was not a scan


@needs_faiss
def test_a_search_that_finds_too_few_is_made_up_for():
    store = VectorStore(2)
    angles = np.linspace(0, 1, 6)
    store.add(list("abcdef"), np.stack([np.cos(angles), np.sin(angles)], axis=1))
    allowed = Allowed.of(np.array([True, True, False, True, True, True]))
    asked = np.array([[1.0, 0.0], [np.cos(1), np.sin(1)]], np.float32)
    searched = np.array([[4, 1, -1], [5, -1, -1]])
    found = approximate(store, asked, 2, allowed, scan_up_to=0, search=lambda _: searched)
    assert [rows.tolist() for rows in found] == [[4, 1], [4, 5]]
    for few in (5, 9):
        found = approximate(store, asked, 2, allowed, scan_up_to=few, search=lambda _: searched)
        assert [rows.tolist() for rows in found] == [[0, 1], [4, 5]]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("batch", [1, 20])
def test_near_ties_are_told_apart_in_double_precision(seed, batch):
    random = np.random.default_rng(seed)
    vectors = random.standard_normal(64) + 3e-7 * random.standard_normal((200, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = random.standard_normal((batch, 64))
    kept = vectors.astype(np.float32).astype(float)
    for kind in EXACT:
        index = DenseIndex.build(named(200), vectors, kind=kind)
        for query, hits in zip(asked, index.search_vectors(asked, 5), strict=True):
            best = sorted((kept @ query).tolist(), reverse=True)[:5]
            assert [hit.score for hit in hits] == pytest.approx(best, abs=1e-13, rel=0)


@needs_faiss
@pytest.mark.parametrize("kind", APPROXIMATE, ids=repr)
def test_a_search_widens_by_what_a_filter_leaves_out(kind):
    index = DenseIndex.build(named(400), clustered(400), kind=kind)
    index.delete(named(400)[300:360])  # not worth a compaction: 340 rows of 400 are left
    spy = index._engine.index = Spy(index._engine.index)
    for within in (None, frozenset(named(200)), frozenset(named(100))):
        index.search_vector(np.ones(DIM), 4, within=within)
    if kind.name == "hnsw":
        assert [asked.efSearch for asked in spy.asked] == [76, 128, 256]
    else:
        assert [asked.nprobe for asked in spy.asked] == [6, 8, 8]


class Spy:
    """A faiss index that keeps how it was asked."""

    def __init__(self, index):
        self.index, self.asked = index, []

    def __getattr__(self, name):
        return getattr(self.index, name)

    def search(self, units, fetch, *, params):
        self.asked.append(params)
        return self.index.search(units, fetch, params=params)


@needs_faiss
def test_small_indexes_and_selective_filters_are_scanned():
    vectors = clustered(3_000)
    for kind in (HNSW(m=4, ef_construction=8, ef_search=1), IVFPQ(bits=4, probes=1, refine=1)):
        index = DenseIndex.build(named(3_000), vectors, kind=kind)
        few = frozenset(named(3_000)[::20])
        for asked in clustered(20, seed=9):
            true = index.search_vectors(asked[None], 50, within=few, exact=True)
            assert index.search_vectors(asked[None], 50, within=few) == true


@needs_faiss
def test_candidates_are_allowed_rows_only():
    for kind in EVERY:
        index = DenseIndex.build(named(300), clustered(300), kind=kind)
        index.search_vector(np.ones(DIM), 1)
        mask = np.arange(300) % 2 == 0
        rows = index._engine.candidates(
            clustered(4, seed=2).astype(np.float32), 20, Allowed.of(mask)
        )
        assert all(mask[found].all() and len(found) >= 20 for found in rows)


@pytest.mark.parametrize("n", [0, 1, 30, 200])
def test_without_faiss_the_default_gives_the_same_and_others_name_the_extra(
    monkeypatch, tmp_path, n
):
    vectors, asked = clustered(n) if n else np.zeros((0, DIM)), clustered(3, seed=5)
    with_faiss = DenseIndex.build(named(n), vectors)
    expected = with_faiss.search_vectors(asked, 25)
    with_faiss.save(tmp_path / "flat")
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "faiss" else real(name, *a)
    )
    for index in (DenseIndex.build(named(n), vectors), DenseIndex.load(tmp_path / "flat")):
        assert (index.backend, index.kind) == ("numpy", Flat())
        assert not isinstance(index._engine, FaissRows)
        assert index.search_vectors(asked, 25) == expected
    for kind, name in ((HNSW(), "HNSW"), (IVFPQ(), "IVFPQ")):
        with pytest.raises(
            MissingExtraError, match=rf"{name} needs faiss.*pip install 'dovetail-rag\[cpu\]'"
        ):
            DenseIndex(DIM, kind=kind)
    with pytest.raises(
        MissingExtraError, match=r"Flat\(gpu=True\) needs faiss.*dovetail-rag\[gpu\]"
    ):
        DenseIndex(DIM, kind=Flat(gpu=True))


@needs_faiss
def test_a_gpu_needs_a_faiss_made_for_it():
    import faiss

    if hasattr(faiss, "StandardGpuResources"):
        pytest.skip("this faiss is for GPUs")
    with pytest.raises(
        MissingExtraError, match="needs faiss for GPUs, and the one installed is not"
    ):
        DenseIndex(DIM, kind=Flat(gpu=True))


@needs_faiss
def test_too_few_vectors_to_train_are_counted():
    vectors = clustered(63)
    kind = IVFPQ(lists=8, bits=4)
    with pytest.raises(
        ValueError, match=r"IVFPQ\(lists=8.* needs at least 64 vectors to train, got 63"
    ):
        DenseIndex.build(named(63), vectors, kind=kind)
    assert IVFPQ().least_vectors(384) == 1_024
    assert IVFPQ(lists=1_000).least_vectors(384) == 4_000


@needs_faiss
def test_codes_take_a_divisor_of_the_width():
    assert [IVFPQ().parts(dim) for dim in (1, 7, 8, 384, 100)] == [1, 1, 1, 48, 10]
    with pytest.raises(ValueError, match="sub_quantisers must divide 8, got 3"):
        DenseIndex(DIM, kind=IVFPQ(sub_quantisers=3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HNSW(m=1), r"m must be in \[2, 512\], got 1"),
        (lambda: HNSW(ef_construction=0), "ef_construction must be at least 1, got 0"),
        (lambda: HNSW(ef_search=0), "ef_search must be at least 1, got 0"),
        (lambda: HNSW(scan_up_to=-1), "scan_up_to must be at least 0, got -1"),
        (lambda: IVFPQ(bits=3), r"bits must be in \[4, 12\], got 3"),
        (lambda: IVFPQ(lists=0), "lists must be at least 1, got 0"),
        (lambda: IVFPQ(sub_quantisers=0), "sub_quantisers must be at least 1, got 0"),
        (lambda: IVFPQ(probes=0), "probes must be at least 1, got 0"),
        (lambda: IVFPQ(refine=0), "refine must be at least 1, got 0"),
        (lambda: index_kind("tree"), r"kind must be one of \('exact', .*\), got 'tree'"),
    ],
)
def test_rejects_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("made", [Exact, Flat, HNSW, IVFPQ])
def test_a_kind_goes_by_its_name(made):
    assert index_kind(made.name) == made()

"""Vector store: rows that stay, dead ones, half precision, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrievers.dense.vectors import VectorStore


def unit(n, seed=0, dim=6):
    vectors = np.random.default_rng(seed).standard_normal((n, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def filled(n, **options):
    store = VectorStore(6, **options)
    store.add([f"p{row}" for row in range(n)], unit(n))
    return store


def test_rows_stay_until_a_compaction_orders_them_by_id():
    one, two = unit(2)
    store = VectorStore(6)
    store.add(["b", "c"], np.stack([one, two]))
    store.add(["a", "b"], np.stack([two, two]))
    assert store.names() == [None, "c", "a", "b"]
    assert (len(store), store.rows, store.dead, store.tail) == (3, 4, 1, 4)
    assert store.alive.tolist() == [False, True, True, True]
    assert store.in_order().tolist() == [2, 3, 1]
    assert store.delete(["c", "c", "nobody"]) == 1
    store.compact()
    assert store.names() == ["a", "b"]
    assert (len(store), store.rows, store.dead, store.tail) == (2, 2, 0, 0)
    assert store.vectors(["b", "a"]).tolist() == np.stack([two, two]).astype(np.float32).tolist()


@given(seed=st.integers(0, 999), half=st.booleans())
def test_reads_the_same_rows_whether_in_the_base_or_the_tail(seed, half):
    random, vectors = np.random.default_rng(seed), unit(40, seed)
    store = VectorStore(6, dtype="float16" if half else "float32")
    for start in range(0, 40, 8):
        store.add([f"p{row:02}" for row in range(start, start + 8)], vectors[start : start + 8])
        if random.random() < 0.4:
            store.compact()
    rows = random.integers(0, 40, 25)
    stored, query = vectors.astype(store.dtype), random.standard_normal(6)
    assert store.stored(rows).tolist() == stored[rows].tolist()
    assert next(first for first, _ in store.blocks(7)) == 7
    assert (
        np.concatenate([block for _, block in store.blocks(7)]).tolist()
        == stored[7:].astype(np.float32).tolist()
    )
    alone = [store.scores(np.array([row]), query)[0] for row in rows]
    assert store.scores(rows, query).tolist() == alone
    assert alone == pytest.approx((stored[rows].astype(float) @ query).tolist(), abs=1e-12)


@pytest.mark.parametrize("dim", [2, 96, 1024])
def test_half_precision_stays_within_its_stated_error(dim):
    vectors, asked = unit(300, dim=dim), unit(1, seed=9, dim=dim)[0]
    store = VectorStore(dim, dtype="float16")
    ids = [f"p{row:03}" for row in range(300)]
    store.add(ids, vectors * (1 + 9e-4))
    error = store.scores(store.rows_of(ids), asked) - vectors @ asked
    assert 0 < np.abs(error).max() < 5e-4
    kept = store.vectors(ids)
    assert kept.dtype == np.float32
    assert np.abs(np.linalg.norm(kept.astype(float), axis=1) - 1).max() < 5e-4
    again = VectorStore(dim)
    again.add(ids, kept)
    assert again.vectors(ids).tolist() == kept.tolist()


def test_a_base_is_never_written_to():
    base = unit(3).astype(np.float32)
    base.setflags(write=False)
    store = VectorStore.wrap(["a", None, "c"], base)
    store.add(["b", "c"], unit(2, seed=4))
    store.delete(["a"])
    assert (store.ids(), store.dead) == (("b", "c"), 3)
    assert base.tolist() == unit(3).astype(np.float32).tolist()


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["new", "bad"], unit(2) * [[1.0], [np.nan]], "got nan for 'bad'"),
        (["new", "bad"], unit(2) * [[1.0], [0.0]], r"must have unit length, got 0\.0 for 'bad'"),
        (["new", "bad"], unit(2) * [[1.0], [1.002]], r"got 1\.00\d* for 'bad'"),
        (["new", "bad"], unit(2) * [[1.0], [1e300]], "got inf for 'bad'"),
        (["new", "new"], unit(2), "ids must be unique, got 'new' twice"),
        (["new"], unit(1, dim=5), r"vectors must be \(1, 6\), got \(1, 5\)"),
        (["new"], unit(2), r"vectors must be \(1, 6\), got \(2, 6\)"),
        (["new"], unit(1)[0], r"got \(6,\)"),
    ],
)
def test_a_refused_addition_changes_nothing(ids, vectors, message):
    store = filled(3)
    with pytest.raises(ValueError, match=message):
        store.add(["p1", *ids[1:]] if len(set(ids)) == 2 else ids, vectors)
    assert (store.ids(), store.rows, store.dead) == (("p0", "p1", "p2"), 3, 0)
    assert store.vectors(["p1"]).tolist() == unit(3)[1:2].astype(np.float32).tolist()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VectorStore(0), "dim must be at least 1, got 0"),
        (
            lambda: VectorStore(3, dtype="int8"),
            r"dtype must be one of \('float32', 'float16'\), got 'int8'",
        ),
        (lambda: VectorStore.wrap(["a"], unit(2)), r"vectors must be \(1, dim\), got \(2, 6\)"),
        (lambda: VectorStore.wrap(["a", "a"], unit(2).astype(np.float32)), "got 'a' twice"),
        (lambda: VectorStore.wrap(["a"], unit(1)), "got float64"),
    ],
)
def test_rejects_what_it_cannot_hold(make, message):
    with pytest.raises(ValueError, match=message):
        make()

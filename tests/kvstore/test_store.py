"""KV store: tiers together, books against a plain model, threads, lifetimes, lazy imports."""

import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore import KVStore, StoreStats
from kvstore.codecs import RAW, pack
from kvstore.keys import segment_key
from rag.errors import FolderLockedError
from rag.protocols import PassageCache, SegmentKV

ROOT = Path(__file__).parents[2]


def flip_last_byte(folder):
    for path in folder.glob("??/*.safetensors"):
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_finds_in_ram_first_then_on_disk_and_promotes(tmp_path, toy):
    wanted, kv = toy.segment(1), toy.kv(toy.segment(1))
    with KVStore(tmp_path) as store:
        cache: PassageCache = store
        assert cache.get(wanted).reason == "absent"
        assert cache.put(wanted, kv)
        assert cache.get(wanted).reason == "hit (ram)"
    with KVStore(tmp_path) as store:
        first, second = store.get(wanted), store.get(wanted)
        assert (first.reason, second.reason) == ("hit (disk)", "hit (ram)")
        assert toy.same(first.kv, kv)
        assert toy.same(second.kv, kv)
        assert first.nbytes == second.nbytes == kv.nbytes == 32
        file_bytes = next(tmp_path.glob("??/*")).stat().st_size
        assert store.stats() == StoreStats(1, 32, 1, file_bytes, 1, 1, 0, 0, 0, 0)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_keeps_every_bit_on_disk(tmp_path, toy, dtype):
    wanted = toy.segment(1, 7, dtype=dtype)
    kv = toy.kv(wanted, layers=3, heads=2, dim=4)
    with KVStore(tmp_path, ram_bytes=0) as store:
        store.put(wanted, kv)
        found = store.get(wanted)
        assert found.reason == "hit (disk)"
        assert toy.same(found.kv, kv)


def test_a_segment_misses_under_another_model_and_hits_under_another_name(toy):
    store = KVStore(None)
    stored = toy.segment(1, document="d")
    store.put(stored, toy.kv(stored))
    for field in ("weights", "config", "tokenizer", "adapter"):
        other = replace(stored, model=replace(stored.model, **{field: "another"}))
        assert store.get(other).reason == "absent"
    assert store.get(replace(stored, role="prefix")).reason == "absent"
    assert store.get(replace(stored, name="q", document="e")).kv


def test_a_store_without_a_folder_keeps_to_ram(toy):
    with KVStore(None, ram_bytes=40) as store:
        assert store.disk_bytes == 0
        assert store.put(toy.segment(1), toy.kv(toy.segment(1)))
        assert store.contains(toy.segment(1))
        assert not store.put(toy.segment(2, 3), toy.kv(toy.segment(2, 3)))
        assert not store.contains(toy.segment(2, 3))
        assert store.drop_documents(["x"]) == 0
        assert store.drop_documents([""]) == 1
        assert store.stats() == StoreStats(*[0] * 10)


def test_a_reader_needs_no_lock_and_writes_nothing(tmp_path, toy):
    with KVStore(tmp_path) as writer:
        writer.put(toy.segment(1), toy.kv(toy.segment(1)))
        with pytest.raises(FolderLockedError):
            KVStore(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        with KVStore(tmp_path, read_only=True) as reader:
            assert toy.same(reader.get(toy.segment(1)).kv, toy.kv(toy.segment(1)))
            assert reader.put(toy.segment(2), toy.kv(toy.segment(2)))
            assert reader.contains(toy.segment(1))
            assert reader.contains(toy.segment(2))
            assert not reader.contains(toy.segment(3))
            assert reader.get(toy.segment(2)).reason == "hit (ram)"
            assert reader.stats().disk_entries == 1
            with pytest.raises(ValueError, match="read-only"):
                reader.drop_documents(["d"])
        assert sorted(tmp_path.rglob("*")) == before
        assert writer.get(toy.segment(2)).reason == "absent"
        writer.put(toy.segment(3), toy.kv(toy.segment(3)))


def test_a_corrupt_file_is_counted_as_a_miss_and_replaced_by_the_next_put(tmp_path, toy):
    with KVStore(tmp_path, ram_bytes=0) as store, KVStore(tmp_path, read_only=True) as reader:
        store.put(toy.segment(1), toy.kv(toy.segment(1)))
        flip_last_byte(tmp_path)
        for cache, entries in ((reader, 1), (store, 0)):
            assert cache.get(toy.segment(1)).reason == "corrupt: checksum differs"
            assert cache.contains(toy.segment(1)) is (cache is reader)
            stats = cache.stats()
            assert (stats.corrupt, stats.misses, stats.disk_entries) == (1, 1, entries)
        store.put(toy.segment(1), toy.kv(toy.segment(1)))
        assert store.get(toy.segment(1)).kv
        assert reader.get(toy.segment(1)).kv


def test_what_does_not_reach_the_disk_is_not_reported_stored(tmp_path, toy):
    wanted = toy.segment(1)
    with KVStore(tmp_path, disk_bytes=100) as store:
        assert not store.put(wanted, toy.kv(wanted))
        assert not store.contains(wanted)
        assert not store.touch(wanted)
        assert store.get(wanted).reason == "hit (ram)"
    with KVStore(tmp_path / "other") as store:
        store.get(wanted)
        (tmp_path / "other" / segment_key(wanted, RAW)[:2]).write_bytes(b"in the way")
        assert not store.put(wanted, toy.kv(wanted))
        assert store.stats().failed_writes == 1


def test_what_does_not_fit_ram_is_served_from_disk(tmp_path, toy):
    with KVStore(tmp_path, ram_bytes=0) as store:
        assert store.put(toy.segment(1), toy.kv(toy.segment(1)))
        assert [store.get(toy.segment(1)).reason for _ in range(2)] == ["hit (disk)"] * 2
        assert store.stats().ram_entries == 0


def test_use_in_ram_is_use_on_disk_and_looking_is_no_use(tmp_path, toy):
    one_file = toy.file_size(toy.segment(1))
    for use, survivor in ((KVStore.get, 1), (KVStore.touch, 1), (KVStore.contains, 2)):
        with KVStore(tmp_path / use.__name__, disk_bytes=2 * one_file) as store:
            store.put(toy.segment(1), toy.kv(toy.segment(1)))
            store.put(toy.segment(2), toy.kv(toy.segment(2)))
            assert use(store, toy.segment(1))
            store.put(toy.segment(3), toy.kv(toy.segment(3)))
            assert store.contains(toy.segment(survivor))
            assert not store.contains(toy.segment(3 - survivor))


def test_drops_documents_from_both_tiers_for_good(tmp_path, toy):
    with KVStore(tmp_path, ram_bytes=100) as store:
        for n in range(6):
            store.put(toy.segment(n, document=f"d{n % 2}"), toy.kv(toy.segment(n)))
        assert store.stats().ram_entries == 3
        assert store.drop_documents(f"d{n}" for n in (1, 7)) == 3
        reasons = [store.get(toy.segment(n)).reason.partition(" ")[0] for n in range(6)]
        assert reasons == ["hit", "absent"] * 3
        assert store.drop_documents(["d1"]) == 0
    with KVStore(tmp_path) as store:
        assert store.get(toy.segment(1)).reason == "absent"
        assert store.get(toy.segment(0)).kv


def test_returned_tensors_outlive_eviction_replacement_deletion_and_close(tmp_path, toy):
    wanted = toy.segment(1, document="d")
    with KVStore(tmp_path, ram_bytes=40) as store:
        store.put(wanted, toy.kv(wanted))
        from_ram = store.get(wanted).kv
        store.put(toy.segment(2), toy.kv(toy.segment(2)))
        from_disk = store.get(wanted).kv
        store.put(wanted, toy.kv(wanted, seed=9))
        store.drop_documents(["d"])
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(b"\0" * path.stat().st_size)
    assert toy.same(from_ram, toy.kv(wanted))
    assert toy.same(from_disk, toy.kv(wanted))


def test_a_put_keeps_a_copy_of_its_own(toy):
    store, kv = KVStore(None), toy.kv(toy.segment(1))
    store.put(toy.segment(1), kv)
    kv.keys.zero_()
    assert toy.same(store.get(toy.segment(1)).kv, toy.kv(toy.segment(1)))
    kept = store.get(toy.segment(1)).kv
    assert kept.keys.untyped_storage().nbytes() == kept.nbytes


def test_tensors_that_do_not_fit_the_segment_are_an_error_and_nothing_is_stored(toy):
    store, zeros = KVStore(None), torch.zeros(1, 3, 1, 2)
    with pytest.raises(ValueError, match=r"'p1' must be \(layers, 2,"):
        store.put(toy.segment(1, 2), SegmentKV(zeros, zeros))
    assert store.stats().ram_entries == 0


def test_a_closed_store_says_so(tmp_path, toy):
    for store in (KVStore(None), KVStore(tmp_path), KVStore(tmp_path, read_only=True)):
        store.close()
        store.close()
        for call in (
            lambda s=store: s.get(toy.segment(1)),
            lambda s=store: s.put(toy.segment(1), toy.kv(toy.segment(1))),
            lambda s=store: s.contains(toy.segment(1)),
            lambda s=store: s.touch(toy.segment(1)),
            lambda s=store: s.drop_documents(["d"]),
            store.stats,
        ):
            with pytest.raises(ValueError, match=r"the KV store in .* is closed"):
                call()


@pytest.mark.parametrize("budget", ["ram_bytes", "disk_bytes"])
def test_a_negative_budget_is_an_error_and_leaves_no_lock(tmp_path, budget):
    with pytest.raises(ValueError, match="must be at least 0, got -1"):
        KVStore(tmp_path, **{budget: -1})
    KVStore(tmp_path).close()


class Books:
    """What a tier should hold: key to (bytes, document), least recently used first."""

    def __init__(self, budget):
        self.budget, self.held, self.evictions = budget, {}, 0

    def put(self, key, size, document):
        if size > self.budget:
            return False
        self.held.pop(key, None)
        while self.bytes + size > self.budget:
            del self.held[next(iter(self.held))]
            self.evictions += 1
        self.held[key] = size, document
        return True

    def use(self, key):
        if key in self.held:
            self.held[key] = self.held.pop(key)
        return key in self.held

    def drop(self, document):
        gone = {key for key, (_, d) in self.held.items() if d == document}
        self.held = {key: entry for key, entry in self.held.items() if key not in gone}
        return gone

    @property
    def bytes(self):
        return sum(size for size, _ in self.held.values())


@given(
    ram=st.integers(0, 200),
    disk=st.integers(0, 5000),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "put", "get", "get", "touch", "drop", "reopen"]),
            st.integers(0, 7),
        ),
        max_size=30,
    ),
)
@settings(max_examples=40, deadline=None)
def test_bytes_and_entries_add_up_after_any_steps(toy, ram, disk, steps):
    segments = [toy.segment(n, 1 + n % 3, document=str(n % 3)) for n in range(8)]
    packs = [pack(s, toy.kv(s)) for s in segments]
    sizes = [toy.file_size(s) for s in segments]
    in_ram, on_disk = Books(ram), Books(disk)
    with tempfile.TemporaryDirectory() as folder:
        store = KVStore(Path(folder), ram_bytes=ram, disk_bytes=disk)
        for verb, n in steps:
            wanted, document = segments[n], str(n % 3)
            if verb == "put":
                in_ram.put(n, packs[n].nbytes, document)
                assert store.put(wanted, toy.kv(wanted)) is on_disk.put(n, sizes[n], document)
            elif verb == "get":
                found, used = store.get(wanted), on_disk.use(n)
                if in_ram.use(n):
                    assert found.reason == "hit (ram)"
                elif used:
                    assert found.reason == "hit (disk)"
                    in_ram.put(n, packs[n].nbytes, document)
                else:
                    assert found.reason == "absent"
                assert found.kv is None or toy.same(found.kv, toy.kv(wanted))
            elif verb == "touch":
                in_ram.use(n)
                assert store.touch(wanted) is on_disk.use(n)
            elif verb == "drop":
                gone = in_ram.drop(document) | on_disk.drop(document)
                assert store.drop_documents([document]) == len(gone)
            else:
                store.close()
                store = KVStore(Path(folder), ram_bytes=ram, disk_bytes=disk)
                in_ram, on_disk.evictions = Books(ram), 0
            stats = store.stats()
            assert (stats.ram_entries, stats.ram_bytes) == (len(in_ram.held), in_ram.bytes)
            assert (stats.disk_entries, stats.disk_bytes) == (len(on_disk.held), on_disk.bytes)
            assert stats.evictions == in_ram.evictions + on_disk.evictions
            assert [store.contains(s) for s in segments] == [m in on_disk.held for m in range(8)]
        store.close()


def test_threads_that_read_write_and_drop_only_ever_see_whole_entries(tmp_path, toy):
    segments = [toy.segment(n, 1 + n % 3, document=str(n % 4)) for n in range(12)]
    kvs = [toy.kv(s) for s in segments]
    wrong = []
    store = KVStore(tmp_path, ram_bytes=150, disk_bytes=8000)
    reader = KVStore(tmp_path, ram_bytes=50, read_only=True)

    def work(seed):
        random = Random(seed)
        for _ in range(120):
            n = random.randrange(12)
            verb = random.choice(["get", "get", "read", "put", "drop" if n == 0 else "get"])
            if verb == "put":
                store.put(segments[n], kvs[n])
            elif verb == "drop":
                store.drop_documents([str(random.randrange(4))])
            else:
                found = (store if verb == "get" else reader).get(segments[n])
                if found.reason not in {"hit (ram)", "hit (disk)", "absent"}:
                    wrong.append(found.reason)
                if found.kv is not None and not toy.same(found.kv, kvs[n]):
                    wrong.append(n)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    files = list(tmp_path.glob("??/*"))
    stats = store.stats()
    assert stats.disk_entries == len(files)
    assert stats.disk_bytes == sum(file.stat().st_size for file in files) <= 8000
    assert stats.ram_bytes <= 150
    assert stats.corrupt == 0
    store.close()
    reader.close()


def test_importing_the_package_or_what_precomputes_loads_no_torch():
    code = (
        "import sys, kvstore, kvstore.precompute; kvstore.segment_key; "
        "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_public_name_resolves_and_others_are_an_error():
    import kvstore

    assert all(getattr(kvstore, name) for name in kvstore.__all__)
    with pytest.raises(AttributeError, match="'kvstore' has no attribute 'Store'"):
        _ = kvstore.Store

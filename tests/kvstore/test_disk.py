"""Disk tier: recency across processes, budgets, every kind of damage, refusals by the system."""

import errno
import os
import resource
import threading
import time

import pytest

import kvstore.disk
from kvstore.codecs import RAW, CorruptBlobError, pack
from kvstore.disk import DiskTier
from kvstore.keys import segment_key
from rag.errors import FolderLockedError
from rag.files import write_atomically


def key_of(segment):
    return segment_key(segment, RAW)


def get(tier, segment):
    return tier.get(key_of(segment), segment)


@pytest.fixture
def put(toy):
    def put_one(tier, segment, seed=None):
        return tier.put(key_of(segment), segment, pack(segment, toy.kv(segment, seed=seed)))

    return put_one


@pytest.fixture
def tier(tmp_path):
    tier = DiskTier(tmp_path / "store", 1_000_000)
    yield tier
    tier.close()


@pytest.fixture
def file_bytes(toy):
    """Bytes of one file, the same for all segments of these tests."""
    return toy.file_size(toy.segment(1))


def path_of(tier, segment):
    return tier.folder / key_of(segment)[:2] / f"{key_of(segment)}.safetensors"


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")


def test_returns_what_was_put_and_misses_what_was_not(tier, put, toy):
    assert put(tier, toy.segment(1))
    found = get(tier, toy.segment(1))
    assert toy.same(found.kv, toy.kv(toy.segment(1)))
    assert (found.reason, found.nbytes) == ("hit (disk)", found.kv.nbytes)
    missed = get(tier, toy.segment(2))
    assert (missed.kv, missed.reason, missed.nbytes) == (None, "absent", 0)


def test_files_are_private_and_stand_where_their_key_says(tier, put, toy):
    put(tier, toy.segment(1, document="../../etc/passwd"))
    assert files_in(tier.folder.parent) == [path_of(tier, toy.segment(1))]
    modes = [
        p.stat().st_mode & 0o777 for p in (path_of(tier, toy.segment(1)), tier.folder / "lock")
    ]
    assert modes == [0o600, 0o600]
    folders = tier.folder, path_of(tier, toy.segment(1)).parent
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o700]


@pytest.mark.parametrize("key", ["", "../x", "0" * 63, "A" * 64, "0" * 64 + "\n", "/" * 64])
def test_only_a_key_becomes_a_path(tier, key):
    with pytest.raises(ValueError, match="key must be 64 lower-case hex digits"):
        tier.contains(key)


def test_the_least_recently_used_file_goes_first(tmp_path, put, toy, file_bytes):
    tier = DiskTier(tmp_path / "store", 3 * file_bytes + 1)
    for n in (1, 2, 3):
        assert put(tier, toy.segment(n))
    assert get(tier, toy.segment(1)).kv
    assert tier.contains(key_of(toy.segment(2)))
    put(tier, toy.segment(4))
    assert [tier.contains(key_of(toy.segment(n))) for n in (1, 2, 3, 4)] == [
        True,
        False,
        True,
        True,
    ]
    assert (tier.usage(), tier.evictions) == ((3, 3 * file_bytes), 1)
    tier.close()


def test_recency_and_bytes_outlive_the_process(tmp_path, put, toy, file_bytes):
    tier = DiskTier(tmp_path / "store", 10 * file_bytes)
    for n in (1, 2, 3):
        put(tier, toy.segment(n))
    get(tier, toy.segment(1))
    tier.close()
    tier = DiskTier(tmp_path / "store", 10 * file_bytes)
    assert tier.usage() == (3, 3 * file_bytes)
    tier.close()
    smaller = DiskTier(tmp_path / "store", 2 * file_bytes)
    assert [smaller.contains(key_of(toy.segment(n))) for n in (1, 2, 3)] == [True, False, True]
    smaller.close()


def test_a_readers_use_counts_for_a_writer_that_is_already_open(tmp_path, put, toy, file_bytes):
    tier = DiskTier(tmp_path / "store", 2 * file_bytes)
    put(tier, toy.segment(1))
    put(tier, toy.segment(2))
    assert get(DiskTier(tier.folder, 0, read_only=True), toy.segment(1)).kv
    put(tier, toy.segment(3))
    assert [tier.contains(key_of(toy.segment(n))) for n in (1, 2, 3)] == [True, False, True]
    tier.close()


def test_a_second_put_replaces_the_first_and_counts_once(tier, put, toy, file_bytes):
    put(tier, toy.segment(1), seed=1)
    put(tier, toy.segment(1), seed=2)
    assert toy.same(get(tier, toy.segment(1)).kv, toy.kv(toy.segment(1), seed=2))
    assert tier.usage() == (1, file_bytes)


def test_replacing_in_a_full_tier_evicts_nothing(tmp_path, put, toy, file_bytes):
    tier = DiskTier(tmp_path / "store", 2 * file_bytes)
    for n in (1, 2, 1, 1, 2):
        assert put(tier, toy.segment(n))
    assert (tier.usage(), tier.evictions) == ((2, 2 * file_bytes), 0)
    put(tier, toy.segment(3))
    assert not tier.contains(key_of(toy.segment(1)))
    tier.close()


def test_what_exceeds_the_budget_alone_is_refused_and_evicts_nothing(
    tmp_path, put, toy, file_bytes
):
    tier = DiskTier(tmp_path / "store", file_bytes)
    assert put(tier, toy.segment(1))
    assert not put(tier, toy.segment(2, 500))
    assert tier.usage() == (1, file_bytes)
    tier.close()


def test_every_flipped_byte_on_disk_is_a_miss_that_says_corrupt(tier, put, toy):
    put(tier, toy.segment(1))
    reader = DiskTier(tier.folder, 0, read_only=True)
    path = path_of(tier, toy.segment(1))
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        found = get(reader, toy.segment(1))
        assert found.kv is None
        assert found.reason.startswith("corrupt: ")
        path.write_bytes(good[:at])
        assert get(reader, toy.segment(1)).reason.startswith("corrupt: ")
    path.write_bytes(good)
    assert get(reader, toy.segment(1)).kv


def test_a_writer_deletes_a_corrupt_file_and_a_reader_leaves_it(tier, put, toy):
    put(tier, toy.segment(1))
    path = path_of(tier, toy.segment(1))
    path.write_bytes(path_of(tier, toy.segment(1)).read_bytes()[:-1])
    reader = DiskTier(tier.folder, 0, read_only=True)
    assert get(reader, toy.segment(1)).reason == "corrupt: checksum differs"
    assert path.exists()
    assert get(tier, toy.segment(1)).reason == "corrupt: checksum differs"
    assert not path.exists()
    assert tier.usage() == (0, 0)
    put(tier, toy.segment(1))
    assert toy.same(get(reader, toy.segment(1)).kv, toy.kv(toy.segment(1)))


def test_a_file_renamed_to_another_key_is_corrupt(tier, put, toy):
    put(tier, toy.segment(1))
    other = path_of(tier, toy.segment(2))
    other.parent.mkdir(exist_ok=True)
    path_of(tier, toy.segment(1)).rename(other)
    assert get(tier, toy.segment(2)).reason == "corrupt: belongs to another segment"
    assert get(tier, toy.segment(1)).reason == "absent"


def test_a_good_file_put_while_a_corrupt_one_is_read_stays(tier, put, toy, monkeypatch):
    put(tier, toy.segment(1), seed=1)

    def decode_late(*_):
        put(tier, toy.segment(1), seed=2)
        raise CorruptBlobError("checksum differs")

    with monkeypatch.context() as patch:
        patch.setattr(kvstore.disk, "decode", decode_late)
        assert get(tier, toy.segment(1)).reason == "corrupt: checksum differs"
    assert toy.same(get(tier, toy.segment(1)).kv, toy.kv(toy.segment(1), seed=2))


def test_what_the_system_will_not_read_is_a_miss_and_stays(tier, put, toy):
    path_of(tier, toy.segment(1)).mkdir(parents=True)
    assert get(tier, toy.segment(1)).reason == "corrupt: unreadable, Is a directory"
    assert path_of(tier, toy.segment(1)).is_dir()
    assert not put(tier, toy.segment(1))
    assert tier.failed_writes == 1


def test_a_disk_that_fills_up_fails_the_put_and_leaves_the_old_file(tier, put, toy):
    put(tier, toy.segment(1), seed=1)
    before = files_in(tier.folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        stored = put(tier, toy.segment(1), seed=2), put(tier, toy.segment(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert stored == (False, False)
    assert tier.failed_writes == 2
    assert files_in(tier.folder) == before
    assert tier.usage() == (1, before[0].stat().st_size)
    assert toy.same(get(tier, toy.segment(1)).kv, toy.kv(toy.segment(1), seed=1))
    assert put(tier, toy.segment(2))


def test_books_are_right_when_the_system_fails_after_the_file_is_in_place(
    tier, put, toy, file_bytes, monkeypatch
):
    def fail_late(path, write):
        write_atomically(path, write)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(kvstore.disk, "write_atomically", fail_late)
        assert not put(tier, toy.segment(1))
    assert tier.usage() == (1, file_bytes)


def test_eviction_that_the_system_refuses_fails_the_put_and_later_ones_recover(
    tmp_path, put, toy, file_bytes, monkeypatch
):
    tier = DiskTier(tmp_path / "store", file_bytes)
    put(tier, toy.segment(1))

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(kvstore.disk.Path, "unlink", refuse)
        assert not put(tier, toy.segment(2))
    assert tier.usage() == (1, file_bytes)
    assert put(tier, toy.segment(2))
    assert not tier.contains(key_of(toy.segment(1)))
    tier.close()


def test_a_file_deleted_by_hand_is_absent_and_eviction_carries_on(tmp_path, put, toy, file_bytes):
    tier = DiskTier(tmp_path / "store", 2 * file_bytes)
    put(tier, toy.segment(1))
    put(tier, toy.segment(2))
    path_of(tier, toy.segment(1)).unlink()
    assert get(tier, toy.segment(1)).reason == "absent"
    put(tier, toy.segment(3))
    assert (tier.usage(), tier.evictions) == ((2, 2 * file_bytes), 0)
    path_of(tier, toy.segment(2)).unlink()
    assert tier.drop_documents({"x"}) == set()
    assert tier.usage() == (1, file_bytes)
    tier.close()


def test_drops_the_documents_asked_for_without_reading_their_tensors(tier, put, toy, monkeypatch):
    for n in range(6):
        put(tier, toy.segment(n, document=f"d{n % 3}"))
    monkeypatch.setattr(kvstore.disk, "decode", None)
    dropped = tier.drop_documents({"d0", "d2", "unknown"})
    assert dropped == {key_of(toy.segment(n)) for n in (0, 2, 3, 5)}
    assert [tier.contains(key_of(toy.segment(n))) for n in range(6)] == [
        n in {1, 4} for n in range(6)
    ]
    assert tier.usage()[0] == 2


def test_dropping_any_document_removes_files_without_a_readable_header(tier, put, toy):
    put(tier, toy.segment(1, document="d"))
    path_of(tier, toy.segment(1)).write_bytes(b"rubbish")
    assert tier.drop_documents({"another"}) == {key_of(toy.segment(1))}


def test_leftovers_of_dead_writers_go_and_strange_files_stay_uncounted(
    tmp_path, put, toy, file_bytes
):
    tier = DiskTier(tmp_path / "store", 10 * file_bytes)
    put(tier, toy.segment(1))
    tier.close()
    path = path_of(tier, toy.segment(1))
    leftover = path.with_name(f".{path.name}.0123456789ab.tmp")
    strange = [path.with_name("notes.txt"), tier.folder / "readme", tier.folder / "zz" / path.name]
    strange.append(path.with_name("f" * 64 + ".safetensors"))
    strange[2].parent.mkdir()
    for file in (leftover, *strange):
        file.write_bytes(b"x")
    reader = DiskTier(tier.folder, 0, read_only=True)
    assert reader.usage() == (1, file_bytes)
    assert leftover.exists()
    again = DiskTier(tier.folder, file_bytes)
    again.close()
    assert not leftover.exists()
    assert again.usage() == (1, file_bytes)
    assert all(file.exists() for file in strange)


def test_one_writer_at_a_time_and_readers_whenever_they_like(tier, put, toy):
    with pytest.raises(FolderLockedError, match=f"process {os.getpid()}"):
        DiskTier(tier.folder, 1)
    put(tier, toy.segment(1))
    reader = DiskTier(tier.folder, 1, read_only=True)
    assert get(reader, toy.segment(1)).kv
    tier.close()
    tier.close()
    DiskTier(tier.folder, 1_000_000).close()
    reader.close()


def test_puts_wait_for_each_other_and_lookups_for_none(tier, put, toy, monkeypatch):
    put(tier, toy.segment(1))
    entered, go_on = threading.Semaphore(0), threading.Event()

    def write_slowly(path, write):
        entered.release()
        assert go_on.wait(10)
        write_atomically(path, write)

    monkeypatch.setattr(kvstore.disk, "write_atomically", write_slowly)
    threads = [threading.Thread(target=put, args=(tier, toy.segment(n))) for n in (2, 3)]
    for thread in threads:
        thread.start()
    assert entered.acquire(timeout=10)
    assert get(tier, toy.segment(1)).kv
    assert get(tier, toy.segment(2)).reason == "absent"
    assert not entered.acquire(timeout=0.05)
    go_on.set()
    for thread in threads:
        thread.join()
    assert tier.usage()[0] == 3


def test_a_reader_of_no_folder_finds_nothing_and_creates_nothing(tmp_path, toy):
    reader = DiskTier(tmp_path / "none", 1, read_only=True)
    assert get(reader, toy.segment(1)).reason == "absent"
    assert not reader.contains(key_of(toy.segment(1)))
    assert not reader.touch(key_of(toy.segment(1)))
    assert reader.usage() == (0, 0)
    assert not (tmp_path / "none").exists()


def test_a_reader_and_a_closed_writer_refuse_to_write(tier, put, toy):
    reader = DiskTier(tier.folder, 1_000_000, read_only=True)
    with pytest.raises(ValueError, match="is read-only"):
        put(reader, toy.segment(1))
    with pytest.raises(ValueError, match="is read-only"):
        reader.drop_documents({"d"})
    tier.close()
    with pytest.raises(ValueError, match="is closed"):
        put(tier, toy.segment(1))
    with pytest.raises(ValueError, match="is closed"):
        tier.drop_documents({"d"})
    with pytest.raises(ValueError, match="budget_bytes must be at least 0, got -1"):
        DiskTier(tier.folder, -1)


def test_an_open_that_fails_gives_the_lock_back(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(DiskTier, "_files", fail)
        with pytest.raises(OSError, match="Input/output"):
            DiskTier(tmp_path, 1)
    DiskTier(tmp_path, 1).close()


def test_touching_moves_the_modification_time_to_now(tier, put, toy):
    put(tier, toy.segment(1))
    os.utime(path_of(tier, toy.segment(1)), (1, 1))
    before = time.time_ns()
    assert tier.touch(key_of(toy.segment(1)))
    assert before <= path_of(tier, toy.segment(1)).stat().st_mtime_ns <= time.time_ns()

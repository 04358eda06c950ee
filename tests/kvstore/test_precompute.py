"""Precompute: what it encodes, stores, skips and resumes; when it stops; errors."""

import pytest

from kvstore import KVStore, Precompute, PrecomputeReport


@pytest.fixture
def encoder(toy):
    class Encoder:
        def __init__(self):
            self.batches = []

        def __call__(self, segments):
            self.batches.append([segment.name for segment in segments])
            return [toy.kv(segment) for segment in segments]

    return Encoder()


def counts(report):
    return report.stored, report.skipped, report.failed, report.remaining, report.evicted


def test_encodes_in_batches_what_is_not_stored_yet(tmp_path, toy, encoder):
    segments = [toy.segment(n, document=f"d{n}") for n in range(5)]
    seen = []
    with KVStore(tmp_path) as store:
        store.put(segments[1], toy.kv(segments[1]))
        report = Precompute(store, encoder)(
            segments, batch=2, progress=lambda done, total: seen.append((done, total))
        )
        assert encoder.batches == [["p0", "p2"], ["p3", "p4"]]
        assert seen == [(3, 5), (5, 5)]
        assert isinstance(report, PrecomputeReport)
        assert counts(report) == (4, 1, 0, 0, 0)
        assert report.bytes == 4 * toy.kv(segments[0]).nbytes
        assert report.seconds > 0
        assert all(toy.same(store.get(s).kv, toy.kv(s)) for s in segments)
        again = Precompute(store, encoder)(segments)
        assert counts(again) == (0, 5, 0, 0, 0)
        assert len(encoder.batches) == 2


def test_what_came_twice_is_encoded_once(toy, encoder):
    segments = [toy.segment(1), toy.segment(2), toy.segment(1, document="copy")]
    report = Precompute(KVStore(None), encoder)(segments)
    assert encoder.batches == [["p1", "p2"]]
    assert counts(report) == (2, 1, 0, 0, 0)


def test_nothing_to_do_is_a_report_of_nothing(encoder):
    assert counts(Precompute(KVStore(None), encoder)([])) == (0, 0, 0, 0, 0)


def test_an_interrupted_run_keeps_what_it_stored_and_resumes(tmp_path, toy, encoder):
    segments = [toy.segment(n) for n in range(6)]

    def interrupt(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with KVStore(tmp_path) as store, pytest.raises(KeyboardInterrupt):
        Precompute(store, encoder)(segments, batch=2, progress=interrupt)
    with KVStore(tmp_path) as store:
        assert counts(Precompute(store, encoder)(segments, batch=2)) == (2, 4, 0, 0, 0)


def test_what_the_store_refuses_is_counted_as_failed(toy, encoder):
    segments = [toy.segment(0), toy.segment(1, 50), toy.segment(2)]
    report = Precompute(KVStore(None, ram_bytes=100), encoder)(segments)
    assert counts(report) == (2, 0, 1, 0, 0)


@pytest.mark.parametrize("held_before", [0, 2])
def test_stops_once_it_evicts_its_own_entries(tmp_path, toy, encoder, held_before):
    segments = [toy.segment(n) for n in range(10)]
    one_file = toy.file_size(segments[0])
    with KVStore(tmp_path, disk_bytes=4 * one_file) as store:
        for found in segments[:held_before]:
            store.put(found, toy.kv(found))
        report = Precompute(store, encoder)(segments, batch=1)
        assert counts(report) == (5 - held_before, held_before, 0, 5, 1)


def test_evicts_what_others_stored_before_it_stops(tmp_path, toy, encoder):
    old = [toy.segment(n) for n in range(100, 104)]
    segments = [toy.segment(n) for n in range(4)]
    one_file = toy.file_size(segments[0])
    with KVStore(tmp_path, disk_bytes=5 * one_file) as store:
        for found in (*segments[:2], *old):
            store.put(found, toy.kv(found))
        report = Precompute(store, encoder)(segments[1:], batch=1)
        assert counts(report) == (2, 1, 0, 0, 0)
        assert all(store.contains(s) for s in segments[1:])
        assert [store.contains(s) for s in old] == [False, False, True, True]


def test_errors_name_what_was_wrong(toy, encoder):
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        Precompute(KVStore(None), encoder)([toy.segment(1)], batch=0)
    with pytest.raises(ValueError, match="one result a segment, got 0 for 1 segments"):
        Precompute(KVStore(None), lambda segments: [])([toy.segment(1)])


def test_what_is_encoded_is_put_at_once_and_stays_though_the_next_fails(toy):
    segments = [toy.segment(n) for n in range(4)]
    store, held = KVStore(None), []

    def encode(wanted):
        for segment in wanted[:2]:
            held.append(len([s for s in segments if store.contains(s)]))
            yield toy.kv(segment)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        Precompute(store, encode)(segments)
    assert held == [0, 1]
    assert [store.contains(segment) for segment in segments] == [True, True, False, False]


def test_results_that_are_too_many_or_too_few_are_counted(toy):
    segments = [toy.segment(n) for n in range(3)]
    for given in (2, 4):
        encoded = [toy.kv(toy.segment(n)) for n in range(given)]
        with pytest.raises(ValueError, match=f"a segment, got {given} for 3 segments"):
            Precompute(KVStore(None), lambda _, encoded=encoded: iter(encoded))(segments)

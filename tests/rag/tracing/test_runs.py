"""Saved runs: named by time, private, the newest kept, other files untouched."""

import re
import stat

import pytest

from rag.tracing import Trace, TraceError, latest, runs, save


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path))
    return tmp_path


def started(moment, **about):
    trace = Trace(**about)
    trace.run["started"] = moment
    return trace


def test_a_run_is_saved_in_the_users_cache_for_its_owner_only(cache):
    path = Trace(pipeline="my flow/2").save()
    assert path.parent == cache / "runs"
    assert re.fullmatch(r"\d{8}T\d{9}Z-my-flow-2-[0-9a-f]{8}\.jsonl", path.name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert Trace.read(path).run["pipeline"] == "my flow/2"


def test_the_latest_is_the_newest_by_its_start():
    early = save(started("2026-01-02T03:04:05.678+00:00"))
    late = save(started("2026-01-02T03:04:05.679+00:00"))
    assert early.name.startswith("20260102T030405678Z-run-")
    assert latest() == late


def test_only_the_newest_stay_and_other_files_are_left_alone(cache, monkeypatch):
    monkeypatch.setattr(runs, "KEPT", 2)
    (cache / "runs").mkdir()
    (cache / "runs" / "mine.jsonl").write_text("keep")
    paths = [save(started(f"2026-01-0{day}T00:00:00.000+00:00")) for day in (1, 2, 3, 4)]
    assert sorted(p.name for p in (cache / "runs").iterdir()) == sorted(
        [*(p.name for p in paths[2:]), "mine.jsonl"]
    )


def test_no_run_yet(cache):
    with pytest.raises(TraceError, match=f"no run has been recorded yet in {cache}/runs"):
        latest()

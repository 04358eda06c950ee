"""A writer killed with -9 in the middle of many puts loses nothing that it reported stored."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore import KVStore
from rag.errors import FolderLockedError

ROOT = Path(__file__).parents[2]
WRITER = """
import runpy, sys
from pathlib import Path
from kvstore import KVStore
make = runpy.run_path("tests/kvstore/conftest.py")
store = KVStore(Path(sys.argv[1]), ram_bytes=0)
for n in range(1_000_000):
    segment = make["make_segment"](n, 16)
    assert store.put(segment, make["make_kv"](segment, layers=4, heads=2, dim=16))
    print(n, flush=True)
"""


def test_kill_9_loses_nothing_reported_and_leaves_no_half_file(tmp_path, toy):
    def stored(store, n):
        found = store.get(toy.segment(n, 16))
        assert found.kv is None or toy.same(
            found.kv, toy.kv(toy.segment(n, 16), layers=4, heads=2, dim=16)
        )
        return found.reason

    with subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as writer:
        reported = [int(writer.stdout.readline()) for _ in range(40)]
        with pytest.raises(FolderLockedError, match=f"process {writer.pid};"):
            KVStore(tmp_path)
        with KVStore(tmp_path, read_only=True) as reader:
            assert {stored(reader, n) for n in reported} == {"hit (disk)"}
        writer.send_signal(signal.SIGKILL)
        reported += [int(line) for line in writer.stdout if line.endswith("\n")]
    subfolder = next(tmp_path.glob("??"))
    (subfolder / f".{'0' * 64}.safetensors.0123456789ab.tmp").write_bytes(b"half a fi")
    with KVStore(tmp_path) as store:
        assert list(tmp_path.glob("??/.*")) == []
        assert {stored(store, n) for n in reported} == {"hit (disk)"}
        assert store.stats().disk_entries - len(reported) in {0, 1}
        beyond = [stored(store, len(reported) + n) for n in range(2)]
        assert beyond in (["absent"] * 2, ["hit (disk)", "absent"])
        assert store.put(toy.segment(0, 16), toy.kv(toy.segment(0, 16)))

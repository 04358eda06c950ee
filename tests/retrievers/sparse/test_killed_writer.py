"""A writer killed by the system at any moment: what it reported as saved is there."""

import subprocess
import sys
import time

import numpy as np
import pytest

from retrievers.sparse.index import SparseIndex

WRITER = """
import sys
from pathlib import Path
from retrievers.sparse.index import SparseIndex

folder = Path(sys.argv[1])
index = SparseIndex.open(folder) if (folder / "sparse.json").exists() else SparseIndex()
n = len(index)
while True:
    ids = [f"p{n + k:06}" for k in range(20)]
    index.add_terms(ids, [[f"w{hash(id_) % 7}", id_] for id_ in ids])
    n += 20
    index.save(folder)
    print(n, flush=True)
"""


@pytest.mark.slow
def test_what_was_reported_saved_survives_a_kill(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "index"
    reported = 0
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
        )
        first = process.stdout.readline()
        assert first, "the writer could not open what the one before left"
        time.sleep(float(rng.uniform(0, 0.15)))
        process.kill()
        rest, _ = process.communicate()
        reported = max(reported, *map(int, [first, *rest.split()]))
        index = SparseIndex.open(folder)
        assert len(index) >= reported
        assert len(index) % 20 == 0
        last = f"p{len(index) - 1:06}"
        assert [hit.id for hit in index.search_terms({last: 1.0}, 9)] == [last]
        assert index.statistics.total_length == 2 * len(index)

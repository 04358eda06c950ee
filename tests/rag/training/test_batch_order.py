"""Order of training: complete, alike in length, and a function of seed and epoch alone."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.training.batch_order import epoch_batches, generator


@given(st.lists(st.integers(1, 256), max_size=200), st.integers(1, 9), st.integers(0, 3))
def test_every_row_is_in_exactly_one_batch(lengths, size, epoch):
    batches = epoch_batches(lengths, size, 0, epoch)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in batches)


def test_batches_are_of_like_length_and_not_in_order_of_it():
    lengths = [1 + (7 * row) % 200 for row in range(64 * 8)]
    batches = epoch_batches(lengths, 8, 0, 0)
    spread = [max(lengths[r] for r in b) - min(lengths[r] for r in b) for b in batches]
    assert sum(spread) / len(spread) < 15
    firsts = [lengths[batch[0]] for batch in batches]
    assert firsts != sorted(firsts)


def test_epochs_and_seeds_differ_and_repeat():
    lengths = list(range(50))
    assert epoch_batches(lengths, 4, 1, 2) == epoch_batches(lengths, 4, 1, 2)
    assert epoch_batches(lengths, 4, 1, 2) != epoch_batches(lengths, 4, 1, 3)
    assert epoch_batches(lengths, 4, 1, 2) != epoch_batches(lengths, 4, 2, 2)


def test_another_process_draws_the_same():
    code = "from rag.training.batch_order import generator; print(generator(3, 1, 2).random())"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
        ).stdout
        for seed in ("0", "1")
    }
    assert runs == {f"{generator(3, 1, 2).random()}\n"}


def test_refuses_an_empty_batch():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        epoch_batches([1], 0, 0, 0)

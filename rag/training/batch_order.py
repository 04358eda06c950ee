"""Order of training: which items form each batch, as a pure function of seed and epoch."""

from __future__ import annotations

import random
from collections.abc import Sequence

_POOL = 32  # batches whose items are sorted together


def generator(seed: int, *parts: int) -> random.Random:
    """Return a generator that depends on the seed and the parts alone, in every process."""
    return random.Random("/".join(map(str, (seed, *parts))))  # noqa: S311 (no secret)


def epoch_batches(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int
) -> list[list[int]]:
    """Return the rows of each batch of an epoch; every row is in exactly one.

    Rows are shuffled, those of 32 batches at a time sorted by length and cut into batches, and the
    batches shuffled: items of a batch are of like length, and batches of long items do not come
    together. So an interrupted run knows its place by a number, and needs no generator's state.

    Args:
        lengths: of each item, in tokens.
        batch_size: items of a batch, at least 1; the last of a pool may have fewer.
        seed: of the run.
        epoch: from 0.

    Raises:
        ValueError: if batch_size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    rng = generator(seed, epoch)
    rows = list(range(len(lengths)))
    rng.shuffle(rows)
    pool = _POOL * batch_size
    batches = []
    for start in range(0, len(rows), pool):
        # Sorting is stable, so equal lengths stay in their shuffled order.
        alike = sorted(rows[start : start + pool], key=lambda row: lengths[row])
        batches += [alike[at : at + batch_size] for at in range(0, len(alike), batch_size)]
    rng.shuffle(batches)
    return batches

"""Bounds: which numbers are inside, and how they read in messages."""

import math

import pytest

from rag.bounds import Bounds


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "shown"),
    [
        (Bounds(low=1), [1, 1e9, math.inf], [0.999, -math.inf], "at least 1"),
        (Bounds(low=0, open_low=True), [1e-9], [0, -1], "above 0"),
        (Bounds(0, 1), [0, 0.5, 1], [-0.1, 1.1], "in [0, 1]"),
        (Bounds(0, 0.5, open_low=True), [0.5], [0, 0.6], "in (0, 0.5]"),
        (Bounds(high=2_000_000), [2_000_000, -5], [2_000_001], "at most 2000000"),
        (Bounds(), [0, -math.inf], [], "any number"),
    ],
)
def test_numbers_are_inside_or_not(bounds, inside, outside, shown):
    assert all(number in bounds for number in inside)
    assert not any(number in bounds for number in outside)
    assert not bounds.__contains__(math.nan)
    assert str(bounds) == shown

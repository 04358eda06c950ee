"""Rotated copies: whole segments by place, within a budget, the ones used longest ago go first."""

import torch

from rag.generation.placed_segments import PlacedSegments
from rag.generation.plan import PlacedRows
from rag.records import ModelIdentity, Segment

MODEL = ModelIdentity("tiny", "w", "r", "float32", "t")


def item(name, start=0, rows=None):
    return PlacedRows(Segment(MODEL, "passage", (ord(name), 2, 3), name=name), start, rows)


def copy(value=0.0):
    return torch.full((10,), value), torch.full((15,), value)


def test_a_copy_is_found_where_it_was_placed_only():
    kept = PlacedSegments(1000)
    kept.put(item("a", 4), copy(1.0))
    assert kept.get(item("a", 4))[0][0] == 1.0
    assert kept.get(item("a", 5)) is None
    assert kept.get(item("b", 4)) is None
    assert kept.nbytes == 100


def test_some_rows_of_a_segment_are_not_kept():
    kept = PlacedSegments(1000)
    kept.put(item("a", rows=(0, 2)), copy())
    assert kept.nbytes == 0
    kept.put(item("a"), copy())
    assert kept.get(item("a", rows=(0, 2))) is None


def test_the_one_used_longest_ago_goes_first():
    kept = PlacedSegments(200)
    kept.put(item("a"), copy())
    kept.put(item("b"), copy())
    assert kept.get(item("a")) is not None
    kept.put(item("c"), copy())
    assert [kept.get(item(name)) is not None for name in "abc"] == [True, False, True]
    assert kept.nbytes == 200


def test_what_is_larger_than_the_budget_is_not_kept_and_drives_nothing_out():
    kept = PlacedSegments(120)
    kept.put(item("a"), copy())
    kept.put(item("b"), (torch.zeros(100), torch.zeros(1)))
    assert kept.get(item("b")) is None
    assert kept.get(item("a")) is not None


def test_clearing_drops_everything():
    kept = PlacedSegments(120)
    kept.put(item("a"), copy())
    kept.clear()
    assert kept.get(item("a")) is None
    assert kept.nbytes == 0

"""Layout of a pass: a row worked out by hand, what is shared, what is cut."""

from dataclasses import replace

import pytest

from rag.adaptation import plan_layout
from rag.adaptation.plan_layout import Reading, lay_out
from rag.generation.plan import (
    ContextWeights,
    PlacedRows,
    Recompute,
    block_plan,
    graph_plan,
    parallel_plan,
    sequential_plan,
)
from rag.records import Segment

NEUTRAL = ContextWeights()


@pytest.fixture
def prefix(identity):
    return Segment(identity(), "prefix", (10, 11), name="prefix")


@pytest.fixture
def passage(identity, prefix):
    def build(*ids, parents=(prefix,)):
        return Segment(identity(), "passage", ids, parents, name="passage")

    return build


def columns_of(layout):
    sizes = [len(block.seen) for block in layout.blocks]
    return [part.tolist() for part in layout.columns.split(sizes)]


def test_a_pruned_passage_and_a_question_stand_where_they_should(prefix, passage):
    plan = parallel_plan(prefix, ((passage(20, 21, 22, 23), (0, 2)),), (30, 31), NEUTRAL)
    layout = lay_out([Reading(plan, (40, 41))])
    # The last row of the passage is not read, so it is not encoded; nor is the last answer token.
    assert layout.token_ids.tolist() == [10, 11, 20, 21, 22, 30, 31, 40]
    assert layout.positions.tolist() == [0, 1, 2, 3, 4, 4, 5, 6]
    # Row 4 was encoded at position 4 and is read at position 3: the first key after the eight.
    assert (layout.moved.tolist(), layout.moved_positions.tolist()) == ([4], [3])
    assert columns_of(layout) == [[0, 1], [0, 1, 2, 3, 4], [2, 8, 0, 1, 5, 6, 7]]
    assert layout.column_rows.tolist()[-7:] == [2, 4, 0, 1, 5, 6, 7]
    assert [block.start for block in layout.blocks] == [0, 2, 5]
    assert layout.blocks[2].seen.tolist() == [2, 3, 0, 1, 4, 5, 6]
    assert [block.context for block in layout.blocks] == [0, 0, 2]
    assert (layout.predicts.tolist(), layout.answers) == ([6, 7], (2,))
    assert layout.positions_taken == 7


def test_rows_with_gaps_keep_their_keys(prefix, passage):
    pruned = ((passage(20, 21, 22, 23), (0, 2)),)
    plan = parallel_plan(prefix, pruned, (30,), NEUTRAL, gaps=True)
    layout = lay_out([Reading(plan, (40,))])
    assert not len(layout.moved)
    assert columns_of(layout)[-1] == [2, 4, 0, 1, 5]


def test_segments_and_moved_keys_are_there_once_for_all_that_read_them(prefix, passage):
    one, two = passage(20, 21, 22), passage(25, 26)
    alike = replace(one, name="other", sentence_rows=((0, 1),))
    a = Reading(block_plan(prefix, ((two, None), (one, (1, 2))), (30,)), (40,))
    b = Reading(block_plan(prefix, ((two, (1,)), (alike, (1,))), (31, 32)), (41, 42))
    layout = lay_out([a, b, a])
    assert layout.token_ids.tolist() == [10, 11, 25, 26, 20, 21, 22, 30, 31, 32, 41, 30]
    # `one` comes after `two`: its rows 1 and 2 are read at 5 and 6, and at 3 and 4 they would be
    # where they were. `two` is read whole where it was, and its row 1 at 2, by the second alone.
    assert layout.moved.tolist() == [5, 6, 3]
    assert layout.moved_positions.tolist() == [4, 5, 2]
    assert layout.answers == (1, 2, 1)


def test_a_passage_is_encoded_up_to_the_last_row_that_any_reading_reads(prefix, passage):
    segment = passage(*range(20, 30))
    readings = [
        Reading(parallel_plan(prefix, ((segment, rows),), (30,), NEUTRAL), (40,))
        for rows in ((1,), (0, 4), (3,))
    ]
    assert lay_out(readings).token_ids.tolist() == [10, 11, 20, 21, 22, 23, 24, 30, 30, 30]


def test_what_no_question_reads_is_not_computed(prefix, passage):
    one, two = passage(20), passage(21)
    plan = graph_plan(prefix, ((one, None), (two, None)), ((1,), ()), (30,), keep_round0=True)
    assert len(plan.targets) == 1
    whole = lay_out([Reading(plan, (40,))])
    assert whole.token_ids.tolist() == [10, 11, 20, 21, 20, 30]
    assert lay_out([Reading(replace(plan, reads=(1,)), (40,))]).token_ids.tolist() == [
        10, 11, 21, 30,
    ]  # fmt: skip


def test_a_sequential_prompt_reads_its_beginning_from_another_readings_prefix(prefix, passage):
    cached = Reading(parallel_plan(prefix, (), (30,), NEUTRAL), (40,))
    alone = Reading(sequential_plan((10, 11, 20, 30)), (40, 41))
    layout = lay_out([alone, cached])
    assert layout.token_ids.tolist() == [10, 11, 20, 30, 40, 30]
    assert layout.predicts.tolist() == [3, 4, 5]
    assert columns_of(layout)[1] == [0, 1, 2, 3, 4]


def test_a_sequential_prompt_that_is_a_prefix_keeps_its_tokens(prefix):
    cached = Reading(parallel_plan(prefix, (), (30,), NEUTRAL), (40,))
    layout = lay_out([cached, Reading(sequential_plan(prefix.token_ids), (41,))])
    assert layout.token_ids.tolist() == [10, 11, 30, 10, 11]
    assert layout.predicts.tolist() == [2, 4]


def test_sequential_prompts_share_their_beginning_and_keep_a_token_of_their_own():
    long, short = (5, 6, 7, 8, 9), (5, 6, 7)
    layout = lay_out([Reading(sequential_plan(ids), (1,)) for ids in (long, short)])
    assert layout.token_ids.tolist() == [5, 6, 7, 8, 9, 7]
    assert layout.positions.tolist() == [0, 1, 2, 3, 4, 2]
    other = lay_out([Reading(sequential_plan(ids), (1,)) for ids in (long, (4, 6))])
    assert other.token_ids.tolist() == [*long, 4, 6]


def test_a_long_run_is_cut_into_blocks_that_see_all_before_them(monkeypatch):
    monkeypatch.setattr(plan_layout, "QUERY_BLOCK", 2)
    layout = lay_out([Reading(sequential_plan((5, 6, 7, 8, 9)), (1,))])
    assert columns_of(layout) == [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]]
    assert [block.positions.tolist() for block in layout.blocks] == [[0, 1], [2, 3], [4]]


def test_what_cannot_be_laid_out_is_named(prefix, passage):
    plan = block_plan(prefix, ((passage(20), None), (passage(21), None)), (30,))
    with pytest.raises(ValueError, match="answer must hold at least one token, got none"):
        Reading(plan, ())
    with pytest.raises(ValueError, match=r"recompute must ask for no rows .* which is 1 rows"):
        Reading(replace(plan, recompute=Recompute(first=1)), (40,))
    with pytest.raises(ValueError, match="readings must hold at least one, got none"):
        lay_out([])
    two = passage(20, parents=(prefix, prefix))
    with pytest.raises(ValueError, match="segment 'passage' has 2 parents, not 1"):
        lay_out([Reading(replace(plan, context=(PlacedRows(two, 4),)), (40,))])

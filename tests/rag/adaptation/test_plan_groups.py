"""Groups of blocks: padding worked out by hand, what is hidden, and which blocks come together."""

import pytest
import torch

from rag.adaptation.plan_groups import groups
from rag.adaptation.plan_layout import Block, PlanLayout, Reading, lay_out
from rag.generation.plan import ContextWeights, parallel_plan
from rag.records import Segment

APE = ContextWeights(0.9, 0.8, 0.1)
NONE = torch.empty(0, dtype=torch.int64)


def layout_of(*blocks):
    """A layout whose columns are 100, 101, ... and stand for rows 0, 1, ..."""
    rows = torch.arange(sum(len(block.seen) for block in blocks))
    tokens = torch.zeros(blocks[-1].start + len(blocks[-1].positions), dtype=torch.int64)
    return PlanLayout(tokens, tokens, blocks, 100 + rows, rows, NONE, NONE, NONE, (1,), len(tokens))


def block(start, queries, seen, context=0, weights=APE):
    return Block(start, torch.tensor(queries), torch.tensor(seen), context, weights)


def test_blocks_are_padded_to_the_largest_each_part_at_its_end():
    # Three columns of passages and three others, and two and four: three and four with padding.
    one = block(0, [5, 6], [1, 2, 3, 4, 5, 6], 3)
    two = block(2, [8], [1, 2, 5, 6, 7, 8], 2)
    (group,) = groups(layout_of(one, two), together=True)
    assert group.shape == (2, 2, 7)
    assert group.context == 3
    assert group.rows.tolist() == [0, 1, 2, 2]
    assert group.columns.tolist() == [*range(100, 106), 0, 106, 107, 0, *range(108, 112)]
    assert group.column_rows.tolist() == [*range(6), 0, 6, 7, 0, *range(8, 12)]
    assert group.positions.tolist() == [[5, 6], [8, 8]]
    seen = (~group.hidden(None)).int().tolist()
    assert seen == [
        [[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 0]],
        [[1, 1, 0, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1, 1]],
    ]


def test_alone_a_block_has_no_padding_and_keeps_its_place():
    blocks = block(0, [5, 6], [2, 3, 4, 5, 6], 2), block(2, [8], [1, 5, 6, 7, 8], 1)
    found = groups(layout_of(*blocks), together=False)
    assert [group.shape for group in found] == [(1, 2, 5), (1, 1, 5)]
    assert [group.columns.tolist() for group in found] == [[*range(100, 105)], [*range(105, 110)]]


def test_a_query_sees_no_later_token_of_its_run_and_nothing_outside_of_a_window():
    (group,) = groups(layout_of(block(0, [4, 5], [0, 3, 4, 5])), together=False)
    assert group.hidden(None)[0].tolist() == [[False, False, False, True], [False] * 4]
    assert group.hidden(2)[0].tolist() == [[True, False, False, True], [True, True, False, False]]


def test_columns_of_passages_count_as_all_others_where_nothing_is_weighed():
    plain = block(0, [5, 6], [2, 3, 4, 5, 6], 2, ContextWeights())
    (group,) = groups(layout_of(plain), together=True)
    assert group.context == 0
    assert (~group.hidden(None))[0].sum(-1).tolist() == [4, 5]


@pytest.mark.parametrize("other", [
    block(9, [1, 2], [0, 1, 2], 1, ContextWeights(0.9, 0.8, 0.2)),
    block(9, [*range(40)], [*range(40)], 1),
    block(9, [1], [*range(300)], 1),
    block(9, [1], [*range(100)], 90),
])  # fmt: skip
def test_blocks_of_other_weights_or_sizes_stay_apart(other):
    blocks = block(0, [1, 2], [0, 1, 2], 1), other, block(60, [2], [1, 2], 1)
    found = groups(layout_of(*blocks), together=True)
    assert [group.shape[0] for group in found] == [2, 1]


def test_passages_of_a_pass_are_encoded_together(identity):
    prefix = Segment(identity(), "prefix", (10, 11), name="prefix")
    passages = [
        (Segment(identity(), "passage", tuple(range(20, 20 + n)), (prefix,), name=str(n)), None)
        for n in (3, 5, 9)
    ]
    layout = lay_out([Reading(parallel_plan(prefix, passages, (30, 31), APE), (40,))])
    assert [group.shape for group in groups(layout, together=True)] == [(4, 9, 11), (1, 2, 21)]

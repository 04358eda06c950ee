"""Plans: positions worked out by hand, token counts, and rows that are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.generation.plan import (
    ContextWeights,
    EncodingPlan,
    PlacedRows,
    parallel_plan,
    sequential_plan,
)
from rag.records import ModelIdentity, Segment

MODEL = ModelIdentity("tiny", "weights", "rope", "float32", "tokenizer")
PREFIX = Segment(MODEL, "prefix", (5, 6, 7), name="prefix")


def passage(length, name="p"):
    return Segment(MODEL, "passage", tuple(range(10, 10 + length)), (PREFIX,), name=name)


def parallel(*passages, question=(90, 91)):
    return parallel_plan(PREFIX, passages, question, ContextWeights(0.9, 0.8, 0.1))


def test_the_question_follows_the_longest_passage():
    plan = parallel((passage(4), None), (passage(6), None), (passage(5), None))
    assert [placed.start for placed in plan.context] == [3, 3, 3]
    assert plan.prefill_start == 3 + 6
    assert plan.last_position == 3 + 6 + 2 - 1
    assert plan.cached_tokens == 3 + 4 + 6 + 5
    assert plan.prefill == (90, 91)
    assert plan.weights == ContextWeights(0.9, 0.8, 0.1)
    assert plan.mode == "ape"


def test_the_longest_passage_is_the_one_with_most_rows_kept():
    plan = parallel((passage(10), (0, 4, 9)), (passage(5), None))
    assert plan.prefill_start == 3 + 5
    assert plan.cached_tokens == 3 + 3 + 5
    assert plan.context[0].token_ids == (10, 14, 19)


def test_without_a_passage_the_question_follows_the_prefix():
    plan = parallel()
    assert (plan.context, plan.prefill_start, plan.cached_tokens) == ((), 3, 3)


@given(st.lists(st.tuples(st.integers(1, 9), st.data()), max_size=4))
def test_positions_never_overlap_and_counts_add_up(drawn):
    pairs = []
    for length, data in drawn:
        rows = data.draw(st.none() | st.sets(st.integers(0, length - 1), min_size=1))
        pairs.append((passage(length), rows and tuple(sorted(rows))))
    plan = parallel(*pairs)
    ends = [placed.start + len(placed) for placed in plan.context]
    assert plan.prefill_start == max(ends, default=3)
    assert plan.cached_tokens == 3 + sum(len(placed.token_ids) for placed in plan.context)


def test_a_sequential_plan_computes_everything():
    plan = sequential_plan((4, 5, 6))
    assert (plan.prefix, plan.context, plan.prefill, plan.prefill_start) == (None, (), (4, 5, 6), 0)
    assert (plan.cached_tokens, plan.last_position) == (0, 2)
    assert plan.weights == ContextWeights()


def test_a_plan_without_a_question_is_refused():
    with pytest.raises(ValueError, match="prefill must hold at least one token"):
        sequential_plan(())
    with pytest.raises(ValueError, match="prefill must hold at least one token"):
        EncodingPlan("x", PlacedRows(PREFIX, 0), (), (), 3)


@pytest.mark.parametrize("rows", [(), (1, 0), (1, 1), (-1, 0), (0, 4)])
def test_rows_that_do_not_ascend_inside_the_segment_are_refused(rows):
    with pytest.raises(ValueError, match=r"'p' must ascend within \[0, 4\)"):
        PlacedRows(passage(4), 3, rows)


def test_a_passage_after_another_prefix_is_refused():
    longer = Segment(MODEL, "prefix", (5, 6, 7, 8), name="prefix")
    for parents in [(longer,), (PREFIX, PREFIX)]:
        foreign = Segment(MODEL, "passage", (10,), parents, name="q")
        with pytest.raises(ValueError, match="'q' was not encoded after this prefix"):
            parallel((passage(4), None), (foreign, None))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("name", ["temperature", "scale"])
def test_weights_that_are_not_positive_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be above 0, got {value}"):
        ContextWeights(**{name: value})


def test_a_bias_may_be_negative():
    assert ContextWeights(bias=-2.0).bias == -2.0

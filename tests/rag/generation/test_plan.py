"""Plans: positions worked out by hand, token counts, and rows that are refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.generation.plan import (
    ContextWeights,
    EncodingPlan,
    PlacedRows,
    Recompute,
    Target,
    block_plan,
    exact_rows,
    graph_plan,
    parallel_plan,
    repeated,
    sequential_plan,
)
from rag.records import ModelIdentity, Segment

MODEL = ModelIdentity("tiny", "weights", "rope", "float32", "tokenizer")
PREFIX = Segment(MODEL, "prefix", (5, 6, 7), name="prefix")


def passage(length, name="p"):
    return Segment(MODEL, "passage", tuple(range(10, 10 + length)), (PREFIX,), name=name)


def parallel(*passages, question=(90, 91)):
    return parallel_plan(PREFIX, passages, question, ContextWeights(0.9, 0.8, 0.1))


A, B, C = (passage(length, name) for length, name in [(4, "a"), (6, "b"), (5, "c")])
ALL = ((A, None), (B, None), (C, None))
QUESTION = (90, 91)


def graph(sources, passages=ALL, **options):
    return graph_plan(PREFIX, passages, sources, QUESTION, **options)


def layout(plan):
    """The parts of a plan by name: where each starts, and what it sees."""
    parts = [*plan.context, *(target.placed for target in plan.targets)]
    sees = [(), *[()] * (len(plan.context) - 1), *(target.sources for target in plan.targets)]
    return [(p.segment.name, p.start, seen) for p, seen in zip(parts, sees, strict=True)]


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


def test_serial_passages_follow_one_another_and_shared_ones_begin_together():
    pairs = ((A, (0, 3)), (B, None), (C, (2,)))
    plan = parallel_plan(PREFIX, pairs, QUESTION, ContextWeights(), positions="serial")
    assert [placed.start for placed in plan.context] == [3, 5, 11]
    assert plan.prefill_start == 12
    assert plan == replace(block_plan(PREFIX, pairs, QUESTION), mode="ape")


def test_gaps_keep_the_places_of_rows_that_are_left_out():
    pairs = ((A, (0, 3)), (C, (1, 2)))
    for positions, starts, end in [("shared", (3, 3), 3 + 5), ("serial", (3, 7), 3 + 4 + 5)]:
        plan = parallel_plan(
            PREFIX, pairs, QUESTION, ContextWeights(), positions=positions, gaps=True
        )
        assert [placed.start for placed in plan.context] == list(starts)
        assert [placed.positions for placed in plan.context] == [
            (starts[0], starts[0] + 3),
            (starts[1] + 1, starts[1] + 2),
        ]
        assert plan.prefill_start == end
        assert plan.cached_tokens == 3 + 2 + 2


def test_a_passage_without_parents_fits_any_prefix():
    alone = replace(A, parents=())
    plan = parallel((alone, None), (B, None))
    assert [placed.start for placed in plan.context] == [3, 3]


def test_a_target_starts_after_the_longest_of_its_sources():
    plan = graph(((), (), (0,)))
    assert layout(plan) == [("a", 3, ()), ("b", 3, ()), ("c", 7, (0,))]
    assert plan.prefill_start == 12
    assert (plan.reads, plan.read_parts) == (None, (0, 1, 2))
    assert (plan.prefill, plan.told, plan.mode) == (QUESTION, (), "graph")
    assert (plan.cached_tokens, plan.computed_tokens) == (3 + 4 + 6, 5 + 2)


def test_serial_parts_have_a_place_each_and_targets_come_last():
    plan = graph(((1, 2), (), ()), positions="serial", keep_round0=True)
    assert layout(plan) == [("a", 3, ()), ("b", 7, ()), ("c", 13, ()), ("a", 18, (1, 2))]
    assert plan.prefill_start == 22
    plan = graph(((1,), (2,), ()), positions="serial")
    assert layout(plan) == [("c", 3, ()), ("b", 8, (0,)), ("a", 14, (0 + 1,))]
    assert plan.reads is None


def test_serial_targets_go_by_the_path_to_them_and_then_in_the_order_given():
    # Passage 1 waits for 2 alone, 0 for 2 and 3, yet 0 is given first.
    pairs = (*ALL, (passage(2, "d"), None))
    plan = graph(((2, 3), (2,), (), ()), pairs, positions="serial")
    assert [name for name, *_ in layout(plan)] == ["c", "d", "a", "b"]


def test_a_single_target_over_all_else_is_prefilled_with_the_question():
    plan = graph(((), (0, 2), ()))
    assert layout(plan) == [("a", 3, ()), ("c", 3, ())]
    assert plan.targets == ()
    assert plan.prefill == (*B.token_ids, *QUESTION)
    assert plan.prefill_start == 3 + 5
    assert plan.told == ((0, PlacedRows(B, 8)),)
    assert (plan.cached_tokens, plan.computed_tokens) == (3 + 4 + 5, 6 + 2)


@pytest.mark.parametrize(
    "options",
    [
        {"keep_round0": True},
        {"self_edge": True},
        {"weights": ContextWeights(0.9)},
        {"sources": ((), (0,), ())},
    ],
    ids=str,
)
def test_other_targets_are_parts_of_their_own(options):
    options = {"sources": ((), (0, 2), ()), **options}
    plan = graph(options.pop("sources"), **options)
    assert len(plan.targets) == 1
    assert plan.prefill == QUESTION


def test_a_target_that_sees_itself_and_is_kept_is_prefilled_with_the_question():
    plan = graph(((), (0, 2), ()), self_edge=True, keep_round0=True)
    assert layout(plan) == [("a", 3, ()), ("b", 3, ()), ("c", 3, ())]
    assert plan.prefill_start == 3 + 6
    assert plan.prefill == (*B.token_ids, *QUESTION)


def test_round_0_of_a_target_is_read_only_where_it_is_kept():
    kept, left = graph(((1,), (), ()), keep_round0=True), graph(((1,), (), ()))
    assert layout(kept) == [("a", 3, ()), ("b", 3, ()), ("c", 3, ()), ("a", 9, (1,))]
    assert kept.read_parts == (0, 1, 2, 3)
    assert layout(left) == [("b", 3, ()), ("c", 3, ()), ("a", 9, (0,))]
    assert kept.cached_tokens == left.cached_tokens + len(A)


def test_a_self_edge_shows_a_target_its_own_cached_rows():
    plan = graph(((1,), (), ()), self_edge=True)
    assert layout(plan) == [("a", 3, ()), ("b", 3, ()), ("c", 3, ()), ("a", 9, (0, 1))]
    assert plan.reads == (1, 2, 3)
    twice = graph(((1,), (), ()), self_edge=True, rounds=2)
    assert layout(twice)[3:] == [("a", 9, (0, 1)), ("a", 13, (1, 3))]
    assert twice.reads == (1, 2, 4)


def test_a_cycle_is_computed_round_by_round():
    once = graph(((1,), (0,), ()), rounds=1)
    assert layout(once) == [
        ("a", 3, ()), ("b", 3, ()), ("c", 3, ()), ("a", 9, (1,)), ("b", 7, (0,)),
    ]  # fmt: skip
    assert once.reads == (2, 3, 4)
    twice = graph(((1,), (0,), ()), rounds=2)
    assert layout(twice)[3:] == [("a", 9, (1,)), ("b", 7, (0,)), ("a", 13, (4,)), ("b", 13, (3,))]
    assert twice.reads == (2, 5, 6)
    assert twice.prefill_start == 13 + 6
    assert twice.computed_tokens == 2 * (4 + 6) + 2


def test_parts_that_nothing_reads_are_left_out():
    # b's first round is read by nobody: a's second sees c and b's cached rows no more.
    plan = graph(((1,), (2,), ()), rounds=2)
    assert layout(plan) == [("c", 3, ()), ("b", 8, (0,)), ("a", 14, (1,))]
    full = graph(((1, 2), (0, 2), (0, 1)), rounds=1)
    assert len(full.context) == 3
    assert full.reads == (3, 4, 5)


@st.composite
def acyclic(draw):
    count = draw(st.integers(1, 6))
    order = draw(st.permutations(range(count)))
    sources = [()] * count
    for place, row in enumerate(order[1:], 1):
        sources[row] = tuple(draw(st.lists(st.sampled_from(order[:place]), unique=True)))
    return tuple(sources)


def longest(sources, row):
    return max((1 + longest(sources, source) for source in sources[row]), default=0)


@given(
    sources=acyclic(),
    more=st.integers(0, 3),
    keep=st.booleans(),
    positions=st.sampled_from(["shared", "serial"]),
)
def test_as_many_rounds_as_the_longest_path_are_one_pass_in_order(sources, more, keep, positions):
    pairs = tuple((passage(2 + row, f"p{row}"), None) for row in range(len(sources)))
    path = max(longest(sources, row) for row in range(len(sources)))
    options = {"positions": positions, "keep_round0": keep}
    want = graph(sources, pairs, **options)
    assert graph(sources, pairs, rounds=max(path, 1) + more, **options) == want
    if path > 1:
        assert graph(sources, pairs, rounds=path - 1, **options) != want


@given(sources=acyclic(), rounds=st.none() | st.integers(1, 3), self_edge=st.booleans())
def test_tokens_are_cached_computed_or_both_as_counted_by_hand(sources, rounds, self_edge):
    pairs = tuple((passage(2 + row, f"p{row}"), None) for row in range(len(sources)))
    plan = graph(sources, pairs, rounds=rounds, self_edge=self_edge)
    cached = sum(len(placed.segment) for placed in plan.context) + 3
    anew = sum(len(target.placed.segment) for target in plan.targets)
    assert plan.cached_tokens == cached
    assert plan.computed_tokens == anew + len(plan.prefill)
    assert plan.recomputed_tokens == 0
    parts = [*plan.context, *(target.placed for target in plan.targets)]
    read = {parts[place].segment.name for place in plan.read_parts}
    read |= {placed.segment.name for _, placed in plan.told}
    assert read == {f"p{row}" for row in range(len(sources))}
    needed = set(plan.read_parts).union(*(target.sources for target in plan.targets))
    assert needed == set(range(len(parts)))


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        (
            ((1,), (0,), ()),
            {},
            r"sources must have no cycle unless rounds are given, got \[0, 1, 0\]",
        ),
        (((0,), (), ()), {}, "no cycle unless rounds are given"),
        (((3,), (), ()), {}, r"sources of passage 0 must be rows in \[0, 3\), got \(3,\)"),
        (((), (-1,), ()), {"rounds": 1}, "sources of passage 1 must be rows"),
        (((), ()), {}, "sources must be one a passage, 3, got 2"),
        (((), (), ()), {"rounds": 0}, "rounds must be at least 1, or None, got 0"),
    ],
)
def test_graphs_that_cannot_be_computed_are_refused(sources, options, message):
    with pytest.raises(ValueError, match=message):
        graph(sources, **options)
    foreign = replace(A, parents=(A,))
    with pytest.raises(ValueError, match="'a' was not encoded after this prefix"):
        graph(((),), ((foreign, None),))


def test_targets_and_reads_of_what_is_not_there_are_refused():
    plan = parallel((A, None), (B, None))
    for sources in [(2,), (3,), (-1,)]:
        with pytest.raises(ValueError, match="sources of part 2 must be parts before it"):
            replace(plan, targets=(Target(PlacedRows(C, 9), sources),))
    fits = replace(plan, targets=(Target(PlacedRows(C, 9), (0, 1)),), reads=(2,))
    assert fits.read_parts == (2,)
    for reads in [(2,), (-1,)]:
        with pytest.raises(ValueError, match=r"reads must be parts in \[0, 2\)"):
            replace(plan, reads=reads)


def test_passages_that_are_repeated_stand_right_before_the_question():
    plan = repeated(parallel((A, None), (B, None)), ((B, None), (A, (1, 2))), 2)
    assert plan.prefill == (*B.token_ids, 11, 12, *QUESTION)
    assert plan.prefill_start == 9
    assert plan.told == ((0, PlacedRows(B, 9)), (6, PlacedRows(A, 15, (1, 2))))
    assert (plan.cached_tokens, plan.computed_tokens) == (3 + 4 + 6, 6 + 2 + 2)
    merged = repeated(graph(((), (0, 2), ())), ((C, None),), 2)
    assert merged.prefill == (*B.token_ids, *C.token_ids, *QUESTION)
    assert merged.told == ((0, PlacedRows(B, 8)), (6, PlacedRows(C, 14)))
    assert repeated(plan, (), 2) == plan


def test_a_question_longer_than_the_prefill_is_refused():
    plan = parallel((A, None))
    assert repeated(plan, ((A, None),), 0).prefill == (*QUESTION, *A.token_ids)
    for question in (3, -1):
        with pytest.raises(ValueError, match=rf"question must be in \[0, 2\], got {question}"):
            repeated(plan, ((A, None),), question)


def test_a_repair_counts_the_beginnings_and_a_share_of_all():
    plan = block_plan(PREFIX, ALL, QUESTION)

    def count(*repair):
        return replace(plan, recompute=Recompute(*repair)).recomputed_tokens

    assert Recompute(2).beginnings(plan.context) == (4, 5, 10, 11)
    assert count(2) == 4
    assert count(100) == 6 + 5
    assert count(0, 0.2) == 3
    assert count(0, 0.21) == 4
    assert count(2, 0.2) == 4 + 3
    assert count(0, 1.0) == count(2, 1.0) == 11
    repaired = replace(plan, recompute=Recompute(2, 0.2))
    assert repaired.cached_tokens == 3 + 15 - 7
    assert repaired.computed_tokens == 7 + 2


def test_a_share_that_binary_numbers_miss_asks_for_no_row_more():
    hundred = ((passage(100), None),)
    plan = block_plan(PREFIX, ((replace(hundred[0][0], parents=()), None),), QUESTION)
    assert replace(plan, recompute=Recompute(share=0.07)).recomputed_tokens == 7
    assert replace(plan, recompute=Recompute(share=0.071)).recomputed_tokens == 8


@pytest.mark.parametrize(
    ("rows", "parents", "start", "exact"),
    [
        (None, (PREFIX,), 3, 6),
        ((0, 1, 3), (PREFIX,), 3, 2),
        ((1, 2, 3), (PREFIX,), 3, 0),
        (None, (), 3, 0),
        (None, (), 0, 6),
        (None, (PREFIX,), 4, 0),
    ],
)
def test_rows_of_the_first_passage_are_exact_up_to_the_first_gap(rows, parents, start, exact):
    first = PlacedRows(replace(B, parents=parents), start, rows)
    context = (first, PlacedRows(C, 20))
    assert exact_rows(context) == exact
    assert exact_rows(()) == 0
    length = len(first)
    wanted = Recompute(2).beginnings(context)
    assert wanted == (*range(exact, min(2, length)), length, length + 1)
    assert Recompute(share=1.0).count(context) == length + 5 - exact


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": -1}, "first must be at least 0, got -1"),
        ({"share": 1.5}, r"share must be in \[0, 1\], got 1.5"),
        ({"share": float("nan")}, r"share must be in \[0, 1\], got nan"),
        ({"by": "logit"}, "by must be one of key, value, got 'logit'"),
    ],
)
def test_repairs_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Recompute(**options)

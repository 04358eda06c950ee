"""Source structure: the better passage attends to the worse, and nothing goes in circles."""

from hypothesis import given
from hypothesis import strategies as st

from rag.generation.source_structure import source_rows
from rag.records import Edge, Passage, Span


def passages(n, edges):
    return [
        Passage(
            id=f"p{row}",
            document="d",
            text="t",
            span=Span(0, 1),
            sentences=(Span(0, 1),),
            edges=tuple(
                Edge(f"p{row}", f"p{target}", "mention", 1.0)
                for source, target in edges
                if source == row
            ),
        )
        for row in range(n)
    ]


def test_the_better_passage_attends_to_the_worse_whichever_way_the_edge_goes():
    assert source_rows(passages(3, [(0, 2)])) == ((2,), (), ())
    assert source_rows(passages(3, [(2, 0)])) == ((2,), (), ())


def test_two_ways_and_two_kinds_are_one_source():
    assert source_rows(passages(2, [(0, 1), (1, 0), (0, 1)])) == ((1,), ())


def test_edges_to_what_was_not_chosen_count_for_nothing():
    assert source_rows(passages(2, [(0, 7), (1, 1)])) == ((), ())
    assert source_rows([]) == ()


@given(st.integers(1, 8), st.data())
def test_sources_stand_below_their_target_so_there_is_no_cycle(n, data):
    pairs = st.tuples(st.integers(0, n - 1), st.integers(0, n + 1))
    edges = data.draw(st.lists(pairs, max_size=20))
    for target, sources in enumerate(source_rows(passages(n, edges))):
        assert all(target < source < n for source in sources)
        assert list(sources) == sorted(set(sources))
        for source in sources:
            assert (target, source) in edges or (source, target) in edges

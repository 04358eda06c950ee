"""Edges by hand for every kind, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.generation.graph_edges import GraphEdges
from rag.records import Edge, Passage, Span


def best_first(count):
    whole = Span(0, 5)
    return [Passage(f"p{row}", "d", "Text.", whole, (whole,)) for row in range(count)]


@pytest.mark.parametrize(
    ("edges", "sources"),
    [
        (GraphEdges("none"), ((), (), (), ())),
        (GraphEdges("into_top_k"), ((1, 2, 3), (), (), ())),
        (GraphEdges("into_top_k", 2), ((2, 3), (2, 3), (), ())),
        (GraphEdges("into_top_k", 4), ((), (), (), ())),
        (GraphEdges("from_top_m"), ((), (0,), (0,), (0,))),
        (GraphEdges("from_top_m", 3), ((), (), (), (0, 1, 2))),
        (GraphEdges("from_top_m", 9), ((), (), (), ())),
        (GraphEdges("full"), ((1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2))),
        (GraphEdges("chain"), ((1, 2, 3), (2, 3), (3,), ())),
        (GraphEdges("explicit", pairs=((4, 1), (2, 1), (4, 2))), ((1, 3), (3,), (), ())),
        (GraphEdges("explicit", pairs=((2, 1), (2, 1), (5, 1), (1, 9))), ((1,), (), (), ())),
        (GraphEdges("explicit", pairs=((1, 2), (2, 1)), rounds=1), ((1,), (0,), (), ())),
    ],
    ids=str,
)
def test_edges_by_hand(edges, sources):
    assert edges.sources(best_first(4)) == sources


def test_the_corpus_graph_makes_the_better_passage_the_target(passage):
    passages = [
        passage("a"),
        passage("b", edges=(Edge("b", "a", "mention", 1.0), Edge("b", "gone", "mention", 1.0))),
        passage("c", edges=(Edge("c", "b", "seq", 0.5),)),
    ]
    assert GraphEdges("corpus").sources(passages) == ((1,), (2,), ())


@pytest.mark.parametrize("kind", ["none", "into_top_k", "from_top_m", "full", "chain", "corpus"])
def test_nothing_and_one_passage_have_no_edges(kind):
    assert GraphEdges(kind).sources([]) == ()
    assert GraphEdges(kind).sources(best_first(1)) == ((),)


@given(
    kind=st.sampled_from(["into_top_k", "from_top_m", "full", "chain"]),
    k=st.integers(1, 6),
    count=st.integers(0, 6),
)
def test_sources_ascend_and_are_never_the_target(kind, k, count):
    for row, of_row in enumerate(GraphEdges(kind, k).sources(best_first(count))):
        assert row not in of_row
        assert list(of_row) == sorted(set(of_row))


def test_only_full_needs_a_number_of_rounds():
    assert GraphEdges("full").turns == 1
    assert GraphEdges("full", rounds=3).turns == 3
    assert GraphEdges("chain").turns is None
    assert GraphEdges("chain", rounds=2).turns == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kind": "all"},
            "edges must be one of none, .*, explicit, corpus, got 'all'",
        ),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"rounds": 0}, "rounds must be at least 1, or None, got 0"),
        ({"kind": "explicit"}, "pairs belong to edges 'explicit', got 0 of them with 'explicit'"),
        (
            {"kind": "chain", "pairs": ((1, 2), (2, 3))},
            "pairs belong to edges 'explicit', got 2 of them with 'chain'",
        ),
        *(
            (
                {"kind": "explicit", "pairs": ((2, 1), pair)},
                rf"pairs must be two different ranks from 1, got \({', '.join(map(str, pair))}",
            )
            for pair in [(1, 1), (0, 1), (1, 0), (1, 2, 3), (1,)]
        ),
        (
            {"kind": "explicit", "pairs": ((1, 2), (2, 3), (3, 1))},
            r"pairs must have no cycle unless rounds are given, got ranks \[.*\]",
        ),
    ],
    ids=str,
)
def test_edges_that_say_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GraphEdges(**options)

"""Edges `seq`: from a passage to the next one of its document."""

from collections.abc import Mapping, Sequence

from rag.records import Passage
from retrievers.graph.edges.edge_list import EdgeList


def sequence_edges(passages: Sequence[Passage], rows: Mapping[str, int]) -> EdgeList:
    """Return an edge of weight 1 from each passage to the one after it.

    Args:
        passages: in the order of their rows.
        rows: of passages by id; a neighbour that is not among them gets no edge.
    """
    return EdgeList.of(
        (row, rows[passage.next], 1.0)
        for row, passage in enumerate(passages)
        if passage.next is not None and passage.next in rows
    )

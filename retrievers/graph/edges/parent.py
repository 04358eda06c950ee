"""Edges `parent`: between passages of the same section or document."""

from collections.abc import Sequence

from rag.records import Passage
from retrievers.graph.edges.edge_list import EdgeList

_NEAREST = 16  # passages of a long parent that each is joined to, before and after it


def parent_edges(passages: Sequence[Passage]) -> EdgeList:
    """Return edges among the passages of each parent, of weight 1 / (its passages - 1).

    A passage without a parent belongs to its document. A parent with many passages joins each to
    the 16 that come before and after it in the document.

    Args:
        passages: in the order of their rows.
    """
    families: dict[tuple[str, str], list[int]] = {}
    for row, passage in enumerate(passages):
        families.setdefault((passage.document, passage.parent or ""), []).append(row)
    edges = []
    for family in families.values():
        family.sort(key=lambda row: (passages[row].span, row))
        for place, row in enumerate(family):
            near = family[max(0, place - _NEAREST) : place + _NEAREST + 1]
            edges += [(row, other, 1 / (len(family) - 1)) for other in near if other != row]
    return EdgeList.of(edges)

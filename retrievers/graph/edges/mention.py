"""Edges `mention`: from a passage to those whose title, heading, alias or term it mentions."""

from collections.abc import Iterable

import numpy as np

from retrievers.graph.edges.edge_list import EdgeList
from retrievers.graph.names import Names


def mention_edges(mentions: Iterable[Iterable[str]], names: Names, most: int) -> EdgeList:
    """Return the edges of mentions; one weighs 1 / (the other passages that bear the name).

    Args:
        mentions: the names that each row mentions.
        names: of all rows.
        most: a name that more passages bear says too little, and gives no edge.
    """
    found = []
    for row, mentioned in enumerate(mentions):
        for name in mentioned:
            bearers = names.rows(name)
            if len(bearers) <= most:
                others = bearers[bearers != row]
                found += [(row, int(other), 1 / len(others)) for other in others]
    return EdgeList.of(found)


def named_rows(text: str, names: Names, allowed: np.ndarray | None = None) -> dict[int, float]:
    """Return the rows that a question names, with 1 / (the rows that bear the name).

    Args:
        text: the question.
        names: of all rows.
        allowed: rows that exist for whoever asks, bool, (n,); None means all.
    """
    found: dict[int, float] = {}
    for name in names.mentioned(text):
        bearers = names.rows(name)
        if allowed is not None:
            bearers = bearers[allowed[bearers]]
        for row in bearers.tolist():
            found[row] = max(found.get(row, 0.0), 1 / len(bearers))
    return found

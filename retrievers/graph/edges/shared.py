"""Edges `phrase` and `metadata`: between passages that share something rare."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import permutations

from rag.records import Passage
from retrievers.graph.edges.edge_list import EdgeList


def shared_edges(holders: Mapping[Hashable, Sequence[int]], nodes: int, most: int) -> EdgeList:
    """Return edges between all passages that share a key, both ways.

    A key that m of n passages hold adds `log(n / m) / log(n) / (m - 1)` to each edge between them,
    and the sum is capped at 1: a rare key says much, a common one little and to many. A key of one
    passage, or of more than `most`, gives no edge, so no hub comes of it.

    Args:
        holders: rows of the passages that hold each key, unique.
        nodes: n, of the whole graph.
        most: m at most.
    """
    weights: dict[tuple[int, int], float] = {}
    for rows in holders.values():
        if not 1 < len(rows) <= most or len(rows) == nodes:
            continue
        weight = math.log(nodes / len(rows)) / math.log(nodes) / (len(rows) - 1)
        for pair in permutations(rows, 2):
            weights[pair] = weights.get(pair, 0.0) + weight
    return EdgeList.of(
        (source, target, min(weight, 1.0)) for (source, target), weight in weights.items()
    )


def metadata_holders(
    passages: Iterable[Passage], fields: Sequence[str]
) -> dict[Hashable, list[int]]:
    """Return the rows that hold each value of some metadata fields; True and 1 are two values."""
    holders: dict[Hashable, list[int]] = {}
    for row, passage in enumerate(passages):
        for field in dict.fromkeys(fields):
            if field in passage.metadata:
                value = passage.metadata[field]
                key = (field, "is", value) if isinstance(value, bool) else (field, value)
                holders.setdefault(key, []).append(row)
    return holders

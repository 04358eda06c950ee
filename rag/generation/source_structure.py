"""Which passages a passage may attend to, from the corpus graph's edges that retrieval returned."""

from collections.abc import Sequence

from rag.records import Passage


def source_rows(passages: Sequence[Passage]) -> tuple[tuple[int, ...], ...]:
    """Return for each passage the rows of its sources, ascending: what its encoding attends to.

    An edge of the corpus graph joins a target to a source, in the sense of Graph-KV
    (arXiv:2506.07334). Which end is the target is decided by rank and not by the edge: the better
    passage attends to the worse one, as the better is where the answer is looked for. So the
    structure never has a cycle, whatever cycles the edges have, and its targets can be encoded in
    descending order of their rows, each after its sources.

    Args:
        passages: best first, unique by id, with `edges`; those that lead to a passage that is not
            among them count for nothing.
    """
    rows = {passage.id: row for row, passage in enumerate(passages)}
    found: list[set[int]] = [set() for _ in passages]
    for passage in passages:
        for edge in passage.edges:
            ends = rows.get(edge.source), rows.get(edge.target)
            if ends[0] is not None and ends[1] is not None and ends[0] != ends[1]:
                target, source = sorted(end for end in ends if end is not None)
                found[target].add(source)
    return tuple(tuple(sorted(sources)) for sources in found)

"""The neighbourhood of an answer in the corpus graph: what was chosen, and what it leads to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.records import Edge, Passage

if TYPE_CHECKING:
    from retrievers.graph.corpus_graph import CorpusGraph
    from retrievers.graph.settings import EdgeWeights

NEIGHBOURS = 10


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Passages and the edges among them.

    Attributes:
        heading: the question, or what else the passages were chosen for.
        chosen: best first, at least one.
        neighbours: other passages that an edge joins to a chosen one, those with the heaviest
            edges first.
        edges: among all of them, those between two neighbours left out.
    """

    heading: str
    chosen: tuple[Passage, ...]
    neighbours: tuple[Passage, ...]
    edges: tuple[Edge, ...]

    def _repr_html_(self) -> str:
        from pipelines.drawing.neighbourhood_svg import neighbourhood_svg

        return neighbourhood_svg(self)


def neighbourhood(
    heading: str,
    chosen: Sequence[Passage],
    graph: CorpusGraph,
    passages: Mapping[str, Passage],
    *,
    neighbours: int = NEIGHBOURS,
    weights: EdgeWeights | None = None,
) -> Neighbourhood:
    """Return what to draw of a corpus graph around some passages.

    Args:
        heading: what the passages were chosen for.
        chosen: best first, unique, at least one.
        graph: of the corpus.
        passages: those that exist for whoever looks, by id; no other is shown.
        neighbours: most passages to show beside them, at least 0.
        weights: leaves out kinds of edges that count 0; `EdgeWeights()` by default.

    Raises:
        ValueError: if nothing was chosen, or neighbours is negative.
    """
    from retrievers.graph.settings import EdgeWeights

    if not chosen:
        raise ValueError("chosen must hold at least one passage, got none")
    if neighbours < 0:
        raise ValueError(f"neighbours must be at least 0, got {neighbours}")
    weights = weights or EdgeWeights()
    ids = [passage.id for passage in chosen]
    near = [id_ for id_ in graph.around(ids, len(graph), weights) if id_ in passages][:neighbours]
    kept = set(ids)
    return Neighbourhood(
        heading,
        tuple(chosen),
        tuple(passages[id_] for id_ in near),
        tuple(
            edge
            for edge in graph.between([*ids, *near], weights)
            if edge.source in kept or edge.target in kept
        ),
    )

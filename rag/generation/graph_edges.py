"""Edges of Graph-KV: which retrieved passages are computed anew over which others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Literal, get_args

from rag.generation.plan import Sources
from rag.generation.source_structure import source_rows
from rag.records import Passage

Edges = Literal["none", "into_top_k", "from_top_m", "full", "chain", "explicit", "corpus"]


@dataclass(frozen=True, slots=True)
class GraphEdges:
    """Edges from sources to targets among the passages of an answer (arXiv:2506.07334).

    Kinds: `none`; `into_top_k`, the best k are targets of all others; `from_top_m`, the best k are
    sources of all others (the paper's Top-m); `full`, every passage is a target of all others;
    `chain`, each is a target of all worse ones, as in a sequential prompt with the best passage
    last; `explicit`, the pairs given; `corpus`, the edges of the corpus graph that retrieval
    returned, the better passage the target.

    Attributes:
        kind: as above.
        k: how many the best ones are, at least 1.
        pairs: of `explicit`: (source, target) as ranks, from 1; those past the last passage do not
            count.
        rounds: how often targets are computed; None means once, each after its sources, or 1 for
            `full`, which has no such order.
        keep_round0: whether the question also sees targets as they are cached.
        self_edge: whether a target sees itself as it is cached.

    Raises:
        ValueError: for an unknown kind, a number out of range, or pairs that are missing, not asked
            for, or a cycle without rounds.
    """

    kind: Edges = "into_top_k"
    k: int = 1
    pairs: tuple[tuple[int, ...], ...] = ()
    rounds: int | None = None
    keep_round0: bool = False
    self_edge: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(Edges):
            raise ValueError(
                f"edges must be one of {', '.join(get_args(Edges))}, got {self.kind!r}"
            )
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")
        if self.rounds is not None and self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, or None, got {self.rounds}")
        if bool(self.pairs) != (self.kind == "explicit"):
            raise ValueError(
                f"pairs belong to edges 'explicit', got {len(self.pairs)} of them with "
                f"{self.kind!r}"
            )
        for pair in self.pairs:
            if len(pair) != 2 or min(pair) < 1 or pair[0] == pair[1]:
                raise ValueError(f"pairs must be two different ranks from 1, got {pair}")
        if self.rounds is None:
            _check_order(self.pairs)

    @property
    def turns(self) -> int | None:
        """Rounds that a plan takes."""
        return 1 if self.kind == "full" and self.rounds is None else self.rounds

    def sources(self, passages: Sequence[Passage]) -> Sources:
        """Return for each passage the rows of those that it is computed anew over.

        Args:
            passages: best first.
        """
        rows = range(len(passages))
        if self.kind == "corpus":
            return source_rows(passages)
        if self.kind == "explicit":
            found: list[list[int]] = [[] for _ in rows]
            for source, target in self.pairs:
                if max(source, target) <= len(passages) and source - 1 not in found[target - 1]:
                    found[target - 1].append(source - 1)
            return tuple(tuple(sorted(of_row)) for of_row in found)
        return tuple(tuple(other for other in rows if self._joins(other, row)) for row in rows)

    def _joins(self, source: int, target: int) -> bool:
        if self.kind == "into_top_k":
            return target < self.k <= source
        if self.kind == "from_top_m":
            return source < self.k <= target
        if self.kind == "chain":
            return source > target
        return self.kind == "full" and source != target


def _check_order(pairs: Sequence[tuple[int, ...]]) -> None:
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for source, target in pairs:
        sorter.add(target, source)
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(
            f"pairs must have no cycle unless rounds are given, got ranks {error.args[1]}"
        ) from None

"""Graph expansion: passages that a ranking leads to over the edges of the corpus graph."""

import math
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Literal, get_args

import numpy as np

from rag.bounds import Bounds
from rag.ranking import Ranking
from rag.records import Edge, Hit, Passage, Query
from retrievers.distinct import distinct_passages
from retrievers.graph.corpus_graph import CorpusGraph
from retrievers.graph.edges.mention import named_rows
from retrievers.graph.forward_push import forward_push
from retrievers.graph.hops import hops
from retrievers.graph.pagerank import pagerank_batch
from retrievers.graph.settings import EdgeWeights
from retrievers.in_thread import in_thread
from retrievers.pairs import check_pairs
from retrievers.ranking import best_rows
from retrievers.scaled_scores import scaled

Method = Literal["pagerank", "push", "hops"]

_NAMED = 0.5  # share of a name that says which passage is meant: two may bear it


@dataclass(frozen=True)
class GraphExpansion:
    """Reranker that adds what the best passages, and the passages a question names, lead to.

    Seeds are the best few passages of the ranking, by their scores, and the passages whose title,
    heading, alias or defined term the question mentions, by 1 / (the passages that bear the name).
    A question that names one or two passages starts from fewer of the ranking than another: with
    five, what they lead to does not come between the five themselves.
    A walk from them gives every passage of the corpus a graph score, and the result is ranked by
    `(1 - b) * base + b * graph`. `base` is the ranking's score, min-max normalised, 0 for
    passages that it does not hold; `graph` is the walk's, divided by its maximum.

    b depends on the question: it goes from `unnamed_weight`, for one that names nothing, to
    `graph_weight`, for one that names exactly one passage, in proportion to 1 / (the passages that
    bear the best name). A question that names something asks for what that leads to; one
    that does not is answered by the ranking. At b = 0 the ranking stays as it is.

    Needs no language model, at index or question time. Sources: Haveliwala 2002 for the walk; the
    blend as reported of Raja and Vats, arXiv:2507.19715; seeds by names instead of extracted facts
    stand for those of HippoRAG 2 (Gutiérrez et al. 2025, arXiv:2502.14802). The dependence of b on
    the question, and all defaults, are ours.

    Attributes:
        graph: of the corpus.
        passages: every indexed passage by id.
        top_k: passages to return, at least 1.
        weights: what each kind of edge counts.
        method: `pagerank` is exact, `push` looks at the seeds' neighbourhood only and pays on large
            graphs, `hops` follows the best path of two edges.
        damping: chance to go on at each step of a walk, in [0, 1); for `hops` what a score keeps at
            each edge.
        seeds: best passages of the ranking to start from, at least 0.
        unnamed_seeds: the same for a question that names no passage, or only by names that more
            than two bear.
        named: whether passages that the question names are seeds too, and decide b.
        graph_weight: b for a question that names one passage, in [0, 1].
        unnamed_weight: b for a question that names none, in [0, 1].
        reached: passages that the walk may add to those of the ranking, at least 0.
        within: the only ids that exist: the walk passes through no other, and passages of the
            ranking that are not among them are dropped. None means all.
    """

    graph: CorpusGraph
    passages: Mapping[str, Passage]
    top_k: Annotated[int, Bounds(low=1)] = 3
    weights: EdgeWeights = EdgeWeights()
    method: Method = "pagerank"
    damping: Annotated[float, Bounds(low=0, high=1)] = 0.5
    seeds: Annotated[int, Bounds(low=0)] = 2
    unnamed_seeds: Annotated[int, Bounds(low=0)] = 5
    named: bool = True
    graph_weight: Annotated[float, Bounds(low=0, high=1)] = 0.8
    unnamed_weight: Annotated[float, Bounds(low=0, high=1)] = 0.3
    reached: Annotated[int, Bounds(low=0)] = 100
    within: frozenset[str] | None = None

    def __post_init__(self) -> None:
        for name, least in (("top_k", 1), ("seeds", 0), ("unnamed_seeds", 0), ("reached", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("graph_weight", "unnamed_weight"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if not 0.0 <= self.damping < 1.0:
            raise ValueError(f"damping must be in [0, 1), got {self.damping}")
        if self.method not in get_args(Method):
            raise ValueError(f"method must be one of {get_args(Method)}, got {self.method!r}")

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[Passage]:
        """Return at most `top_k` passages, best first, ties by id, no text twice; a `Ranking`.

        Each has the edges that lead from it to another one of the result. The result can hold less
        than `top_k` only if ranking and walk found less. A ranking without passages is expanded
        from the names in the question alone.

        Args:
            query: what was asked.
            passages: the ranking to expand, best first; one without a score counts 0. Those that
                the graph does not hold count 0 in it.
        """
        return self.batch(query=[query], passages=[passages])[0]

    def batch(
        self, *, query: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[Passage]]:
        """Return each query's passages; the walks of all are made together.

        Raises:
            ValueError: if query and passages are not as long.
        """
        check_pairs(query, passages)
        passages = [self._existing(found) for found in passages]
        bases = [_normalised(found) for found in passages]
        named = [
            named_rows(one.text, self.graph.names, self._allowed) if self.named else {}
            for one in query
        ]
        starts = [self._starts(*pair) for pair in zip(bases, named, strict=True)]
        scores = self._graph_scores(starts)
        return [
            self._blended(found, base, names, graph)
            for found, base, names, graph in zip(passages, bases, named, scores, strict=True)
        ]

    acall = in_thread(__call__)
    abatch = in_thread(batch)

    def blend(self, named: Mapping[int, float]) -> float:
        """Return b for a question, from the rows that it names with their shares."""
        sure = max(named.values(), default=0.0)
        return self.unnamed_weight + (self.graph_weight - self.unnamed_weight) * sure

    @cached_property
    def _allowed(self) -> np.ndarray | None:
        """Which rows exist, bool (n,), or None for all: looked up once, not for every question."""
        return self.graph.allowed(self.within)

    def _existing(self, passages: Sequence[Passage]) -> Sequence[Passage]:
        if self.within is None:
            return passages
        return [passage for passage in passages if passage.id in self.within]

    def _starts(self, base: Mapping[str, float], named: Mapping[int, float]) -> np.ndarray:
        """Return what each row weighs as a seed, float64 (n,)."""
        weights = np.zeros(len(self.graph))
        sure = max(named.values(), default=0.0) >= _NAMED
        seeds = self.seeds if sure else self.unnamed_seeds
        best = sorted(base, key=lambda id_: (-base[id_], id_))[:seeds]
        for row, id_ in zip(self.graph.ids.rows(best).tolist(), best, strict=True):
            if row >= 0:
                weights[row] = base[id_]
        for row, share in named.items():
            weights[row] = max(weights[row], share)
        return weights

    def _graph_scores(self, starts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return each query's scores of all rows, the best 1: float64 (n,), 0 without a seed."""
        walk = self.graph.walk(self.weights, self.within)
        found = [np.zeros(len(self.graph)) for _ in starts]
        seeded = [place for place, weights in enumerate(starts) if weights.any()]
        if self.method == "pagerank" and seeded:
            columns = np.stack([starts[place] for place in seeded], axis=1)
            ranks = pagerank_batch(walk, columns, damping=self.damping)
            for column, place in enumerate(seeded):
                found[place] = ranks[:, column] / ranks[:, column].max()
            return found
        for place in seeded:
            if self.method == "push":
                pushed = forward_push(walk, starts[place], damping=self.damping)
                rows, scores = pushed.rows, pushed.scores
            else:
                rows, scores = hops(walk, starts[place], decay=self.damping)
            found[place][rows] = scores / scores.max()
        return found

    def _blended(
        self,
        passages: Sequence[Passage],
        base: Mapping[str, float],
        named: Mapping[int, float],
        graph: np.ndarray,
    ) -> Ranking:
        b = self.blend(named)
        added = self._reached(graph, base) if b else []
        known = list(base)
        rows = self.graph.ids.rows(known)
        walked = np.where(rows >= 0, graph[rows], 0.0) if len(graph) else np.zeros(len(known))
        hits = [
            Hit(id_, (1 - b) * base[id_] + b * float(score))
            for id_, score in zip(known, walked, strict=True)
        ]
        names = self.graph.ids.take(np.array(added, np.int64))
        hits += [Hit(id_, b * float(graph[row])) for id_, row in zip(names, added, strict=True)]
        hits.sort(key=lambda hit: (-hit.score, hit.id))
        given = {passage.id: passage for passage in passages}
        both = ChainMap(given, self.passages)  # type: ignore[arg-type]  # it is only read
        found = distinct_passages(hits, both, self.top_k)
        return Ranking(with_edges(found, self.graph, self.weights), found.tail)

    def _reached(self, graph: np.ndarray, base: Mapping[str, float]) -> list[int]:
        """Return the rows to add: the best of the walk that the ranking does not hold."""
        if not self.reached:
            return []
        best = best_rows(graph, np.flatnonzero(graph), self.reached + len(base))
        ids = self.graph.ids.take(best)
        new = [row for row, id_ in zip(best.tolist(), ids, strict=True) if id_ not in base]
        return new[: self.reached]


def with_edges(
    passages: Sequence[Passage], graph: CorpusGraph, weights: EdgeWeights | None = None
) -> list[Passage]:
    """Return the passages with the edges that lead from each to another one of them.

    Args:
        passages: unique by id.
        graph: of the corpus.
        weights: leaves out kinds that count 0; None leaves out none.
    """
    leaving: dict[str, list[Edge]] = {passage.id: [] for passage in passages}
    for edge in graph.between(list(leaving), weights):
        leaving[edge.source].append(edge)
    return [replace(passage, edges=tuple(leaving[passage.id])) for passage in passages]


def _normalised(passages: Sequence[Passage]) -> dict[str, float]:
    """Return each id's score, min-max normalised; all 1 where all are equal."""
    scores = {passage.id: passage.score or 0.0 for passage in passages}
    if not scores:
        return {}
    for id_, score in scores.items():
        if not math.isfinite(score):
            raise ValueError(f"scores of passages must be finite, got {score} for {id_!r}")
    given = np.array(list(scores.values()), np.float64)
    return dict(zip(scores, scaled(given).tolist(), strict=True))

"""Retrieval from the corpora that a route names, under one token budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from rag.bounds import Bounds
from rag.protocols import Retriever
from rag.ranking import Ranking
from rag.records import Passage, Query, Route
from rag.routing.decision import NONE
from rag.routing.labels import MODALITIES, modality_of
from retrievers.corpora.modality_fusion import fused_granularities
from retrievers.corpora.token_budget import within_budget
from retrievers.fusion.merging import in_order, merged
from retrievers.in_thread import in_thread

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class RoutedRetriever:
    """Asks the corpora of a route, and puts what they find into one list for the generator.

    Rankings of corpora of one modality, such as paragraphs and documents, are fused by their ranks,
    and of passages of which one covers the other the better stays. Modalities follow each other,
    the most probable first, for scores of different corpora do not compare. One budget of tokens
    holds for all, shared by the modalities' probabilities (`retrievers.corpora.token_budget`).

    One corpus alone keeps its retriever's ranking and scores. Of several, scores are `1 / rank` in
    the result. What was found and is not returned follows as the tail.
    Source: Yeo et al. 2025 (UniversalRAG), arXiv:2504.20734, for a retriever a corpus; fusion and
    budget are ours.

    Attributes:
        retrievers: label to the retriever of its corpus.
        count: tokens of a text, for the budget; title and text of a passage count.
        modalities: of labels; one that is not there is a modality of its own.
        tokens: the budget, at least 1; None keeps all. The best passage of the most probable
            modality is returned even if it is longer.
        rrf_k: of the fusion: how slowly the weight of a rank falls, at least 0.
        top_k: passages in all, at least 1, whose places the modalities share as they share tokens;
            None leaves as many as each retriever returns.

    Raises:
        ValueError: for no retriever, or a number outside its range.
    """

    retrievers: Mapping[str, Retriever]
    count: Callable[[str], int]
    modalities: Mapping[str, str] = field(default_factory=lambda: dict(MODALITIES))
    tokens: Annotated[int, Bounds(low=1)] | None = 1024
    rrf_k: Annotated[int, Bounds(low=0)] = 60
    top_k: Annotated[int, Bounds(low=1)] | None = None

    def __post_init__(self) -> None:
        if not self.retrievers:
            raise ValueError("retrievers must hold at least one corpus, got none")
        if self.tokens is not None and self.tokens < 1:
            raise ValueError(f"tokens must be at least 1, or None for no budget, got {self.tokens}")
        if self.rrf_k < 0:
            raise ValueError(f"rrf_k must be at least 0, got {self.rrf_k}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, or None for no limit, got {self.top_k}")

    def __call__(self, query: Query, route: Route) -> list[Passage]:
        """Return the passages of the route's corpora, a `Ranking`; none for the route `none`.

        Args:
            query: what to look for.
            route: its labels are corpora with passages, as `route.corpora` makes sure.

        Raises:
            ValueError: for a label without a corpus.
        """
        return self.batch(query=[query], route=[route])[0]

    def batch(self, *, query: Sequence[Query], route: Sequence[Route]) -> list[list[Passage]]:
        """Return what a call returns for each query; each corpus is asked once for all."""
        asked = [self._labels(one) for one in route]
        found: list[dict[str, Sequence[Passage]]] = [{} for _ in query]
        for label, retriever in self.retrievers.items():
            rows = [row for row, labels in enumerate(asked) if label in labels]
            some = [query[row] for row in rows]
            for row, ranking in zip(rows, _rankings(retriever, some), strict=True):
                found[row][label] = ranking
        return [
            self._joined(labels, one, of_label)
            for labels, one, of_label in zip(asked, route, found, strict=True)
        ]

    acall = in_thread(__call__)
    abatch = in_thread(batch)

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return the passages' vectors, float32 (n, dim), of whichever corpus has them.

        Raises:
            KeyError: for an id that no corpus has a vector of.
        """
        import numpy as np

        if not ids:
            return next(iter(self.retrievers.values())).vectors([])
        return np.stack([self._vector(id_) for id_ in ids])

    def _vector(self, id_: str) -> np.ndarray:
        for retriever in self.retrievers.values():
            try:
                vector: np.ndarray = retriever.vectors([id_])[0]
            except KeyError:
                continue
            return vector
        raise KeyError(f"no vector for passage {id_!r} in any of {', '.join(self.retrievers)}")

    def _labels(self, route: Route) -> tuple[str, ...]:
        labels = tuple(dict.fromkeys(label for label in route.labels if label != NONE))
        for label in labels:
            if label not in self.retrievers:
                raise ValueError(
                    f"route must name corpora with passages ({', '.join(self.retrievers)}), or "
                    f"{NONE}, got {label!r}; a step route.corpora before this one sees to it"
                )
        return labels

    def _joined(
        self, labels: Sequence[str], route: Route, found: Mapping[str, Sequence[Passage]]
    ) -> Ranking:
        groups: dict[str, list[str]] = {}
        for label in sorted(labels, key=lambda label: -route.probs.get(label, 0.0)):
            groups.setdefault(modality_of(label, self.modalities), []).append(label)
        probs = {kind: self._probability(kind, route) for kind in groups}
        kinds = sorted(groups, key=lambda kind: -probs[kind])
        rankings = [
            fused_granularities([found[label] for label in groups[kind]], rrf_k=self.rrf_k)
            for kind in kinds
        ]
        kept = self._kept(rankings, [probs[kind] for kind in kinds])
        if len(rankings) == 1:
            (ranking,) = rankings
            return Ranking(ranking[: kept[0]], ranking.hits[kept[0] :])
        read = [p.id for ranking, n in zip(rankings, kept, strict=True) for p in ranking[:n]]
        unread = [hit.id for ranking in rankings for hit in ranking.hits]
        return merged(in_order([*read, *unread]), rankings, len(read)) if read else Ranking()

    def _kept(self, rankings: Sequence[Ranking], probs: Sequence[float]) -> tuple[int, ...]:
        """Return how many passages of each modality are returned."""
        kept = tuple(len(ranking) for ranking in rankings)
        if self.tokens is not None:
            lengths = [[self.count(one.searchable) for one in ranking] for ranking in rankings]
            kept = within_budget(lengths, probs, self.tokens)
        if self.top_k is not None and sum(kept) > self.top_k:
            kept = within_budget([[1] * n for n in kept], probs, self.top_k)
        return kept

    def _probability(self, kind: str, route: Route) -> float:
        """Return the probability of a modality: that of all its labels."""
        return sum(
            prob
            for label, prob in route.probs.items()
            if modality_of(label, self.modalities) == kind
        )


def _rankings(retriever: Any, query: Sequence[Query]) -> list[Sequence[Passage]]:
    if not query:
        return []
    batch = getattr(retriever, "batch", None)
    return [retriever(one) for one in query] if batch is None else list(batch(query=query))

"""Routing by evidence: what each corpus has to say to the question corrects a router's guess."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

from rag.bounds import Bounds
from rag.protocols import Encoder, SparseSearch, VectorSearch
from rag.records import Query, Route
from rag.routing.decision import chosen_labels
from rag.routing.labels import MODALITIES

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class CorpusSearch:
    """How one corpus is asked.

    Attributes:
        sparse: ranks its passages by BM25.
        dense: ranks them by the cosine of vectors.
        terms: number of terms in a question, as `sparse` counts them.
    """

    sparse: SparseSearch
    dense: VectorSearch
    terms: Callable[[str], int]

    def best(self, query: Sequence[Query], vectors: np.ndarray) -> list[tuple[float, float]]:
        """Return what the best passage says to each query: its cosine, and BM25 for each term.

        Without any passage that is -1 and 0.

        Args:
            query: what to look for.
            vectors: of the queries, (n, dim).
        """
        by_vector = self.dense.search_vectors(vectors, 1)
        by_term = self.sparse.search_batch(query, 1)
        return [
            (
                of_vector[0].score if of_vector else -1.0,
                of_term[0].score / max(1, self.terms(one.text)) if of_term else 0.0,
            )
            for one, of_vector, of_term in zip(query, by_vector, by_term, strict=True)
        ]


@dataclass(frozen=True)
class EvidenceRouter:
    """Corrects the probabilities of a route by the best passage that each corpus has.

    A question's words alone seldom tell which corpus holds its answer: many a fact could stand in a
    paragraph or in a table. Let c be the cosine of the best passage of a corpus, b the BM25 score
    of its best passage for each term of the question, and p the router's probability of its label.
    The corpora's probabilities become proportional to

        p ** prior_weight * exp(cosine_weight * c + term_weight * b)

    and add up to what they did before: labels without a corpus, such as `none`, keep theirs. All
    corpora have one encoder, so their cosines compare. That the router was unsure does not count
    any more: the route is no fallback.
    Source: resource selection of federated search by what small searches find, Si and Callan 2003,
    doi:10.1145/860435.860490; the product with a router is ours. The weights were fitted on
    questions over paragraphs, documents and tables (docs/universal-results.md).

    Attributes:
        corpora: label to how its corpus is asked; those with passages.
        encoder: makes the vectors of questions.
        cosine_weight: of c, at least 0.
        term_weight: of b, at least 0.
        prior_weight: of the router's log-probability, at least 0; 0 leaves it to the corpora.
        modalities: of labels; one that is not there is a modality of its own.

    Raises:
        ValueError: for no corpus, or a weight below 0.
    """

    corpora: Mapping[str, CorpusSearch]
    encoder: Encoder
    cosine_weight: Annotated[float, Bounds(low=0)] = 14.0
    term_weight: Annotated[float, Bounds(low=0)] = 1.0
    prior_weight: Annotated[float, Bounds(low=0)] = 0.4
    modalities: Mapping[str, str] = field(default_factory=lambda: dict(MODALITIES))

    def __post_init__(self) -> None:
        if not self.corpora:
            raise ValueError("corpora must hold at least one with passages, got none")
        for name in ("cosine_weight", "term_weight", "prior_weight"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    def __call__(self, query: Query, route: Route) -> Route:
        """Return the route with corrected probabilities, and the most probable label."""
        return self.batch(query=[query], route=[route])[0]

    def batch(self, *, query: Sequence[Query], route: Sequence[Route]) -> list[Route]:
        """Return what a call returns for each query; each corpus is asked once for all."""
        if not query:
            return []
        vectors = self.encoder.encode_queries([one.text for one in query])
        best = {label: search.best(query, vectors) for label, search in self.corpora.items()}
        return [
            self._corrected(one, {label: self._evidence(*of[row]) for label, of in best.items()})
            for row, one in enumerate(route)
        ]

    def _evidence(self, cosine: float, score: float) -> float:
        return self.cosine_weight * cosine + self.term_weight * score

    def _corrected(self, route: Route, evidence: Mapping[str, float]) -> Route:
        import numpy as np

        given = np.array([route.probs.get(label, 0.0) for label in evidence])
        mass = float(given.sum())
        if mass <= 0.0:
            if route.labels:
                return route
            # A route without a label leaves it to the corpora.
            given, mass = np.full(len(evidence), 1.0 / len(evidence)), 1.0
        logs = np.array(list(evidence.values()))
        if self.prior_weight:
            with np.errstate(divide="ignore"):
                logs = logs + self.prior_weight * np.log(given)
        weights = np.exp(logs - logs.max())
        found = dict(zip(evidence, (mass * weights / weights.sum()).tolist(), strict=True))
        probs = {**route.probs, **found}
        source = f"{route.source}, evidence" if route.source else "evidence"
        labels = chosen_labels(probs, self.modalities)
        return replace(route, labels=labels, probs=probs, source=source, fallback=False)

"""Hybrid retrieval: sparse and dense rankings fused before, after or on both sides of feedback."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import numpy as np

from rag.bounds import Bounds
from rag.protocols import Encoder, SparseSearch, VectorSearch
from rag.records import Hit, Passage, Query
from retrievers.distinct import DEPTH, distinct_passages
from retrievers.feedback.vector import VectorFeedback
from retrievers.fusion.fuse import Method, Missing, check_fusion, fuse
from retrievers.in_thread import in_thread

Interpolation = Literal["none", "dense", "pre", "post", "both"]

_SPARSE_MINIMUM = 0.0  # of BM25 with a positive idf, and of impacts
_COSINE_MINIMUM = -1.0


@dataclass(frozen=True)
class Hybrid:
    """Retriever over a sparse and a dense leg, with pseudo-relevance feedback on the query vector.

    Let S be the sparse ranking of the query, D(v) the dense ranking of a vector v, and mix the
    fusion of the two at the sparse leg's weight w. Feedback takes the best passages of a ranking
    and moves the query's vector q towards them, to q':

    - `none`: mix(S, D(q)), no feedback;
    - `dense`: D(q') with feedback from D(q), no sparse leg at all;
    - `pre`: D(q') with feedback from mix(S, D(q));
    - `post`: mix(S, D(q')) with feedback from D(q);
    - `both`: mix(S, D(q')) with feedback from mix(S, D(q)), and the same S.

    These are one code path with two weights, of the ranking that gives feedback and of the one that
    is returned: (0, 0), (w, 0), (0, w) and (w, w). At weight 0 or 1 the other leg is not searched.
    Feedback passages stay eligible. Each feedback mode costs one sparse and two dense searches.
    Source: Li et al. 2022, arXiv:2205.00235, and for the feedback Li et al. 2021, arXiv:2108.11044.

    Attributes:
        sparse: ranks by terms.
        dense: ranks by vectors, and hands them back; of the same passages.
        encoder: what made the vectors of `dense`.
        passages: every indexed passage by id.
        top_k: passages to return, at least 1.
        interpolation: when the legs are fused.
        sparse_weight: w, in [0, 1]; the source's 0.5. Which leg is stronger depends on the corpus:
            `dovetail tune` finds the weight from judged questions.
        feedback_weight: the sparse leg's weight in the ranking that gives feedback, for `pre` and
            `both`; None takes `sparse_weight`.
        feedback: how passages move the query's vector.
        fusion: how the legs are fused.
        missing: what a passage counts in a leg that did not rank it.
        depth: hits taken from each leg, at least `top_k`. Normalisation depends on it, so it is
            fixed rather than following `top_k`.
        within: the only ids that are searched; None means all.
    """

    sparse: SparseSearch
    dense: VectorSearch
    encoder: Encoder
    passages: Mapping[str, Passage]
    top_k: Annotated[int, Bounds(low=1)] = 3
    interpolation: Interpolation = "none"
    sparse_weight: Annotated[float, Bounds(low=0, high=1)] = 0.5
    feedback_weight: Annotated[float, Bounds(low=0, high=1)] | None = None
    feedback: VectorFeedback = VectorFeedback()
    fusion: Method = "minmax"
    missing: Missing = "zero"
    depth: Annotated[int, Bounds(low=1)] = DEPTH
    within: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if self.depth < self.top_k:
            raise ValueError(f"depth must be at least top_k = {self.top_k}, got {self.depth}")
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(
                f"interpolation must be one of {get_args(Interpolation)}, got "
                f"{self.interpolation!r}"
            )
        if self.fusion not in get_args(Method):
            raise ValueError(f"fusion must be one of {get_args(Method)}, got {self.fusion!r}")
        check_fusion(self.fusion, self.missing)
        if not 0.0 <= self.sparse_weight <= 1.0:
            raise ValueError(f"sparse_weight must be in [0, 1], got {self.sparse_weight}")
        self._check_feedback_weight()
        if self.dense.dim != self.encoder.dim:
            raise ValueError(
                f"encoder must give vectors as wide as dense, {self.dense.dim}, got "
                f"{self.encoder.dim} from {self.encoder.name!r}"
            )
        _refuse_other_passages(self.sparse, self.dense)

    @property
    def weights(self) -> tuple[float | None, float]:
        """The sparse leg's weights: of the ranking that gives feedback, and of the returned one.

        The first is None where there is no feedback.
        """
        before = self.sparse_weight if self.feedback_weight is None else self.feedback_weight
        return {
            "none": (None, self.sparse_weight),
            "dense": (0.0, 0.0),
            "pre": (before, 0.0),
            "post": (0.0, self.sparse_weight),
            "both": (before, self.sparse_weight),
        }[self.interpolation]

    def __call__(self, query: Query) -> list[Passage]:
        """Return at most `top_k` passages, best first, ties by id.

        Of passages with the very same text only the best is returned: a second copy would take a
        place and tell the reader nothing. What follows them is the tail of the `Ranking`. A query
        without a known word has no sparse ranking, so the dense one is returned; an empty corpus
        gives no passage.
        """
        return self.batch(query=[query])[0]

    def batch(self, *, query: Sequence[Query]) -> list[list[Passage]]:
        """Return the passages for each query; all are encoded in one call and searched in two."""
        return [distinct_passages(h, self.passages, self.top_k) for h in self.hits(query)]

    acall = in_thread(__call__)
    abatch = in_thread(batch)

    def hits(self, queries: Sequence[Query]) -> list[list[Hit]]:
        """Return the whole fused ranking of each query, copies of a text included."""
        before, after = self.weights
        sparse: list[list[Hit]] = [[] for _ in queries]
        if before or after:
            sparse = self.sparse.search_batch(queries, self.depth, within=self.within)
        if after == 1.0:
            return [self._mix(q, None, s, [], 1.0) for q, s in zip(queries, sparse, strict=True)]
        vectors = self.encoder.encode_queries([query.text for query in queries])
        if before is not None:
            vectors = self._refined(queries, vectors, sparse, before)
        return self._ranked(queries, vectors, sparse, after)

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return the passages' vectors, float32 (n, dim).

        Raises:
            KeyError: for an unknown id.
        """
        return self.dense.vectors(ids)

    def _check_feedback_weight(self) -> None:
        if self.feedback_weight is None:
            return
        if not 0.0 <= self.feedback_weight <= 1.0:
            raise ValueError(f"feedback_weight must be in [0, 1], got {self.feedback_weight}")
        if self.interpolation not in ("pre", "both"):
            raise ValueError(
                "feedback_weight needs interpolation pre or both, as no other mode takes feedback "
                f"from a fused ranking, got {self.interpolation!r}"
            )

    def _refined(
        self, queries: Sequence[Query], vectors: np.ndarray, sparse: list[list[Hit]], weight: float
    ) -> np.ndarray:
        """Return each query's vector after feedback, (queries, dim)."""
        if not self.feedback.k:
            return vectors
        rankings = self._ranked(queries, vectors, sparse, weight)
        refined = [
            self.feedback.refine(vector, ranking, self.dense.vectors, self.dense.__contains__)
            for vector, ranking in zip(vectors, rankings, strict=True)
        ]
        return np.stack(refined) if refined else vectors

    def _ranked(
        self, queries: Sequence[Query], vectors: np.ndarray, sparse: list[list[Hit]], weight: float
    ) -> list[list[Hit]]:
        """Return the sparse rankings mixed with the dense ones of the vectors."""
        dense: list[list[Hit]] = [[] for _ in queries]
        if weight < 1.0 and len(queries):
            dense = self.dense.search_vectors(vectors, self.depth, within=self.within)
        return [
            self._mix(*one, weight) for one in zip(queries, vectors, sparse, dense, strict=True)
        ]

    def _mix(
        self,
        query: Query,
        vector: np.ndarray | None,
        sparse: list[Hit],
        dense: list[Hit],
        weight: float,
    ) -> list[Hit]:
        def exact(leg: int, ids: Sequence[str]) -> list[float]:
            if leg == 0:
                return [
                    float(score) for score in self.sparse.scores_of(query, ids, within=self.within)
                ]
            assert vector is not None, "only a dense ranking asks for cosines"
            return [float(score) for score in self.dense.scores_of(vector, ids)]

        return fuse(
            (sparse, dense),
            (weight, 1.0 - weight),
            method=self.fusion,
            missing=self.missing,
            minima=(_SPARSE_MINIMUM, _COSINE_MINIMUM),
            score=exact,
        )


def _refuse_other_passages(sparse: SparseSearch, dense: VectorSearch) -> None:
    """Raise ValueError if both legs can list their passages and the lists differ."""
    by_terms, by_vectors = getattr(sparse, "ids", None), getattr(dense, "ids", None)
    if by_terms is not None and by_vectors is not None and by_terms != by_vectors:
        raise ValueError(
            "sparse and dense must index the same passages, got "
            f"{len(by_terms)} and {len(by_vectors)}, or other ids"
        )

"""Semantic compression: of a long ranking, the few passages that together say most of it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

import numpy as np

from rag.bounds import Bounds
from rag.protocols import Encoder
from rag.ranking import Ranking
from rag.records import Hit, Passage, Query
from retrievers.compression.objective import Kind, Objective
from retrievers.compression.selection import Compressed, GreedyChoice, check_greedy, compress
from retrievers.falling_scores import tail_after, with_falling_scores
from retrievers.in_thread import in_thread
from retrievers.pairs import check_pairs
from retrievers.scaled_scores import scaled
from retrievers.stored_vectors import StoredVectors, VectorsOf, stored_or_encoded

Weighting = Literal["minmax", "softmax", "uniform"]
GroupBy = Literal["document", "parent", "title"]


class CompressedRanking(Ranking):
    """A ranking of the passages that were chosen, with the reasons for it.

    Attributes:
        compression: rows of the pool that were chosen, which is the order of this ranking, and what
            each was chosen for.
    """

    compression: Compressed

    def __init__(
        self,
        passages: Iterable[Passage] = (),
        tail: Sequence[Hit] = (),
        compression: Compressed = Compressed(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__(passages, tail)
        self.compression = compression


def words_and_a_third(text: str) -> int:
    """Return about how many tokens an English text has: its words times 4/3, rounded up."""
    return -(-4 * len(text.split()) // 3)


@dataclass(frozen=True)
class SemanticCompression:
    """Reranker that chooses a compact set: relevant, standing for the whole pool, diverse.

    The best passages of a ranking are the pool. From it passages are taken greedily so that
    `retrievers.compression.objective.Objective` of the set is large: relevance is the passages'
    scores, scaled to [0, 1] over the pool (a missing score counts 0; equal ones all count 1), and
    each passage of the pool is to be covered with a weight. Passages come in the order in which
    they are taken, and score what they added, lowered where that would rise. With coverage and
    diversity at 0 and no budget it returns the best `top_k` of the ranking with their scores.
    What is not taken follows in the tail in its old order, as far as a `Ranking` goes. Edges to it
    are dropped.
    Source: Lin and Bilmes 2011, aclanthology.org/P11-1052; the objective names those of its terms.

    Attributes:
        stored: gives the passages' vectors, by its method `vectors` or called with ids.
        encoder: made them; encodes passages that have no stored vector.
        top_k: most passages to keep, at least 1.
        budget_tokens: most tokens that the passages may have together, titles included; None for no
            limit. What does not fit is passed over, so fewer than `top_k` may come back, or none.
        count: counts the tokens of a text; less than 1 counts as 1. The default needs no model;
            give the tokenizer's own for a budget that must hold exactly.
        relevance: a, at least 0.
        coverage: c, at least 0.
        diversity: lambda, at least 0; not with the kind `none`.
        kind: what diversity means.
        weighting: how much it counts that a passage is covered: its relevance, the softmax of the
            scores as they are, which sums to 1, or 1 for each.
        groups: what passages of one group share, for the kind `groups`; one without a parent or
            title belongs to its document.
        greedy: how passages are chosen; `auto` goes by the size of the pool.
        pool: most passages that are looked at, the first of the ranking. Coverage needs
            8 * pool^2 bytes: 8 MB for 1,000, 32 MB for 2,000.
        seed: of the stochastic greedy.
    """

    stored: StoredVectors | VectorsOf
    encoder: Encoder
    top_k: Annotated[int, Bounds(low=1)] = 3
    budget_tokens: Annotated[int, Bounds(low=1)] | None = None
    count: Callable[[str], int] = words_and_a_third
    relevance: Annotated[float, Bounds(low=0)] = 1.0
    coverage: Annotated[float, Bounds(low=0)] = 1.0
    diversity: Annotated[float, Bounds(low=0)] = 0.0
    kind: Kind = "none"
    weighting: Weighting = "minmax"
    groups: GroupBy = "document"
    greedy: GreedyChoice = "auto"
    pool: Annotated[int, Bounds(low=1)] = 1000
    seed: Annotated[int, Bounds(low=0)] = 0

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if self.budget_tokens is not None and self.budget_tokens < 1:
            raise ValueError(f"budget_tokens must be at least 1, got {self.budget_tokens}")
        if self.weighting not in get_args(Weighting):
            raise ValueError(
                f"weighting must be one of {get_args(Weighting)}, got {self.weighting!r}"
            )
        if self.groups not in get_args(GroupBy):
            raise ValueError(f"groups must be one of {get_args(GroupBy)}, got {self.groups!r}")
        if self.pool < self.top_k:
            raise ValueError(f"pool must be at least top_k = {self.top_k}, got {self.pool}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        check_greedy(self.greedy, self.objective, budgeted=self.budget_tokens is not None)

    @property
    def objective(self) -> Objective:
        """What a set of passages is worth."""
        return Objective(self.relevance, self.coverage, self.diversity, self.kind)

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[Passage]:
        """Return the passages taken, in order; a `CompressedRanking`.

        Args:
            query: is not read: the passages' scores say what is relevant.
            passages: best first, unique by id; may be empty.

        Raises:
            ValueError: if an id occurs twice, or a score is not finite.
        """
        return self.batch(query=[query], passages=[passages])[0]

    def batch(
        self, *, query: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[Passage]]:
        """Return each query's passages; vectors are asked for and encoded in one call."""
        check_pairs(query, passages)
        for found in passages:
            _check_ids(found)
        read = {p.id: p for found in passages for p in found[: self.pool]}
        vectors = stored_or_encoded(self.stored, self.encoder, read)
        return [self._compressed(found, vectors) for found in passages]

    acall = in_thread(__call__)
    abatch = in_thread(batch)

    def _compressed(
        self, passages: Sequence[Passage], vectors: dict[str, np.ndarray]
    ) -> CompressedRanking:
        pool = passages[: self.pool]
        if not pool:
            return CompressedRanking((), Ranking.of(passages).tail)
        scores = _scores(pool)
        relevance = scaled(scores)
        chosen = compress(
            np.stack([vectors[passage.id] for passage in pool]),
            relevance,
            k=self.top_k,
            objective=self.objective,
            weights=self._weights(scores, relevance),
            groups=self._labels(pool),
            costs=self._costs(pool),
            budget=self.budget_tokens,
            greedy=self.greedy,
            seed=self.seed,
        )
        worth: Sequence[float] = chosen.gains
        if self.objective.modular and self.budget_tokens is None:
            worth = [float(scores[row]) for row in chosen.rows]
        taken = _joined_among([pool[row] for row in chosen.rows])
        found = with_falling_scores(zip(taken, worth, strict=True))
        return CompressedRanking(found, tail_after(found, passages), chosen)

    def _weights(self, scores: np.ndarray, relevance: np.ndarray) -> np.ndarray:
        if self.weighting == "minmax":
            return relevance
        if self.weighting == "uniform":
            return np.ones_like(relevance)
        with np.errstate(over="ignore"):  # a difference of -inf is a weight of 0
            powers = np.exp(scores - scores.max())
        shares: np.ndarray = powers / powers.sum()
        return shares

    def _labels(self, pool: Sequence[Passage]) -> np.ndarray | None:
        if self.kind != "groups":
            return None
        names = [getattr(passage, self.groups) or passage.document for passage in pool]
        number = {name: label for label, name in enumerate(dict.fromkeys(names))}
        return np.array([number[name] for name in names])

    def _costs(self, pool: Sequence[Passage]) -> np.ndarray | None:
        if self.budget_tokens is None:
            return None
        return np.array([max(1, self.count(passage.searchable)) for passage in pool])


def _scores(pool: Sequence[Passage]) -> np.ndarray:
    scores = np.array([passage.score or 0.0 for passage in pool], np.float64)
    for passage, score in zip(pool, scores, strict=True):
        if not np.isfinite(score):
            raise ValueError(f"scores must be finite, got {score} for {passage.id!r}")
    return scores


def _joined_among(passages: Sequence[Passage]) -> list[Passage]:
    """Return the passages with those of their edges that end in another one of them."""
    ids = {passage.id for passage in passages}
    return [
        replace(passage, edges=tuple(edge for edge in passage.edges if edge.target in ids))
        for passage in passages
    ]


def _check_ids(passages: Sequence[Passage]) -> None:
    seen: set[str] = set()
    for passage in passages:
        if passage.id in seen:
            raise ValueError(f"passages must have unique ids, got {passage.id!r} twice")
        seen.add(passage.id)

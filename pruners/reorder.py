"""Reordering by the scores of a pruner that also ranks passages."""

from collections.abc import Sequence
from dataclasses import replace

from rag.ranking import Ranking
from rag.records import Hit, Passage, PassageScores


def rerank_order(scores: Sequence[PassageScores]) -> list[int]:
    """Return rows by `rerank_score`, best first; rows without one are last, ties in their order."""
    return sorted(range(len(scores)), key=lambda row: _key(scores[row].rerank_score))


def with_rerank_scores(
    passages: Sequence[Passage], scores: Sequence[PassageScores], top_k: int | None
) -> Ranking:
    """Return the passages in `rerank_order`, with that score, as a ranking.

    A passage without a score gets the least of the others. What falls out of `top_k` begins the
    tail and the old tail follows it: its scores were of another kind, so they become numbers below
    the last new one, falling by rank.

    Args:
        passages: unique by id; a `Ranking`'s tail is kept.
        scores: one a passage, at least one with a finite `rerank_score`.
        top_k: passages to keep; None keeps all.
    """
    least = min(s.rerank_score for s in scores if s.rerank_score is not None)
    found = [
        replace(passages[row], score=_or(scores[row].rerank_score, least))
        for row in rerank_order(scores)
    ]
    kept = len(found) if top_k is None else top_k
    tail = [Hit(passage.id, _or(passage.score, least)) for passage in found[kept:]]
    old = enumerate(Ranking.of(passages).tail, 1)
    return Ranking(found[:kept], [*tail, *(Hit(hit.id, least - rank) for rank, hit in old)])


def _key(score: float | None) -> tuple[bool, float]:
    return score is None, -_or(score, 0.0)


def _or(score: float | None, other: float) -> float:
    return other if score is None else float(score)

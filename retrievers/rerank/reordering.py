"""Reordering: what every reranker does with the scores it gives."""

import math
from collections.abc import Sequence
from dataclasses import replace

from rag.ranking import Ranking
from rag.records import Hit, Passage


def reranked(passages: Sequence[Passage], scores: Sequence[float], top_k: int | None) -> Ranking:
    """Return passages by new scores, best first, ties by id, `score` replaced.

    What falls out of `top_k` comes first in the tail, in its new order, and the old tail follows.
    Its scores were of another kind, so they become numbers below the last new one, falling by rank.

    Args:
        passages: unique by id; a `Ranking`'s tail is kept.
        scores: one a passage, finite.
        top_k: passages to keep; None keeps all.

    Raises:
        ValueError: if a score is not finite.
    """
    for passage, score in zip(passages, scores, strict=True):
        if not math.isfinite(score):
            raise ValueError(f"scores must be finite, got {score} for {passage.id!r}")
    order = sorted(range(len(passages)), key=lambda row: (-scores[row], passages[row].id))
    found = [replace(passages[row], score=float(scores[row])) for row in order]
    kept = len(found) if top_k is None else top_k
    last = found[-1].score or 0.0 if found else 0.0
    tail = [Hit(passage.id, passage.score or 0.0) for passage in found[kept:]]
    old = Ranking.of(passages).tail
    tail += [Hit(hit.id, last - rank) for rank, hit in enumerate(old, 1)]
    return Ranking(found[:kept], tail)


def check_top_k(top_k: int | None) -> None:
    """Raise ValueError if top_k is below 1."""
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")

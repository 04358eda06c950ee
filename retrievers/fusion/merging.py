"""Merging rankings of passages: what every fusion of passages has in common."""

import math
from collections.abc import Sequence
from dataclasses import replace

from rag.ranking import Ranking
from rag.records import Hit, Passage


def ranking_hits(rankings: Sequence[Sequence[Passage]]) -> list[list[Hit]]:
    """Return each ranking as hits, its tail included."""
    return [Ranking.of(ranking).hits for ranking in rankings]


def merged(hits: Sequence[Hit], rankings: Sequence[Sequence[Passage]], top_k: int) -> Ranking:
    """Return the best `top_k` passages of a merged order, and all other hits as the tail.

    A ranking's tail has ids without passages, so an id that stands in tails only cannot be read.
    It goes to the tail of the result even if it belongs before a passage; its score is then lowered
    to the next smaller number below the entry before it, so that scores never rise down the result
    and ties go by id. Retrievers with a `top_k` well above that of the fusion avoid this.

    Args:
        hits: the merged order, best first, ties by id, ids unique.
        rankings: what was merged; of an id in several the first one's passage is taken.
        top_k: most passages, at least 1.
    """
    known: dict[str, Passage] = {}
    for ranking in rankings:
        for passage in ranking:
            known.setdefault(passage.id, passage)
    heads = [hit for hit in hits if hit.id in known][:top_k]
    taken = {hit.id for hit in heads}
    last = heads[-1] if heads else None
    tail: list[Hit] = []
    for hit in hits:
        if hit.id in taken:
            continue
        if last is not None and (-hit.score, hit.id) < (-last.score, last.id):
            tail.append(Hit(hit.id, math.nextafter(last.score, -math.inf)))
        else:
            tail.append(hit)
        last = tail[-1]
    return Ranking((replace(known[hit.id], score=hit.score) for hit in heads), tail)


def in_order(ids: Sequence[str]) -> list[Hit]:
    """Return the ids as hits of score `1 / rank`, each once, where it stands first.

    Orders that no comparable score made get this one: it falls strictly, in (0, 1].
    """
    return [Hit(id_, 1.0 / rank) for rank, id_ in enumerate(dict.fromkeys(ids), 1)]


def checked_weights(
    weights: tuple[float, ...] | None, rankings: Sequence[Sequence[Passage]]
) -> tuple[float, ...]:
    """Return one weight a ranking, all 1 by default.

    Raises:
        ValueError: if there are more or fewer weights than rankings.
    """
    if weights is None:
        return (1.0,) * len(rankings)
    if len(weights) != len(rankings):
        raise ValueError(f"weights must be one a ranking, {len(rankings)}, got {len(weights)}")
    return weights


def check_merge(top_k: int, weights: tuple[float, ...] | None = None) -> None:
    """Check the options of a fusion.

    Raises:
        ValueError: if top_k is below 1, or a weight is negative or not finite.
    """
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if weights is not None and not all(w >= 0.0 and math.isfinite(w) for w in weights):
        raise ValueError(f"weights must be at least 0 and finite, got {list(weights)}")

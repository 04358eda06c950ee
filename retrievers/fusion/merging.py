"""Merging rankings of passages: what every fusion of passages has in common."""

import math
from collections.abc import Callable, Sequence
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


def fused(
    fusion: Callable[[Sequence[Sequence[Hit]], Sequence[float]], list[Hit]],
    rankings: Sequence[Sequence[Passage]],
    weights: tuple[float, ...] | None,
    top_k: int,
) -> Ranking:
    """Return rankings of passages as a fusion of hits orders them.

    Args:
        fusion: fuses hits by one weight a ranking.
        rankings: each best first; each may be empty, as may all.
        weights: one a ranking; None gives each the same share of 1.
        top_k: most passages, at least 1.

    Raises:
        ValueError: if there are more or fewer weights than rankings, or by the fusion.
    """
    if weights is None:
        weights = (1.0 / max(1, len(rankings)),) * len(rankings)
    if len(weights) != len(rankings):
        raise ValueError(f"weights must be one a ranking, {len(rankings)}, got {len(weights)}")
    return merged(fusion(ranking_hits(rankings), weights), rankings, top_k)

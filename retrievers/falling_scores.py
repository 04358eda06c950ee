"""Scores that keep passages in the order in which they were taken, and the tail that follows."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rag.ranking import Ranking
from rag.records import Hit, Passage


def with_falling_scores(taken: Iterable[tuple[Passage, float]]) -> list[Passage]:
    """Return passages in their order, each with its score, lowered where the order needs it.

    Rankings are read by score, ties by id, so a score that would rise becomes that of the passage
    before, or the next lower number where the id is lower than the one before.

    Args:
        taken: passages, and the score that each would have.
    """
    found: list[Passage] = []
    for passage, score in taken:
        found.append(replace(passage, score=_below(found, score, passage.id)))
    return found


def tail_after(found: Sequence[Passage], ranking: Sequence[Passage]) -> list[Hit]:
    """Return what of a ranking was not taken, its tail included, in its old order.

    Its scores were of another kind, so they become numbers below the last score of `found`.

    Args:
        found: passages taken, with scores that fall.
        ranking: where they were taken from.
    """
    taken = {passage.id for passage in found}
    rest = [hit.id for hit in Ranking.of(ranking).hits if hit.id not in taken]
    last = found[-1].score or 0.0 if found else 0.0
    return [Hit(id_, last - rank) for rank, id_ in enumerate(rest, 1)]


def _below(taken: Sequence[Passage], score: float, id_: str) -> float:
    if not taken or taken[-1].score is None:
        return score
    last = taken[-1].score
    return min(score, last if id_ > taken[-1].id else math.nextafter(last, -math.inf))

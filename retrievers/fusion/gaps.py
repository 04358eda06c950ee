"""Gaps: what an id counts in a ranking that lacks it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from rag.records import Hit
from retrievers.fusion.checking import check_one_of, scores_by_id

Missing = Literal["zero", "min", "exact", "theoretical"]
ListMissing = Literal["zero", "min"]
"""What needs no more than the rankings themselves."""

Score = Callable[[int, Sequence[str]], Sequence[float]]
"""`score(i, ids)`: the exact scores that ranking i's engine gives to ids, in their order."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """How a fusion fills the place of an id that some ranking lacks.

    - `zero`: it adds 0 after normalisation, whatever 0 means there (the least for min-max and
      TM2C2, the mean for z-scores).
    - `min`: it counts as the least score of that ranking.
    - `theoretical`: it counts as the least score that ranking could have given. That goes through
      the normalisation of the ranking, so it may fall below what the least listed id gets.
    - `exact`: it gets its exact score. Each ranking then holds every id of the rankings that count,
      and is normalised over them all.

    An empty ranking has nothing to normalise by and adds 0 to all, unless `exact` fills it.

    Attributes:
        missing: one of the four.
        minima: the least possible score of each ranking, for `theoretical` and for TM2C2; 0 for
            BM25 and impacts, -1 for cosines.
        score: the engines' exact scores, for `exact`.

    Raises:
        ValueError: if `missing` is none of the four, or what it needs is None, or a minimum is not
            finite.
    """

    missing: Missing = "zero"
    minima: tuple[float, ...] | None = None
    score: Score | None = None

    def __post_init__(self) -> None:
        check_one_of("missing", self.missing, get_args(Missing))
        if self.missing == "theoretical" and self.minima is None:
            raise ValueError("missing='theoretical' needs minima, one a ranking, got None")
        if self.missing == "exact" and self.score is None:
            raise ValueError("missing='exact' needs score, a function (ranking, ids), got None")
        if self.minima is not None and not all(map(math.isfinite, self.minima)):
            raise ValueError(f"minima must be finite, got {list(self.minima)}")

    def check_minima(self, rankings: int) -> None:
        """Raise ValueError if there are minima, but not one for each of so many rankings."""
        if self.minima is not None and len(self.minima) != rankings:
            raise ValueError(f"minima must be one a ranking, {rankings}, got {len(self.minima)}")

    def filler(self, place: int, scores: Mapping[str, float]) -> float | None:
        """Return the score of an id that ranking `place` lacks, or None if it adds nothing.

        Args:
            place: the ranking's place among all.
            scores: its scores, at least one.
        """
        if self.missing == "min":
            return min(scores.values())
        if self.missing == "theoretical" and self.minima is not None:
            return self.minima[place]
        return None

    def completed(
        self, scores: Mapping[int, Mapping[str, float]], union: frozenset[str]
    ) -> Mapping[int, Mapping[str, float]]:
        """Return the scores, by ranking and id, with every gap filled if `missing` is `exact`.

        Raises:
            ValueError: if `score` gives more or fewer scores than ids, or one that is not finite.
        """
        if self.score is None or self.missing != "exact":
            return scores
        full: dict[int, Mapping[str, float]] = {}
        for place, known in scores.items():
            absent = sorted(union - known.keys())
            found = list(self.score(place, absent)) if absent else []
            if len(found) != len(absent):
                raise ValueError(
                    f"score({place}, ids) must give one score an id, {len(absent)}, "
                    f"got {len(found)}"
                )
            hits = [Hit(id_, score) for id_, score in zip(absent, found, strict=True)]
            full[place] = {**known, **scores_by_id(hits, place)}
        return full


ZERO = Gaps()

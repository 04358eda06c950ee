"""Fusing rankings of hits by the name of a method."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

from rag.records import Hit
from retrievers.fusion.borda import borda_fusion
from retrievers.fusion.checking import check_one_of
from retrievers.fusion.dbsf import dbsf_fusion
from retrievers.fusion.gaps import Gaps, ListMissing, Missing, Score
from retrievers.fusion.interleave import interleave
from retrievers.fusion.minmax import minmax_fusion
from retrievers.fusion.rrf import reciprocal_rank_fusion
from retrievers.fusion.tm2c2 import tm2c2_fusion
from retrievers.fusion.zscore import zscore_fusion

__all__ = ["Method", "Missing", "check_fusion", "fuse"]

Method = Literal["minmax", "zscore", "dbsf", "tm2c2", "rrf", "borda", "interleave"]

_BY_SCORE: dict[str, Callable[[Sequence[Sequence[Hit]], Sequence[float], Gaps], list[Hit]]] = {
    "minmax": minmax_fusion,
    "zscore": zscore_fusion,
    "dbsf": dbsf_fusion,
    "tm2c2": tm2c2_fusion,
}


def fuse(
    rankings: Sequence[Sequence[Hit]],
    weights: Sequence[float],
    *,
    method: Method = "minmax",
    missing: Missing = "zero",
    minima: Sequence[float] | None = None,
    score: Score | None = None,
) -> list[Hit]:
    """Return every id of the rankings once, best first, ties by id, never with a NaN.

    A ranking of weight 0 adds nothing, not even its ids, and its engine is not asked for scores.
    Each method says in its own file what it computes; `retrievers.fusion.gaps.Gaps` says what
    `missing` means. Methods that read ranks (`rrf`, `borda`, `interleave`) know `zero`, and `min`:
    an id that a ranking lacks counts as its last, and still has no turn in `interleave`. They have
    no exact score to rank by: engines score most absent ids alike, and ranks would order them
    by id.

    Args:
        rankings: hits, best first, with unique ids and finite scores; each may be empty.
        weights: one a ranking, at least 0; `interleave` reads only which are 0.
        method: how scores or ranks of several rankings compare.
        missing: what an id counts in a ranking that lacks it.
        minima: the least possible score of each ranking, 0 for BM25 and -1 for cosines; needed by
            `tm2c2` and by `theoretical`.
        score: `score(i, ids)` gives ranking i's exact scores of ids; needed by `exact`.

    Raises:
        ValueError: if a name is unknown, `missing` does not fit the method, minima or score is
            needed and None, lengths differ, a weight is negative, a score is not finite, or an id
            occurs twice in a ranking.
    """
    check_fusion(method, missing)
    if method == "interleave":
        return interleave(rankings, weights)
    if method == "rrf" or method == "borda":  # noqa: PLR1714, mypy narrows by equality
        of_list: ListMissing = "min" if missing == "min" else "zero"
        by_rank = reciprocal_rank_fusion if method == "rrf" else borda_fusion
        return by_rank(rankings, weights, missing=of_list)
    gaps = Gaps(missing, None if minima is None else tuple(minima), score)
    return _BY_SCORE[method](rankings, weights, gaps)


def check_fusion(method: str, missing: str) -> None:
    """Check that there is such a method and that it can fill gaps like that.

    Raises:
        ValueError: if a name is unknown or the two do not fit together.
    """
    check_one_of("method", method, get_args(Method))
    check_one_of("missing", missing, get_args(Missing))
    if method not in _BY_SCORE and missing not in get_args(ListMissing):
        raise ValueError(
            f"missing must be one of {get_args(ListMissing)} for {method}, which reads ranks, "
            f"got {missing!r}"
        )

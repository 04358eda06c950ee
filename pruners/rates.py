"""A rate as a score: what a percentile keeps is above one half, what it drops is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pruners.decide import LEAST_SCORE

RateScope = Literal["passage", "query"]
HALF_KEPT = math.nextafter(0.5, 1.0)


def percentile(values: Sequence[float], percent: float, weights: Sequence[int]) -> float:
    """Return a percentile, linear between neighbours, of values that count several times.

    Args:
        values: at least one with a weight above 0.
        percent: in [0, 100].
        weights: how often each value counts, at least 0.
    """
    import numpy as np

    return float(np.percentile(np.repeat(np.asarray(values, np.float64), weights), percent))


def around_half(score: float, cut: float, *, kept: bool) -> float:
    """Return a score in [1e-6, 1] that is above 0.5 iff it is kept, in the old order.

    Scores from 0 to the cut become 0 to 0.5, those up to 1 become 0.5 to 1.

    Args:
        score: in [0, 1]; at least the cut if it is kept, at most the cut if not.
        cut: in [0, 1].
        kept: whether the rule keeps it.
    """
    if kept:
        above = (score - cut) / (1.0 - cut) if cut < 1.0 else 1.0
        return min(1.0, max(HALF_KEPT, 0.5 + 0.5 * above))
    below = score / cut if cut > 0.0 else 0.0
    return max(LEAST_SCORE, min(0.5, 0.5 * below))


def check_rate(rate: float | None) -> None:
    """Raise a ValueError if a rate is not in [0, 1]; None is none."""
    if rate is not None and not 0.0 <= rate <= 1.0:
        raise ValueError(f"rate must be in [0, 1] or None, got {rate}")


def check_scope(scope: str) -> None:
    """Raise a ValueError for an unknown scope."""
    if scope not in {"passage", "query"}:
        raise ValueError(f"scope must be 'passage' or 'query', got {scope!r}")

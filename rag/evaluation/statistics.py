"""Statistics over questions: bootstrap intervals, paired tests, Holm's correction, robustness.

Randomness comes from a seed: the same values and seed give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

RESAMPLES = 10_000
_CELLS = 1 << 22  # numbers drawn at a time: some tens of megabytes


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over questions and where it may lie.

    Attributes:
        mean: arithmetic mean.
        low: lower end of the interval.
        high: upper end.
        n: how many values the mean is over.
    """

    mean: float
    low: float
    high: float
    n: int


def bootstrap_interval(
    values: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES, level: float = 0.95
) -> Interval:
    """Return the mean with its percentile interval over bootstrap resamples of the values.

    Of differences a question each, this is the paired bootstrap. Source: Efron and Tibshirani 1993,
    An Introduction to the Bootstrap, section 13.3.

    Args:
        values: at least one.
        seed: of the resampling.
        resamples: at least 1; 10,000 moves the ends by about a hundredth of their distance.
        level: share of resampled means inside, in (0, 1).

    Raises:
        ValueError: if there is no value, or an argument is out of its range.
    """
    import numpy as np

    given = _checked(values, resamples)
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be in (0, 1), got {level}")
    rng = np.random.default_rng(seed)
    n = len(given)
    means = [given[rng.integers(n, size=(rows, n))].mean(axis=1) for rows in _chunks(resamples, n)]
    tail = (1.0 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1.0 - tail])
    return Interval(float(given.mean()), float(low), float(high), n)


def randomisation_p(
    differences: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> float:
    """Return the two-sided p of a paired randomisation test that the mean difference is zero.

    Under the null hypothesis each difference could as well have the other sign. If all ways to
    choose signs are no more than `resamples`, each is tried and p is exact; else `resamples` are
    drawn, and the observed one counts as one of them, so p is never zero (Phipson and Smyth 2010,
    arXiv:1603.05766). Source: Smucker et al. 2007, doi:10.1145/1321440.1321528.

    Args:
        differences: one a question, at least one; zeros cannot change sign and do not matter.
        seed: of the signs.
        resamples: at least 1.

    Raises:
        ValueError: if there is no difference, or resamples is below 1.
    """
    import numpy as np

    given = _checked(differences, resamples)
    given = given[given != 0.0]
    n = len(given)
    # Sums in another order differ in their last bits, and equal ones must count as equal.
    least = abs(given.sum()) - 1e-9 * np.abs(given).sum()
    if n < 63 and 2**n <= resamples:
        choices = np.arange(2**n)[:, None] >> np.arange(n) & 1  # (2**n, n)
        return float(np.mean(np.abs((1.0 - 2.0 * choices) @ given) >= least))
    rng = np.random.default_rng(seed)
    reached = 0
    for rows in _chunks(resamples, n):
        signs = 1.0 - 2.0 * rng.integers(2, size=(rows, n), dtype=np.int8)
        reached += int((np.abs(signs @ given) >= least).sum())
    return (1 + reached) / (1 + resamples)


def paired_t_p(differences: Sequence[float]) -> float:
    """Return the two-sided p of a paired t-test that the mean difference is zero.

    It supposes normal differences, which `randomisation_p` does not; retrieval papers report it,
    and the two seldom disagree by much. Source: Student 1908, doi:10.1093/biomet/6.1.1; Smucker et
    al. 2007, doi:10.1145/1321440.1321528, on the agreement.

    Where the statistic is undefined, p says what the differences say: 1 if all are zero, or if one
    question leaves no spread to judge by; 0 if several differ from zero by just the same.

    Args:
        differences: one a question, at least one; zeros count.

    Raises:
        ValueError: if there is no difference, or one is not finite.
    """
    from scipy.special import stdtr

    given = _checked(differences, 1)
    n = len(given)
    if n == 1 or not given.any():
        return 1.0
    spread = float(given.std(ddof=1))
    if spread == 0.0 or (given == given[0]).all():
        return 0.0
    return float(2.0 * stdtr(n - 1, -abs(float(given.mean())) / spread * n**0.5))


def robustness_index(differences: Sequence[float]) -> float:
    """Return the share of questions that gained minus the share that lost, in [-1, 1].

    A mean can rise because few questions gain much while most lose a little; this cannot. Ties
    count in the whole only. Source: Sakai et al. 2005, Flexible Pseudo-Relevance Feedback via
    Selective Sampling.

    Args:
        differences: one a question, at least one.

    Raises:
        ValueError: if there is no difference, or one is not finite.
    """
    given = _checked(differences, 1)
    return float(((given > 0.0).sum() - (given < 0.0).sum()) / len(given))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for testing all of them, in the given order.

    The i-th smallest of m is multiplied by m - i + 1, never falls below a smaller one's, and is at
    most 1. Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.

    Raises:
        ValueError: if one is not in [0, 1].
    """
    corrected = [0.0] * len(p_values)
    least = 0.0
    for place, row in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        p = p_values[row]
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p_values must be in [0, 1], got {p}")
        least = max(least, min(1.0, p * (len(p_values) - place)))
        corrected[row] = least
    return corrected


def _checked(values: Sequence[float], resamples: int) -> np.ndarray:
    import numpy as np

    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    given = np.asarray(values, np.float64)
    if given.ndim != 1 or not len(given):
        raise ValueError(f"values must be a list of at least one, got shape {given.shape}")
    if not np.isfinite(given).all():
        raise ValueError("values must be finite")
    return given


def _chunks(resamples: int, n: int) -> Iterator[int]:
    """Yield how many resamples of n values to draw at a time."""
    step = max(1, _CELLS // n)
    for start in range(0, resamples, step):
        yield min(step, resamples - start)

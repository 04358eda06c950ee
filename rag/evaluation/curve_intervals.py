"""Bootstrap over questions of what a global threshold keeps: intervals and paired differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

from rag.evaluation.pruning_curve import Cut, PruningCurve, Tally
from rag.evaluation.statistics import Interval

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 2_000
_CELLS = 1 << 20  # sentences times resamples at a time: some hundred megabytes of tallies
Statistic: TypeAlias = "Callable[[Tally], np.ndarray]"


def kept_at_recall(tally: Tally) -> np.ndarray:
    """Return `Kept@SentR95`: tokens kept by the threshold that keeps 95 % of gold sentences."""
    return tally.at(Cut("recall", 0.95), "Kept")


def resampled(
    curve: PruningCurve,
    statistics: Mapping[str, Statistic],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, np.ndarray]:
    """Return statistics over bootstrap resamples of the questions, each (resamples,).

    The threshold is chosen anew in every resample. The same seed draws the same questions for any
    curve of as many, so the differences of two curves over the same questions are paired. A
    statistic is NaN where a resample leaves it undefined, as one without a gold sentence does.

    Args:
        curve: of the questions.
        statistics: by name, functions of a tally.
        seed: of the resampling.
        resamples: at least 1.

    Raises:
        ValueError: if resamples is below 1.
    """
    import numpy as np

    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    rng = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    for weights in _draws(rng, curve.questions, resamples, curve.sentences):
        tally = curve.tally(weights)
        for name, statistic in statistics.items():
            found[name].append(statistic(tally))
    return {name: np.concatenate(values) for name, values in found.items()}


def interval_of(value: float, values: np.ndarray, n: int, *, level: float = 0.95) -> Interval:
    """Return a statistic with its percentile interval; undefined resamples are left out.

    Args:
        value: of the questions themselves.
        values: of resamples of them, or the paired differences of two statistics.
        n: questions.
        level: share of the resamples inside.
    """
    import numpy as np

    known = values[np.isfinite(values)]
    if not len(known):
        return Interval(value, value, value, n)
    tail = (1.0 - level) / 2
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high), n)


def intervals(
    curve: PruningCurve,
    statistics: Mapping[str, Statistic],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Return statistics with their 95 % intervals; those that are undefined are left out.

    Arguments and errors are those of `resampled`.
    """
    import numpy as np

    whole = curve.tally()
    values = {name: float(statistic(whole)[0]) for name, statistic in statistics.items()}
    known = {name: statistics[name] for name, value in values.items() if np.isfinite(value)}
    drawn = resampled(curve, known, seed=seed, resamples=resamples)
    return {name: interval_of(values[name], drawn[name], curve.questions) for name in known}


def _draws(
    rng: np.random.Generator, questions: int, resamples: int, sentences: int
) -> Iterator[np.ndarray]:
    """Yield how often each question is drawn, (some resamples, questions)."""
    import numpy as np

    step = max(1, _CELLS // max(1, sentences))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(questions, size=(rows, questions))
        drawn += np.arange(rows)[:, None] * questions
        yield np.bincount(drawn.ravel(), minlength=rows * questions).reshape(rows, questions)

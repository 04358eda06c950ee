"""Comparison of two runs over the same questions, metric by metric."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rag.evaluation.rows import Row, RowsError, told_metrics
from rag.evaluation.statistics import (
    bootstrap_interval,
    holm,
    paired_t_p,
    randomisation_p,
    robustness_index,
)

_LISTED = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """How a second run differs from a first one in one metric.

    Attributes:
        a: mean of the first run.
        b: mean of the second.
        difference: b - a.
        low: lower end of the difference's 95 % interval, by paired bootstrap.
        high: its upper end.
        p: two-sided, of a paired randomisation test.
        p_holm: p corrected by Holm for all metrics compared.
        n: questions that have the metric in both runs.
        p_t: two-sided, of a paired t-test; not corrected.
        robustness: share of the questions whose value rose minus the share whose value fell, in
            [-1, 1]; of a time, where less is better, it is good below 0.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    n: int
    p_t: float
    robustness: float


def compare_rows(a: Sequence[Row], b: Sequence[Row], *, seed: int = 0) -> dict[str, Difference]:
    """Return the difference of each metric that both runs have, over questions that have it twice.

    Args:
        a: rows of the first run.
        b: rows of the second, over the same questions in any order.
        seed: of the bootstrap and the randomisation test.

    Raises:
        RowsError: if a question is in one run only, or the runs share no metric.
    """
    first, second = ({row.id: row for row in rows} for rows in (a, b))
    _refuse_unmatched(sorted(first.keys() - second), sorted(second.keys() - first))
    told = set(told_metrics(b))
    found: dict[str, Difference] = {}
    for name in told_metrics(a):
        if name not in told:
            continue
        pairs = [
            (row.metrics[name], second[row.id].metrics[name])
            for row in a
            if name in row.metrics and name in second[row.id].metrics
        ]
        if pairs:
            found[name] = difference_of(pairs, seed=seed)
    if not found:
        raise RowsError("the two runs have no metric in common")
    corrected = holm([difference.p for difference in found.values()])
    return {
        name: replace(difference, p_holm=p)
        for (name, difference), p in zip(found.items(), corrected, strict=True)
    }


def difference_of(pairs: Sequence[tuple[float, float]], *, seed: int = 0) -> Difference:
    """Return how the second values differ from the first, `p_holm` being p itself.

    Args:
        pairs: a question's value in the first run and in the second, at least one.
        seed: of both tests.
    """
    n = len(pairs)
    differences = [of_b - of_a for of_a, of_b in pairs]
    interval = bootstrap_interval(differences, seed=seed)
    p = randomisation_p(differences, seed=seed)
    return Difference(
        a=sum(of_a for of_a, _ in pairs) / n,
        b=sum(of_b for _, of_b in pairs) / n,
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        p=p,
        p_holm=p,
        n=n,
        p_t=paired_t_p(differences),
        robustness=robustness_index(differences),
    )


def _refuse_unmatched(only_a: Sequence[str], only_b: Sequence[str]) -> None:
    parts = []
    for name, ids in (("A", only_a), ("B", only_b)):
        if ids:
            more = ", …" if len(ids) > _LISTED else ""
            parts.append(f"{len(ids)} only in {name} ({', '.join(ids[:_LISTED])}{more})")
    if parts:
        raise RowsError(f"A and B must hold the same questions, got {' and '.join(parts)}")

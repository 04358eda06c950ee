"""The choice among measured settings: what is close enough to the exact mode, what is fastest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Final, Literal

from pipelines.evaluating.calibration.settings import Setting
from rag.evaluation.statistics import Interval, bootstrap_interval

F1_SHARE: Final = 0.98
"""Part of the exact mode's F1 that is close enough."""
NATS: Final = 0.05
"""Loss a token that is close enough, at the upper end of its 95 % interval."""
Rule = Literal["fastest that is close enough", "best within the budget", "fastest of all"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A setting, and what was measured for each of some questions.

    Attributes:
        setting: how passages were read.
        ttft_ms: time to the first token with every cache filled, retrieval not counted.
        kl: divergence of the exact mode's distribution from this one's over the exact mode's
            answer, nats a token.
        own_nll: negative log-likelihood of the exact mode's answer, nats a token.
        gold_nll: that of the accepted answer; empty without known answers.
        f1: of the decoded answer; empty where it was not measured.
    """

    setting: Setting
    ttft_ms: tuple[float, ...]
    kl: tuple[float, ...]
    own_nll: tuple[float, ...]
    gold_nll: tuple[float, ...] = ()
    f1: tuple[float, ...] = ()

    @property
    def loss(self) -> float:
        """What is to be small: mean NLL of the accepted answers, or mean KL without them."""
        return fmean(self.gold_nll or self.kl)

    @property
    def median_ttft_ms(self) -> float:
        """Median over questions."""
        return median(self.ttft_ms)


@dataclass(frozen=True, slots=True)
class Compared:
    """A setting against the exact mode on the same questions.

    Attributes:
        name: of the setting.
        mode: of the setting.
        ttft_ms: median time to the first token.
        loss: mean of what is to be small, nats a token: NLL of accepted answers, or KL.
        gap: how much more loss than the exact mode, question by question: paired bootstrap.
        kl: mean divergence from the exact mode.
        own_nll: mean NLL of the exact mode's own answers.
        f1: mean, where it was measured.
        f1_gap: difference of F1 to the exact mode's.
        close: whether it is close enough to the exact mode.
    """

    name: str
    mode: str
    ttft_ms: float
    loss: float
    gap: Interval
    kl: Interval
    own_nll: float
    f1: float | None
    f1_gap: Interval | None
    close: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen setting.

    Attributes:
        setting: the chosen one.
        rule: why it was chosen.
    """

    setting: Setting
    rule: Rule


def compared(one: Measured, exact: Measured, *, seed: int = 0) -> Compared:
    """Compare a setting with the exact mode.

    It is close enough if its F1 is at least 98 % of the exact mode's, or if its loss is no more
    than 0.05 nats above the exact mode's at the upper end of the 95 % interval. Without accepted
    answers the loss is KL: what an answer drawn from the exact mode costs more in expectation. The
    exact mode, and `prefix`, are what they are compared with.

    Args:
        one: the setting.
        exact: mode `sequential`, on the same questions in the same order.
        seed: of the intervals.
    """
    pairs = (one.gold_nll, exact.gold_nll) if exact.gold_nll else (one.kl, exact.kl)
    gap = bootstrap_interval([a - b for a, b in zip(*pairs, strict=True)], seed=seed)
    f1_gap, f1_close = None, False
    if one.f1 and exact.f1:
        f1_gap = bootstrap_interval(
            [a - b for a, b in zip(one.f1, exact.f1, strict=True)], seed=seed
        )
        # Where the exact mode is never right, nothing can be told from being no worse.
        f1_close = fmean(exact.f1) > 0 and fmean(one.f1) >= F1_SHARE * fmean(exact.f1)
    return Compared(
        one.setting.name,
        one.setting.mode,
        one.median_ttft_ms,
        one.loss,
        gap,
        bootstrap_interval(one.kl, seed=seed),
        fmean(one.own_nll),
        fmean(one.f1) if one.f1 else None,
        f1_gap,
        one.setting.exact or f1_close or gap.high <= NATS,
    )


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the rows that no other row beats, by the first number and then the second.

    A row beats another if it is no greater in both numbers and smaller in one; equals do not beat
    each other.

    Args:
        points: (time, loss) pairs; less is better.
    """
    rows = sorted(range(len(points)), key=points.__getitem__)
    found: list[int] = []
    least = float("inf")
    for row in rows:
        if points[row][1] < least or (found and points[row] == points[found[-1]]):
            found.append(row)
            least = points[row][1]
    return found


def point(one: Measured) -> tuple[float, float]:
    """Return where a setting stands: median TTFT in milliseconds, mean loss in nats."""
    return one.median_ttft_ms, one.loss


def ranked(measured: Sequence[Measured], budget_ms: float | None) -> list[Measured]:
    """Return settings by loss, those within the budget before all others.

    Equals keep their order.

    Args:
        measured: in any order.
        budget_ms: None is no budget.
    """
    return sorted(
        measured,
        key=lambda one: (budget_ms is not None and one.median_ttft_ms > budget_ms, one.loss),
    )


def choose(
    measured: Sequence[Measured],
    exact: Measured,
    *,
    budget_ms: float | None = None,
    seed: int = 0,
) -> Choice:
    """Choose a setting.

    Of those within the budget and close enough to the exact mode, the fastest; if there is none, of
    those within the budget the one of least loss; if there is none, the fastest of all. Of equals
    the one of less loss, then the first.

    Args:
        measured: at least one, all on the same questions.
        exact: mode `sequential`.
        budget_ms: the most that the first token may take; None is no budget.
        seed: of the intervals.

    Raises:
        ValueError: if there is nothing to choose from.
    """
    if not measured:
        raise ValueError("measured must hold at least one setting, got none")
    within = [one for one in measured if budget_ms is None or one.median_ttft_ms <= budget_ms]
    close = [one for one in within if compared(one, exact, seed=seed).close]
    if close:
        return Choice(min(close, key=point).setting, "fastest that is close enough")
    if within:
        best = min(within, key=lambda one: (one.loss, one.median_ttft_ms))
        return Choice(best.setting, "best within the budget")
    return Choice(min(measured, key=point).setting, "fastest of all")

"""The goals of the adaptation: what was wanted, what was measured, and whether that meets it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from adaptation_settings import PRUNED, WHOLE, WHOLE_EXACT, exact_of
from adaptation_values import ADAPTED, BASE, best_prompt, of_side, settings_of
from quality_settings import EXACT
from quality_tables import LEAST, change, number
from quality_values import Measured
from retrieval_grid import table

from rag.evaluation.comparison import Difference

MET, MISSED, OPEN = "met", "missed", "open"
CLOSE = 0.02
SQUAD_F1, HOTPOTQA_GAIN = 0.7, 0.25
PRECISION = 0.8
REFUSED, LOST = 0.6, 0.1
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Found:
    """What one setting gave for a goal.

    Attributes:
        told: the number, as the page tells it.
        reached: whether it is what was wanted.
        n: questions it is from.
    """

    told: str
    reached: bool
    n: int

    @property
    def verdict(self) -> str:
        """Whether the goal is met; open if there are too few questions to say."""
        if self.n < LEAST:
            return OPEN
        return MET if self.reached else MISSED


@dataclass(frozen=True)
class Goal:
    """A goal on one data set.

    Attributes:
        title: what is wanted.
        found: what was measured, by setting.
    """

    title: str
    found: Mapping[str, Found]

    @property
    def n(self) -> str:
        """The questions that it is from, as a number or from the least to the most."""
        return counts([one.n for one in self.found.values()])

    def settings(self, verdict: str) -> list[str]:
        """Return the settings with a verdict."""
        return [name for name, one in self.found.items() if one.verdict == verdict]


def counts(numbers: Sequence[int]) -> str:
    """Return how many, or from how few to how many; a dash for none."""
    known = sorted(set(numbers))
    if len(known) > 1:
        return f"{known[0]} to {known[-1]}"
    return f"{known[0]}" if known else "-"


def goals(sets: Mapping[str, Measured]) -> list[Goal]:
    """Return the goals that there are rows of an adapted model for."""
    found = [
        goal
        for data, one in sets.items()
        for goal in (*_close(data, one), *_answers(data, one), _cited(data, one))
    ]
    found += [_refused(data, one) for data, one in sets.items()]
    return [goal for goal in found if goal.found]


def _close(data: str, one: Measured) -> Iterator[Goal]:
    """Yield that cached passages are read as well as one prompt."""
    for settings, exact, what in ((PRUNED, EXACT, data), (WHOLE, WHOLE_EXACT, f"{data}, whole")):
        pairs = {
            setting.name: one.paired(of_side(ADAPTED, exact), of_side(ADAPTED, setting.name), "f1")
            for setting in settings
            if setting.name != exact
        }
        yield Goal(
            f"{what}: F1 at most {CLOSE:g} below adapted `{exact}`",
            {name: _gained(pair, -CLOSE) for name, pair in pairs.items() if pair is not None},
        )


def _answers(data: str, one: Measured) -> Iterator[Goal]:
    names = [setting.name for setting in PRUNED]
    if data == "squad":
        means = {name: one.of(of_side(ADAPTED, name), "f1") for name in names}
        yield Goal(
            f"{data}: F1 at least {SQUAD_F1:g}",
            {name: _mean(values, SQUAD_F1) for name, values in means.items() if values},
        )
    best = best_prompt(one)
    if data == "hotpotqa" and best:
        base = of_side(BASE, best)
        pairs = {name: one.paired(base, of_side(ADAPTED, name), "f1") for name in names}
        yield Goal(
            f"{data}: F1 at least {HOTPOTQA_GAIN:g} above base `{best}`, its best prompt",
            {
                name: _gained(pair, HOTPOTQA_GAIN)
                for name, pair in pairs.items()
                if pair is not None
            },
        )


def _cited(data: str, one: Measured) -> Goal:
    names = [setting.name for setting in PRUNED]
    values = {name: one.of(of_side(ADAPTED, name), "cite_sentence") for name in names}
    return Goal(
        f"{data}: citation precision at least {PRECISION:g}",
        {name: _mean(of, PRECISION) for name, of in values.items() if of},
    )


def _refused(data: str, one: Measured) -> Goal:
    """Return that unanswerable questions are refused, and few others."""
    found = {}
    for name in settings_of(one, ADAPTED, metric="refused"):
        if name not in {setting.name for setting in PRUNED}:
            continue
        refused, lost = (one.of(of_side(ADAPTED, name), metric) for metric in ("refused", "lost"))
        if lost:
            share, price = fmean(refused), fmean(lost)
            found[name] = Found(
                f"{share:.0%}, lost {price:.1%}",
                share >= REFUSED - _ROUNDING and price < LOST - _ROUNDING,
                min(len(refused), len(lost)),
            )
    return Goal(
        f"{data}: refusals of unanswerable questions at least {REFUSED:.0%},"
        f" of answerable ones below {LOST:.0%}",
        found,
    )


def _gained(pair: Difference, least: float) -> Found:
    return Found(change(pair), pair.difference >= least - _ROUNDING, pair.n)


def _mean(values: Sequence[float], least: float) -> Found:
    mean = fmean(values)
    return Found(number(mean), mean >= least - _ROUNDING, len(values))


def goals_table(found: Sequence[Goal]) -> str:
    """Return goals against settings; whole passages stand under the mode that reads them."""
    columns = [setting.name for setting in PRUNED]
    rows = []
    for goal in found:
        cells = {name.removeprefix("whole-"): one for name, one in goal.found.items()}
        told = (
            f"{cells[name].told}: **{cells[name].verdict}**" if name in cells else ""
            for name in columns
        )
        rows.append([goal.title, goal.n, *told])
    return table(["", "n", *(f"`{name}`" for name in columns)], rows)


def exact_pair(one: Measured, side: str, name: str, metric: str) -> Difference | None:
    """Return how a setting differs from the exact mode that reads the same; None for itself."""
    exact = exact_of(name)
    if name == exact:
        return None
    return one.paired(of_side(side, exact), of_side(side, name), metric)

"""What the page on adaptation says in short: sentences that the values make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from adaptation_goals import MET, MISSED, OPEN, Goal
from adaptation_settings import PRUNED, WHOLE_EXACT
from adaptation_values import ADAPTED, BASE, best_prompt, of_side, settings_of
from quality_settings import EXACT
from quality_tables import LEAST, change, number
from quality_values import Measured


def in_short(sets: Mapping[str, Measured], found: Sequence[Goal]) -> Iterator[str]:
    """Yield sentences, each only if there are enough questions for it."""
    adapted = [one for one in sets.values() if settings_of(one, ADAPTED)]
    if not adapted:
        yield "There are no rows of an adapted model yet, and no goal can be judged."
    for data, one in sets.items():
        yield from _gain(data, one)
    for data, one in sets.items():
        yield from _cached(data, one)
    for data, one in sets.items():
        yield from _pruning(data, one)
    for data, one in sets.items():
        yield from _rows(data, one)
    for data, one in sets.items():
        yield from _refusals(data, one)
    yield from _verdicts(found)


def _gain(data: str, one: Measured) -> Iterator[str]:
    best = best_prompt(one)
    for base in dict.fromkeys((EXACT, best)):
        pair = one.paired(of_side(BASE, base), of_side(ADAPTED, EXACT), "f1")
        if pair is not None and pair.n >= LEAST:
            known = " with its best prompt" if base == best and best != EXACT else ""
            yield (
                f"{data}, pruned passages in one prompt: F1 is {number(pair.b)} adapted and"
                f" {number(pair.a)} with the base's `{base}`{known}: {change(pair)} (n = {pair.n})."
            )


def _cached(data: str, one: Measured) -> Iterator[str]:
    for side in (ADAPTED, BASE):
        names = [
            setting.name
            for setting in PRUNED
            if setting.name != EXACT and len(one.of(of_side(side, setting.name), "f1")) >= LEAST
        ]
        here = one.asked(*(of_side(side, name) for name in (EXACT, *names)), metric="f1")
        if not names or len(here.ids) < LEAST:
            continue
        f1 = {name: here.mean(of_side(side, name), "f1") or 0.0 for name in names}
        worst, best = min(names, key=f1.__getitem__), max(names, key=f1.__getitem__)
        exact = number(here.mean(of_side(side, EXACT), "f1"))
        ends = f"{number(f1[worst])} (`{worst}`)"
        if worst != best:
            ends += f" to {number(f1[best])} (`{best}`)"
        yield (
            f"{data}, {side}: reading pruned passages from the cache gives an F1 of {ends}, one"
            f" prompt {exact} (n = {len(here.ids)})."
        )


def _pruning(data: str, one: Measured) -> Iterator[str]:
    side = ADAPTED if settings_of(one, ADAPTED) else BASE
    pair = one.paired(of_side(side, WHOLE_EXACT), of_side(side, EXACT), "f1")
    if pair is not None and pair.n >= LEAST:
        yield (
            f"{data}, {side}: pruning changes the F1 of one prompt by {change(pair)}"
            f" (n = {pair.n})."
        )


def _rows(data: str, one: Measured) -> Iterator[str]:
    """Yield what cached rows of kept sentences are worth against whole passages in one prompt."""
    side = ADAPTED if settings_of(one, ADAPTED) else BASE
    for name in (setting.name for setting in PRUNED if setting.name in ("ape", "graph")):
        whole, rows = of_side(side, WHOLE_EXACT), of_side(side, name)
        f1, nll = (one.paired(whole, rows, metric) for metric in ("f1", "nll"))
        if f1 is not None and nll is not None and f1.n >= LEAST:
            yield (
                f"{data}, {side}: cached rows of the kept sentences (`{name}`), against whole"
                f" passages in one prompt: F1 {number(f1.b)} and {number(f1.a)}, {change(f1)};"
                f" NLL {change(nll)} (n = {f1.n})."
            )


def _refusals(data: str, one: Measured) -> Iterator[str]:
    for side in (ADAPTED, BASE):
        name = of_side(side, EXACT)
        refused, lost = one.of(name, "refused"), one.of(name, "lost")
        if min(len(refused), len(lost)) >= LEAST:
            yield (
                f"{data}, {side}, `{EXACT}`: {sum(refused) / len(refused):.0%} of"
                f" {len(refused)} unanswerable questions are refused, and"
                f" {sum(lost) / len(lost):.1%} of {len(lost)} answerable ones."
            )


def _verdicts(found: Sequence[Goal]) -> Iterator[str]:
    """Yield which goals are met everywhere, somewhere and nowhere."""
    kinds: dict[str, list[str]] = {}
    for goal in found:
        met, missed = goal.settings(MET), goal.settings(MISSED)
        if goal.settings(OPEN):
            kind = "open, as there are too few questions"
        elif met and missed:
            kind = "met in some ways to read and missed in others"
        else:
            kind = "met in every way to read" if met else "missed in every way to read"
        kinds.setdefault(kind, []).append(goal.title)
    for kind, titles in kinds.items():
        yield f"Goals {kind}, {len(titles)} of {len(found)}: {'; '.join(titles)}."

"""What the pruning page says first: sentences that are made from its statistics."""

from __future__ import annotations

from collections.abc import Iterator

from pruning_data import HELD_OUT
from pruning_scorers import COSINE, TIER_1, TIER_2
from pruning_tables import gain, number, present
from pruning_values import CHANCE, Value, Values

HEADLINE = "comp@R95"
GATES = {TIER_1: (COSINE, 0.15, 0.05), TIER_2: (TIER_1, 0.05, 0.05)}
"""By scorer: what it is to beat, by how much in domain, and by how much elsewhere."""
EMPTY_MOST = 0.02


def in_short(values: Values) -> Iterator[str]:
    """Yield the sentences, each for what was measured."""
    for name in (TIER_1, TIER_2):
        yield from _headline(values, name)
    for name, (other, inside, outside) in GATES.items():
        yield from _gate(values, name, other, inside, outside)
    yield from _best(values)
    yield from _empties(values)
    yield from _rankings(values)
    yield from _places(values)
    yield from _times(values)


def _headline(values: Values, name: str) -> Iterator[str]:
    told = []
    for data in values.sets:
        mine = values.get("sentences", data, name, HEADLINE)
        if mine is None:
            continue
        others = present(values, [COSINE, "bm25", CHANCE], data)
        versus = ", ".join(
            f"`{one}` {_percent(values.get('sentences', data, one, HEADLINE))}" for one in others
        )
        told.append(f"{data} {_percent(mine)} ({versus})")
    if told:
        yield (
            f"Share of the text that `{name}` prunes at the one threshold that keeps 95 % of gold"
            f" sentences: {'; '.join(told)}."
        )


def _gate(values: Values, name: str, other: str, inside: float, outside: float) -> Iterator[str]:
    told = []
    for data in values.sets:
        found = values.get("sentences", data, name, HEADLINE, other)
        if found is not None:
            wanted = inside if data == HELD_OUT else outside
            met = "met" if found.value >= wanted and found.low > 0.0 else "not met"
            told.append(f"{data} {gain(found)}, {met}")
    if told:
        asked = f"{100 * inside:.0f} points in domain"
        if outside != inside:
            asked += f" and {100 * outside:.0f} elsewhere"
        yield (
            f"`{name}` is to prune more than `{other}` at that recall, by {asked}:"
            f" {'; '.join(told)}."
        )


def _best(values: Values) -> Iterator[str]:
    told = []
    for data in values.sets:
        found = [
            (one.value, name)
            for name in values.scorers("sentences", data)
            if (one := values.get("sentences", data, name, "SentR@C70")) is not None
        ]
        if found:
            best, name = max(found)
            over = gain(values.get("sentences", data, name, "SentR@C70", COSINE))
            told.append(
                f"{data} `{name}` {best:.3f}" + (f", over `{COSINE}` {over}" if over else "")
            )
    if told:
        yield f"Most gold sentences kept when 70 % of the text is pruned: {'; '.join(told)}."


def _empties(values: Values) -> Iterator[str]:
    for name in (TIER_1, TIER_2):
        told = []
        for data in values.sets:
            lost = values.get("empty", data, name, "with gold")
            if lost is None:
                continue
            verdict = "" if lost.value < EMPTY_MOST else f", above {EMPTY_MOST:.0%}"
            useless = values.get("empty", data, name, "without gold")
            told.append(
                f"{data} {_percent(lost)} with a gold sentence{verdict}"
                + ("" if useless is None else f" and {_percent(useless)} of the others")
            )
        if told:
            yield f"Passages that `{name}` empties at that threshold: {'; '.join(told)}."


def _rankings(values: Values) -> Iterator[str]:
    for name in (TIER_1, TIER_2):
        told = [
            f"{data} {gain(found)}"
            for data in values.data("ranking")
            if (found := values.get("ranking", data, name, "nDCG@10", "hybrid")) is not None
        ]
        if told:
            yield f"nDCG@10 of ranking by `{name}`, against `hybrid`: {'; '.join(told)}."


def _places(values: Values) -> Iterator[str]:
    told = []
    for data in values.data("places"):
        here = [
            f"`{name}` {number(found)}"
            for name in (COSINE, TIER_1, TIER_2)
            if (found := values.get("places", data, name, "spread")) is not None
        ]
        if here:
            told.append(f"{data} {', '.join(here)}")
    if told:
        yield (
            "Difference between the best and the worst place of a gold sentence, in the share that"
            f" is kept: {'; '.join(told)}."
        )


def _times(values: Values) -> Iterator[str]:
    told = []
    for name in (COSINE, TIER_1, TIER_2):
        here = [
            found.value
            for data in values.data("times")
            if (found := values.get("times", data, name, "ms")) is not None
        ]
        if here:
            low, high = min(here), max(here)
            told.append(f"`{name}` {low:.2f}" + (f" to {high:.2f}" if high > low else ""))
    if told:
        yield f"Milliseconds a passage, median: {', '.join(told)}."


def _percent(found: Value | None) -> str:
    return "" if found is None else f"{100 * found.value:.0f} %"

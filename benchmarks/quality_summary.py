"""The first lines of the quality page: what a newcomer should know, with the values' numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from quality_settings import EXACT, PLACES
from quality_tables import LEAST, change, groups, number
from quality_values import Measured, Results, joined, pooled

MANY = 50
"""Questions of a group that the first lines speak of."""
PAPERS = "ape, paper's weights"


def in_short(found: Results) -> Iterator[str]:
    """Yield sentences, each only if what it is about was measured."""
    five = {data: one for (part, data), one in found.items() if part == "five"}
    if not five:
        return
    one, sets = pooled(found, "five"), " and ".join(sorted(five, reverse=True))
    yield (
        f"Measured on {one.count(EXACT)} questions of {sets} with a model of 135 million parameters"
        " that was trained for none of these modes; larger models may well rank them otherwise."
        " Numbers in brackets say where a difference may lie: if they include 0, it may be chance."
    )
    yield (
        f"With one ordinary prompt (`{EXACT}`) F1 is {number(one.mean(EXACT, 'f1'))}, and the model"
        f" computes {number(one.mean(EXACT, 'computed'), 0)} tokens before the answer begins. With"
        f" cached passages it computes {number(one.mean('ape', 'computed'), 0)}: only the question."
    )
    plain = ", ".join(f"`{name}` {_change(one, name)}" for name in ("ape", "block", "parallel"))
    yield f"That costs quality. F1 against one prompt: {plain}."
    if one.count("ape, serial") >= LEAST:
        yield (
            "`ape` with passages one after another (`positions: serial`) computes no more. F1"
            f" against one prompt: {_change(one, 'ape, serial')}, and against `ape` as it is"
            f" {_change(one, 'ape, serial', 'ape')}; KL"
            f" {_from_to(one.asked('ape', 'ape, serial'), 'ape', 'ape, serial', 'kl')}"
            f" (n = {one.count('ape, serial')})."
        )
    of_sets = ", ".join(f"{data} {_change(of, 'into_top_1')}" for data, of in _squad_first(five))
    yield (
        "Computing the best passage anew over the other, cached ones (`into_top_1`) takes"
        f" {number(one.mean('into_top_1', 'computed'), 0)} tokens. F1 against one prompt:"
        f" {of_sets}; together {_change(one, 'into_top_1')}.{_best(one)}"
    )
    yield from _targets(five)
    yield from _pruned(five)
    yield from _repairs(found)
    yield (
        "APE needs its weights chosen: T = 0.8, S = 1 is at or near the best of the grid below, and"
        f" the paper's T = 0.9, S = 0.9 changes its F1 by"
        f" {_change(one, PAPERS, 'ape')}."
    )
    yield from _places(found)


def _best(one: Measured) -> str:
    """Return that `into_top_1` has the best F1 of cached modes, if all questions say so."""
    names = [name for name in one.values if one.count(name) == len(one.ids) and EXACT not in name]
    best = {
        max(group, key=lambda name: one.mean(name, "f1") or 0.0)
        for pruned in (False, True)
        if (group := [name for name in names if (", pruned" in name) is pruned])
    }
    if best != {"into_top_1", "into_top_1, pruned"}:
        return ""
    return " Of the modes that read cached passages it has the best F1, pruned or not."


def _squad_first(sets: Mapping[str, Measured]) -> list[tuple[str, Measured]]:
    return sorted(sets.items(), reverse=True)


def _change(one: Measured, name: str, against: str = EXACT, metric: str = "f1") -> str:
    return change(one.paired(against, name, metric))


def _from_to(one: Measured, a: str, b: str, metric: str) -> str:
    return f"{number(one.mean(a, metric))} to {number(one.mean(b, metric))}"


def _targets(five: Mapping[str, Measured]) -> Iterator[str]:
    told = [
        f"{data}, rank {rank}: {_change(of, 'into_top_2', 'into_top_1', 'nll')} (n = {len(of.ids)})"
        for data, one in _squad_first(five)
        for rank in (1, 2)
        if len((of := groups(one)[f"rank {rank}"]).ids) >= MANY
    ]
    if told:
        yield (
            "A second target helps where the last passage with evidence is the second best, and"
            " harms where the best one has all of it. NLL of two targets against one (lower is"
            f" better), by the rank of that last passage: {'; '.join(told)}."
        )


def _pruned(five: Mapping[str, Measured]) -> Iterator[str]:
    told = [
        f"{data} {_from_to(one, EXACT, f'{EXACT}, pruned', 'f1')} with one prompt and"
        f" {_from_to(one, 'into_top_1', 'into_top_1, pruned', 'f1')} with `into_top_1`"
        for data, one in _squad_first(five)
    ]
    yield f"Reading only the sentences that the pruner keeps changes F1 so: {'; '.join(told)}."


def _repairs(found: Results) -> Iterator[str]:
    told = []
    for name in ("block", "ape, serial", "ape"):
        anew = f"{name}, 30% anew by value"
        for (part, data), one in sorted(found.items(), reverse=True):
            plain = found.get(("five", data))
            if part == "repairs" and plain is not None:
                here = joined(one, plain).asked(name, anew)
                if len(here.ids) >= LEAST:
                    told.append(
                        f"`{name}` on {data} {_from_to(here, name, anew, 'kl')}"
                        f" (n = {len(here.ids)})"
                    )
    if told:
        yield (
            "Computing some cached rows anew brings passages at serial positions closer to one"
            " prompt, and those at shared positions further from it. KL with 30 % of the rows"
            f" computed anew: {'; '.join(told)}."
        )


def _places(found: Results) -> Iterator[str]:
    told = []
    ends = [f"{EXACT}, gold {place}" for place in (PLACES[-1], PLACES[0])]
    for (part, data), one in sorted(found.items(), reverse=True):
        if part == "places" and len((here := one.asked(*ends)).ids) >= LEAST:
            told.append(f"{data} {_change(here, ends[1], ends[0], 'nll')} (n = {len(here.ids)})")
    if told:
        yield (
            "One prompt depends on where the evidence stands. NLL with it first instead of last:"
            f" {'; '.join(told)}. Modes that put all passages at the same position do not."
        )

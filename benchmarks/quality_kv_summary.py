"""The first lines of the page on text against cached rows, with the values' numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from quality_kv_settings import (
    ALONE,
    BLOCK,
    CAREFUL,
    FEATURES,
    GRAPH,
    MIX,
    NOTHING,
    ORACLE,
    PROVENCE,
    PRUNING,
    ROWS,
    SERIAL,
    of_pruner,
    planned,
)
from quality_kv_tables import context_tokens, share_read
from quality_settings import EXACT
from quality_tables import change, first_token_ms, number
from quality_values import Measured

LONG, SHORT_TOKENS = 1500, 450
"""Tokens of the contexts that the goal speaks of."""
OF_LONG, OF_SHORT = 0.1, 0.25
"""Shares of the full prefill's time that the goal allows there."""


def in_short(
    one: Measured, sets: Mapping[str, Measured], timed: Mapping[int, Measured]
) -> Iterator[str]:
    """Yield sentences, each only if what it is about was measured.

    Args:
        one: the questions of all data sets together.
        sets: by data set.
        timed: times, by the passages of a context.
    """
    text = of_pruner(FEATURES, EXACT)
    yield (
        f"Measured on {len(one.ids)} questions of {' and '.join(sets)} with a model of 135 million"
        " parameters. Numbers in brackets say where a difference may lie: if they include 0, it may"
        " be chance. Lower NLL is better."
    )
    if text not in one.values:
        return
    yield from _goal(sets, timed)
    yield (
        f"`{FEATURES}` keeps {share_read(one, FEATURES):.0%} of the tokens. Computing that text"
        f" changes F1 from {number(one.mean(EXACT, 'f1'))} to {number(one.mean(text, 'f1'))}"
        f" ({_both(one, EXACT, text)})."
    )
    yield (
        "Rows of it, re-packed and without computing more than the question, against a full"
        f" prefill: {_each(one, EXACT, (BLOCK, SERIAL))}; with the best passage computed anew over"
        f" them ({number(one.mean(of_pruner(FEATURES, GRAPH), 'computed'), 0)} tokens):"
        f" {_each(one, EXACT, (GRAPH,))}. Against computing the kept text:"
        f" {_each(one, text, tuple(ROWS))}."
    )
    told = [
        f"`{name}` {number(_nll(one, EXACT, name))} for whole passages and"
        f" {number(_nll(one, text, of_pruner(FEATURES, name)))} for kept sentences"
        for name in ROWS
    ]
    yield f"What reuse costs instead of computing the same text, in NLL: {'; '.join(told)}."
    block = of_pruner(FEATURES, BLOCK)
    yield (
        "Re-packing against gaps:"
        f" {_both(one, of_pruner(FEATURES, f'{BLOCK}, gaps'), block)} (`{BLOCK}`);"
        f" {_both(one, of_pruner(FEATURES, f'{SERIAL}, gaps'), of_pruner(FEATURES, SERIAL))}"
        f" (`{SERIAL}`). Rows of a"
        " sentence encoded within its passage against the sentence encoded alone:"
        f" {_both(one, of_pruner(FEATURES, ALONE), block)}."
    )
    auto = [name for ms in (50, 150) if (name := of_pruner(FEATURES, planned(ms))) in one.values]
    told = [
        f"`{name.partition(': ')[2]}` computes {number(one.mean(name, 'computed'), 0)} tokens:"
        f" {_both(one, EXACT, name)} against a full prefill"
        for name in auto
    ]
    if told:
        yield f"The planner that spends some time on text: {'; '.join(told)}."
    others = [
        name for name in (CAREFUL, PROVENCE, MIX, ORACLE) if of_pruner(name, EXACT) in one.values
    ]
    told = [
        f"`{name}` keeps {share_read(one, name):.0%} of the tokens, F1"
        f" {number(one.mean(of_pruner(name, EXACT), 'f1'))} as text and"
        f" {number(one.mean(of_pruner(name, BLOCK), 'f1'))} as rows (`{BLOCK}`)"
        for name in others
    ]
    if told:
        yield f"Other pruners: {'; '.join(told)}."
    yield (
        f"Without any context F1 is {number(one.mean(NOTHING, 'f1'))} and NLL"
        f" {number(one.mean(NOTHING, 'nll'))}."
    )


def _both(one: Measured, a: str, b: str) -> str:
    f1, nll = (change(one.paired(a, b, metric)) for metric in ("f1", "nll"))
    return f"F1 {f1}, NLL {nll}"


def _each(one: Measured, base: str, names: tuple[str, ...]) -> str:
    told = (f"`{name}` {_both(one, base, of_pruner(FEATURES, name))}" for name in names)
    return "; ".join(told)


def _nll(one: Measured, a: str, b: str) -> float | None:
    found = one.paired(a, b, "nll")
    return None if found is None else found.difference


def _goal(sets: Mapping[str, Measured], timed: Mapping[int, Measured]) -> Iterator[str]:
    """Yield for each way to read rows whether the goal is met, on every data set."""
    yield (
        f"The goal: rows that `{FEATURES}` keeps, re-packed, are at least as good as a full prefill"
        " within the interval (of F1 and of NLL, on each data set), in under a tenth of its time"
        f" to the first token from {LONG} tokens of passages on and under a quarter at"
        f" {SHORT_TOKENS}{_pruning_told(timed)}."
    )
    for name in ROWS:
        parts = {**_quality(name, sets), **_time(name, timed)}
        if parts:
            verdict = "missed" if not all(parts.values()) else "met" if timed else "open"
            told = "; ".join(
                f"{what}: {'met' if good else 'missed'}" for what, good in parts.items()
            )
            yield f"`{name}`: {verdict}. {told}."


def _pruning_told(timed: Mapping[int, Measured]) -> str:
    own = all(one.of(PRUNING, "ttft_ms") for one in timed.values())
    return ", pruning included" if own else ", without the time of pruning, which was not taken"


def _quality(name: str, sets: Mapping[str, Measured]) -> dict[str, bool]:
    found = {}
    for data, one in sets.items():
        f1, nll = (one.paired(EXACT, of_pruner(FEATURES, name), m) for m in ("f1", "nll"))
        if f1 is not None and nll is not None:
            what = f"{data} F1 {change(f1)}, NLL {change(nll)}"
            found[what] = f1.high >= 0 and nll.low <= 0
    return found


def _time(name: str, timed: Mapping[int, Measured]) -> dict[str, bool]:
    found = {}
    short = min(timed, key=lambda size: abs(context_tokens(timed[size]) - SHORT_TOKENS), default=0)
    for size, one in timed.items():
        tokens = context_tokens(one)
        most = OF_SHORT if size == short else OF_LONG if tokens >= LONG else None
        mine, base = first_token_ms(one, of_pruner(FEATURES, name)), first_token_ms(one, EXACT)
        own = one.mean(PRUNING, "ttft_ms")
        if most is not None and mine is not None and base is not None:
            share = (mine + (own or 0.0)) / base
            found[f"{tokens:.0f} tokens, {share:.1%} of the time"] = share < most
    return found

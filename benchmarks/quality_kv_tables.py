"""The tables of the page on text against cached rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from quality_kv_settings import (
    ALONE,
    BLOCK,
    FEATURES,
    GRAPH,
    NOTHING,
    PART,
    PRUNING,
    SERIAL,
    SIZES,
    of_pruner,
    sized,
)
from quality_settings import AGAIN, EXACT
from quality_tables import corrected, first_token_ms, number
from quality_values import Measured, Results
from retrieval_grid import shown, table


def rows_table(one: Measured, pruner: str | None) -> str:
    """Return answers, likelihood, distance and cost of the ways to read what a pruner keeps.

    Args:
        one: the values.
        pruner: its name; None for whole passages.
    """
    names = [name for name in one.values if not name.endswith(AGAIN)]
    mine = [name for name in names if _pruner_of(name) == (pruner or "")]
    text = of_pruner(pruner, EXACT) if pruner else EXACT
    bases = list(dict.fromkeys([EXACT, text]))
    columns: list[dict[str, str]] = []
    header = ["", "n", "EM", "F1"]
    for metric in ("f1", "nll"):
        for base in bases:
            others = [name for name in mine if name != base]
            columns.append(corrected({name: one.paired(base, name, metric) for name in others}))
    header += [f"F1 - {_short(base)}" for base in bases]
    header += ["NLL", *(f"NLL - {_short(base)}" for base in bases), "KL", "computed"]
    rows = []
    for name in mine:
        of = [column.get(name, "") for column in columns]
        f1, nll = of[: len(bases)], of[len(bases) :]
        rows.append(
            [
                f"`{_bare(name)}`",
                f"{one.count(name)}",
                number(one.mean(name, "em")),
                shown(one.of(name, "f1")),
                *f1,
                number(one.mean(name, "nll")),
                *nll,
                number(one.mean(name, "kl")),
                number(one.mean(name, "computed"), 0),
            ]
        )
    return table(header, rows)


def _pruner_of(name: str) -> str:
    return name.partition(": ")[0] if ": " in name else ""


def _bare(name: str) -> str:
    return name.partition(": ")[2] or name


def _short(base: str) -> str:
    return "`sequential`, whole" if base == EXACT else "text"


def told_pruners(sets: Mapping[str, Measured], pruners: Sequence[str]) -> str:
    """Return what every pruner keeps on each data set."""
    rows = []
    for pruner in pruners:
        cells = [f"`{pruner}`"]
        for one in sets.values():
            cells.append(_percent(one.mean(of_pruner(pruner, EXACT), "gold_kept")))
            cells.append(_percent(share_read(one, pruner)))
        rows.append(cells)
    header = [cell for data in sets for cell in (f"{data}: gold kept", "tokens")]
    return table(["", *header], rows)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def context_tokens(one: Measured, name: str = EXACT) -> float:
    """Return the mean tokens of the passages that a setting which computes everything reads."""
    return fmean(one.of(name, "computed")) - fmean(one.of(NOTHING, "computed"))


def share_read(one: Measured, pruner: str) -> float:
    """Return the tokens of what a pruner keeps, as a share of whole passages'."""
    return context_tokens(one, of_pruner(pruner, EXACT)) / context_tokens(one)


def pairs_of(pruners: Sequence[str]) -> list[tuple[str, str]]:
    """Return settings that differ in one thing."""
    pairs = [(EXACT, name) for name in (BLOCK, SERIAL, GRAPH)]
    for pruner in pruners:
        exact, block, serial, graph = (
            of_pruner(pruner, name) for name in (EXACT, BLOCK, SERIAL, GRAPH)
        )
        pairs += [(exact, block), (exact, serial), (exact, graph)]
        pairs += [(of_pruner(pruner, f"{name}, gaps"), of_pruner(pruner, name)) for name in PACKED]
        pairs.append((of_pruner(pruner, ALONE), block))
    return pairs


PACKED = (BLOCK, SERIAL)
"""Ways whose rows can also be left where they were."""


def timings_of(found: Results) -> dict[int, Measured]:
    """Return the times by the passages of a context."""
    return {
        size: one
        for size in SIZES
        for (part, _), one in found.items()
        if part == sized(size) and part != PART and first_token_ms(one, EXACT) is not None
    }


def timing_table(timed: Mapping[int, Measured]) -> str:
    """Return the times to the first token, and their shares of `sequential` on whole passages."""
    names = [name for name in next(iter(timed.values())).values if name != PRUNING]
    rows = [["tokens of the passages", *(f"{context_tokens(one):.0f}" for one in timed.values())]]
    for name in names:
        cells = [f"`{name}`"]
        for one in timed.values():
            mine, base = first_token_ms(one, name), first_token_ms(one, EXACT)
            if mine is None or base is None:
                cells.append("")
            else:
                cells.append(f"{mine:.0f}" if name == EXACT else f"{mine:.0f} ({mine / base:.0%})")
        rows.append(cells)
    own = [number(one.mean(PRUNING, "ttft_ms"), 1) for one in timed.values()]
    rows.append([f"pruning with `{FEATURES}`", *own])
    return table(["", *map(sized, timed)], rows)

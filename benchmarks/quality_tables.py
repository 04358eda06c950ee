"""The tables of the quality page, each from the values of one part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from quality_settings import AGAIN, BIASED, BIASES, EXACT, PLACES, SCALES, TEMPERATURES, told
from quality_values import Measured
from retrieval_grid import shown, table

from rag.evaluation.comparison import Difference
from rag.evaluation.statistics import holm
from rag.generation.plan import ContextWeights

LEAST = 10
"""Questions that a setting must have been asked to stand in a table."""
TARGETS = ("ape", "into_top_1", "into_top_2", "into_top_3")
MODES = (EXACT, "parallel", "ape", "ape, serial", "block", *TARGETS[1:])
GROUPS = {
    "rank 1": ("1", "1"),
    "rank 2": ("2", "2"),
    "ranks 3 to 5": ("3", "5"),
    "none found": ("", ""),
}
SERIAL = (
    ("parallel", "block"),
    ("ape", "ape, serial"),
    ("into_top_1", "into_top_1, serial"),
    ("parallel, pruned", "block, pruned"),
    ("ape, pruned", "ape, serial, pruned"),
)
"""Settings that differ in nothing but positions, from shared to serial ones."""
PRUNED = tuple((mode, f"{mode}, pruned") for mode in MODES)
IN_PLACE = tuple((f"{mode}, pruned", f"{mode}, pruned, in place") for mode in ("parallel", "ape"))


def settings_of(one: Measured) -> list[str]:
    """Return the settings that enough questions were asked, those of a mode side by side.

    Without what another device said again of the exact mode.
    """
    names = [name for name in one.values if one.count(name) >= LEAST and not name.endswith(AGAIN)]
    return sorted(names, key=_mode)


def _mode(name: str) -> int:
    """Return the place of a setting's mode among `MODES`; others come last."""
    of = [place for place, mode in enumerate(MODES) if name == mode or name.startswith(f"{mode},")]
    return max(of, default=len(MODES))


def number(value: float | None, digits: int = 3) -> str:
    """Return a number as a table shows it; nothing for None."""
    return "" if value is None else f"{value:.{digits}f}"


def change(found: Difference | None, digits: int = 3) -> str:
    """Return a difference with its interval; nothing for None."""
    if found is None:
        return ""
    numbers = (found.difference, found.low, found.high)
    middle, low, high = (f"{one:+.{digits}f}" for one in numbers)
    return f"{middle} [{low}, {high}]"


def corrected(found: Mapping[str, Difference | None]) -> dict[str, str]:
    """Return differences with their intervals, and p by Holm's correction over all of them."""
    known = {name: one for name, one in found.items() if one is not None}
    p_of = dict(zip(known, holm([one.p for one in known.values()]), strict=True))
    return {
        name: f"{change(one)}, p {p_of[name]:.2g}" if name in known else ""
        for name, one in found.items()
    }


def answers_table(one: Measured, names: Sequence[str], against: str) -> str:
    """Return answers, likelihood, distance and cost of settings, against one of them.

    Holm's correction is over the table's differences in F1.
    """
    others = [name for name in names if name != against]
    f1 = corrected({name: one.paired(against, name, "f1") for name in others})
    rows = [
        [
            f"`{name}`",
            f"{one.count(name)}",
            number(one.mean(name, "em")),
            shown(one.of(name, "f1")),
            number(one.mean(name, "contains")),
            f1.get(name, ""),
            number(one.mean(name, "nll")),
            "" if name == against else change(one.paired(against, name, "nll")),
            number(one.mean(name, "kl")),
            number(one.mean(name, "computed"), 0),
        ]
        for name in names
    ]
    base = f"- `{against}`"
    header = ["", "n", "EM", "F1", "Contains", f"F1 {base}", "NLL", f"NLL {base}", "KL", "computed"]
    return table(header, rows)


def pooled_table(one: Measured, names: Sequence[str], against: str, also: str) -> str:
    """Return the settings of all data sets, best F1 first, against two of them.

    Holm's correction is over each column's differences.
    """
    order = [against, *sorted(names, key=lambda name: -(one.mean(name, "f1") or 0.0))]
    order = list(dict.fromkeys(order))
    to = {
        base: corrected({name: one.paired(base, name, "f1") for name in order[1:] if name != base})
        for base in (against, also)
    }
    rows = [
        [
            f"`{name}`",
            f"{one.count(name)}",
            shown(one.of(name, "f1")),
            *(of.get(name, "") for of in to.values()),
            "" if name == against else change(one.paired(against, name, "nll")),
            number(one.mean(name, "kl")),
            number(one.mean(name, "computed"), 0),
        ]
        for name in order
    ]
    versus = [f"F1 - `{base}`" for base in to]
    return table(["", "n", "F1", *versus, f"NLL - `{against}`", "KL", "computed"], rows)


def fidelity_table(sets: Mapping[str, Measured], names: Sequence[str]) -> str:
    """Return how far settings are from the exact mode on each data set, and what they compute."""
    rows = []
    for name in names:
        of_all = [one for one in sets.values() if one.count(name) >= LEAST]
        if not of_all:
            continue
        cells = [f"`{name}`"]
        for one in sets.values():
            enough = one.count(name) >= LEAST
            nll = one.paired(EXACT, name, "nll") if enough and name != EXACT else None
            kl = number(one.mean(name, "kl")) if enough else ""
            cells += [f"{one.count(name)}", change(nll), kl]
        shares = [_share(one, name) for one in of_all]
        rows.append([*cells, f"{sum(shares) / len(shares):.0%}"])
    header = [cell for data in sets for cell in (f"{data}: n", f"NLL - `{EXACT}`", "KL")]
    return table(["", *header, "computed"], rows)


def _share(one: Measured, name: str) -> float:
    """Return the tokens a setting computes as a share of the exact mode's."""
    here = one.asked(EXACT, name)
    return sum(here.of(name, "computed")) / sum(here.of(EXACT, "computed"))


def targets_table(one: Measured) -> str:
    """Return what each further target gives, by where the last gold passage was found."""
    rows = []
    for title, of_group in groups(one.asked(*TARGETS)).items():
        for before, name in zip((None, *TARGETS[:-1]), TARGETS, strict=True):
            if not of_group.ids:
                continue
            f1, nll = (
                None if before is None else of_group.paired(before, name, metric)
                for metric in ("f1", "nll")
            )
            rows.append(
                [
                    f"{title}, n = {len(of_group.ids)}" if before is None else "",
                    f"`{name}`",
                    number(of_group.mean(name, "f1")),
                    change(f1),
                    number(of_group.mean(name, "nll")),
                    change(nll),
                    number(of_group.mean(name, "computed"), 0),
                ]
            )
    header = ["last gold passage", "", "F1", "F1 - one less", "NLL", "NLL - one less", "computed"]
    return table(header, rows)


def groups(one: Measured) -> dict[str, Measured]:
    """Return the questions by the rank of the last gold passage among those read."""
    found = {"all": one}
    for title, (low, high) in GROUPS.items():
        found[title] = one.at(
            [
                row
                for row, ranks in enumerate(one.gold)
                if (int(low) <= max(ranks) <= int(high) if ranks and low else not (ranks or low))
            ]
        )
    return found


def pairs_table(
    sets: Mapping[str, Measured], pairs: Sequence[tuple[str, str]], metrics: Sequence[str]
) -> str:
    """Return how the second setting of each pair differs from the first, on each data set."""
    rows = []
    for a, b in pairs:
        for data, one in sets.items():
            both = one.asked(a, b)
            if len(both.ids) >= LEAST:
                cells = (change(both.paired(a, b, metric)) for metric in metrics)
                rows.append([f"`{a}` to `{b}`", data, f"{len(both.ids)}", *cells])
    return table(["", "data", "n", *(metric.upper() for metric in metrics)], rows)


def grid_tables(one: Measured) -> Iterator[str]:
    """Yield APE's grid, by NLL and by KL, with its biases; the least value of each is bold."""
    for metric in ("nll", "kl"):
        means = {name: one.mean(name, metric) for name in one.values if name != EXACT}
        least = min(value for value in means.values() if value is not None)
        bold = {
            name: f"**{number(value)}**" if value == least else number(value)
            for name, value in means.items()
        }
        rows = [
            [f"T = {t:g}", *(bold.get(told(ContextWeights(t, s)), "") for s in SCALES)]
            for t in TEMPERATURES
        ]
        yield f"{metric.upper()} (of `{EXACT}`: {number(one.mean(EXACT, metric))}):\n\n"
        yield table(["", *(f"S = {s:g}" for s in SCALES)], rows) + "\n"
        rows = [
            [
                told(ContextWeights(t, s)),
                *(bold.get(told(ContextWeights(t, s, b)), "") for b in BIASES),
            ]
            for t, s in BIASED
        ]
        yield table(["", *(f"b = {b:g}" for b in BIASES)], rows) + "\n"


def places_table(one: Measured) -> str:
    """Return F1 and NLL by the place of the gold passages, and how far the ends are apart.

    A mode's places are compared over the questions that it was asked with each of them.
    """
    modes = list(dict.fromkeys(name.rpartition(",")[0] for name in one.values))
    rows = []
    for mode in modes:
        names = [f"{mode}, gold {place}" for place in PLACES]
        here = one.asked(*names)
        if len(here.ids) < LEAST:
            continue
        cells = [f"`{mode}`", f"{len(here.ids)}"]
        for metric in ("f1", "nll"):
            cells += [number(here.mean(name, metric)) for name in names]
            cells.append(change(here.paired(names[0], names[-1], metric)))
        rows.append(cells)
    header = [
        f"{metric}, {place}" for metric in ("F1", "NLL") for place in (*PLACES, "last - first")
    ]
    return table(["", "n", *header], rows) if rows else ""


def timing_table(parts: Mapping[str, Measured]) -> str:
    """Return the mean time to the first token of every setting, and its share of the exact mode's.

    Args:
        parts: by title, those with times; a setting may be missing in one.
    """
    names = dict.fromkeys(name for one in parts.values() for name in one.values)
    rows = []
    for name in sorted(names, key=lambda name: (", pruned" in name, _mode(name))):
        cells = [f"`{name}`"]
        for one in parts.values():
            exact = f"{EXACT}, pruned" if ", pruned" in name else EXACT
            mine, base = first_token_ms(one, name), first_token_ms(one, exact)
            if mine is None or base is None:
                cells.append("")
            else:
                cells.append(f"{mine:.0f}" if name == exact else f"{mine:.0f} ({mine / base:.0%})")
        if any(cells[1:]):
            rows.append(cells)
    return table(["", *parts], rows)


def first_token_ms(one: Measured, name: str) -> float | None:
    """Return the mean time to the first token; of the exact mode that of the faster prefill."""
    means = [one.mean(name, metric) for metric in ("ttft_ms", "stock_ms")]
    return min((mean for mean in means if mean is not None), default=None)

"""The quality page: from rows to a table of values, and from that to Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from quality_rows import ABOUT, CHOSEN, read_rows
from quality_settings import BIASED, BIASES, EXACT, PLACES, SCALES, TEMPERATURES, told
from retrieval_grid import shown, table

from rag.evaluation.comparison import Difference, difference_of
from rag.evaluation.statistics import holm
from rag.files import write_atomically
from rag.generation.plan import ContextWeights

METRICS = {
    "em": 0,
    "f1": 3,
    "contains": 0,
    "nll": 3,
    "kl": 4,
    "cached": 0,
    "computed": 0,
    "recomputed": 0,
    "ttft_ms": 1,
    "stock_ms": 1,
}
"""What is kept of a row, with its decimals."""
NOTHING = "-"
CSV, PAGE = "generation-results.csv", "generation-results.md"
TARGETS = ("ape", "into_top_1", "into_top_2", "into_top_3")
GROUPS = {
    "rank 1": ("1", "1"),
    "rank 2": ("2", "2"),
    "ranks 3 to 5": ("3", "5"),
    "none found": ("", ""),
}


@dataclass(frozen=True)
class Measured:
    """What one part gave on one data set.

    Attributes:
        ids: of the questions.
        gold: ranks of the gold passages among those read, of each question.
        values: by setting and metric one a question, None where there is none.
    """

    ids: list[str]
    gold: list[tuple[int, ...]]
    values: dict[str, dict[str, list[float | None]]]

    def complete(self) -> Measured:
        """Return the questions that every setting was asked; `corpus` has no use for some."""
        asked = [of["nll"] for name, of in self.values.items() if name != "corpus"]
        rows = [row for row in range(len(self.ids)) if all(one[row] is not None for one in asked)]
        return self.at(rows)

    def at(self, rows: Sequence[int]) -> Measured:
        """Return some of the questions."""
        return Measured(
            [self.ids[row] for row in rows],
            [self.gold[row] for row in rows],
            {
                name: {metric: [of_metric[row] for row in rows] for metric, of_metric in of.items()}
                for name, of in self.values.items()
            },
        )

    def of(self, setting: str, metric: str) -> list[float]:
        """Return the values that there are."""
        found = self.values.get(setting, {}).get(metric, [])
        return [value for value in found if value is not None]

    def paired(self, a: str, b: str, metric: str) -> Difference | None:
        """Return how setting b differs from a, over the questions that both have."""
        values = (self.values[one].get(metric, []) for one in (a, b))
        pairs = [
            (of_a, of_b)
            for of_a, of_b in zip(*values, strict=True)
            if of_a is not None and of_b is not None
        ]
        return difference_of(pairs) if pairs else None


Results = dict[tuple[str, str], Measured]
"""By part and data set."""


def write_page(rows: Path | None, out: Path) -> Path:
    """Write the values, if there are new ones, and the page that is made from them."""
    values = out / CSV
    if rows is not None:
        content = as_csv(rows).encode()
        write_atomically(values, lambda file: file.write(content), mode=0o644)
    text = values.read_text(encoding="utf-8")
    page_content = "".join(page(read_csv(text), about(text))).encode()
    target = out / PAGE
    write_atomically(target, lambda file: file.write(page_content), mode=0o644)
    return target


def as_csv(folder: Path) -> str:
    """Return all values of the rows in a folder: a line a part, data set, setting and metric.

    Values are in the order of the line `id` of their part and data set, with spaces between; where
    there is none stands a dash. The line `gold` has the ranks of gold passages among those read.
    """
    parts: dict[tuple[str, str], dict[str, dict[str, dict[str, str]]]] = {}
    gold: dict[tuple[str, str], dict[str, str]] = {}
    for row in [*read_rows(folder), *read_rows(folder, "timing-*.jsonl")]:
        key = row["part"], row["data"]
        of = parts.setdefault(key, {}).setdefault(row["setting"], {})
        for metric, digits in METRICS.items():
            if metric in row:
                of.setdefault(metric, {})[row["id"]] = f"{row[metric]:.{digits}f}"
        if "gold" in row:
            gold.setdefault(key, {})[row["id"]] = row["gold"] or NOTHING
    lines: list[tuple[str, ...]] = [("part", "data", "setting", "metric", "values")]
    for path in (folder / ABOUT, folder / CHOSEN):
        if path.exists():
            said = json.loads(path.read_text(encoding="utf-8"))
            lines += [("", "", path.stem, name, _plain(value)) for name, value in said.items()]
    for key, settings in parts.items():
        ids = sorted(gold.get(key, {}))
        lines.append((*key, "", "id", " ".join(ids)))
        lines.append((*key, "", "gold", " ".join(gold[key][id_] for id_ in ids)))
        for setting, metrics in settings.items():
            for metric, of_metric in metrics.items():
                told_ = " ".join(_short(of_metric.get(id_, NOTHING)) for id_ in ids)
                lines.append((*key, setting, metric, told_))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _short(number: str) -> str:
    """Return a number without the zeros that end its decimals."""
    return number.rstrip("0").rstrip(".") if "." in number else number


def read_csv(text: str) -> Results:
    """Return what `as_csv` wrote, parts and settings in its order."""
    found: Results = {}
    for line in csv.DictReader(io.StringIO(text)):
        values = line["values"].split(" ")
        key = line["part"], line["data"]
        if not line["part"]:
            continue
        if line["metric"] == "id":
            found[key] = Measured(values, [], {})
        elif line["metric"] == "gold":
            found[key].gold.extend(
                () if ranks == NOTHING else tuple(map(int, ranks.split("|"))) for ranks in values
            )
        else:
            of = found[key].values.setdefault(line["setting"], {})
            of[line["metric"]] = [None if one == NOTHING else float(one) for one in values]
    return found


def pooled(found: Results, part: str) -> Measured:
    """Return the questions of all data sets together, with the settings that all of them have."""
    of_part = [one.complete() for (name, _), one in found.items() if name == part]
    names = [name for name in of_part[0].values if all(name in one.values for one in of_part)]
    return Measured(
        [id_ for one in of_part for id_ in one.ids],
        [ranks for one in of_part for ranks in one.gold],
        {
            name: {
                metric: [value for one in of_part for value in one.values[name].get(metric, [])]
                for metric in of_part[0].values[name]
            }
            for name in names
        },
    )


def answers_table(one: Measured, names: Sequence[str], against: str) -> str:
    """Return answers, likelihood, distance and cost of settings, against one of them.

    Holm's correction is over the table's differences in F1.
    """
    others = [name for name in names if name != against]
    differences = {name: one.paired(against, name, "f1") for name in others}
    known = {name: found for name, found in differences.items() if found is not None}
    corrected = dict(zip(known, holm([found.p for found in known.values()]), strict=True))
    rows = []
    for name in names:
        nll = None if name == against else one.paired(against, name, "nll")
        f1 = known.get(name)
        rows.append(
            [
                f"`{name}`",
                f"{fmean(one.of(name, 'em')):.3f}",
                shown(one.of(name, "f1")),
                f"{fmean(one.of(name, 'contains')):.3f}",
                "" if f1 is None else f"{_interval(f1)}, p {corrected[name]:.2g}",
                f"{fmean(one.of(name, 'nll')):.3f}",
                "" if nll is None else _interval(nll),
                f"{fmean(one.of(name, 'kl')):.3f}",
                f"{fmean(one.of(name, 'computed')):.0f}",
                ttft(one, name),
            ]
        )
    base = f"- `{against}`"
    header = ["", "EM", "F1", "Contains", f"F1 {base}", "NLL", f"NLL {base}", "KL", "computed"]
    return table([*header, "TTFT, ms"], rows)


def ttft(one: Measured, name: str) -> str:
    """Return the mean time to the first token; of the exact mode that of the faster prefill."""
    means = [fmean(found) for metric in ("ttft_ms", "stock_ms") if (found := one.of(name, metric))]
    return f"{min(means):.0f}" if means else ""


def _interval(found: Difference, digits: int = 3) -> str:
    numbers = (found.difference, found.low, found.high)
    middle, low, high = (f"{number:+.{digits}f}" for number in numbers)
    return f"{middle} [{low}, {high}]"


def fidelity_table(one: Measured, five: Measured) -> str:
    """Return likelihood and distance of repairs and edges, beside the plain modes.

    Args:
        one: the part of the repairs.
        five: has the plain modes over the same questions, and more.
    """
    rows_of = {id_: row for row, id_ in enumerate(five.ids)}
    kept = [row for row, id_ in enumerate(one.ids) if id_ in rows_of]
    here, plain = one.at(kept), five.at([rows_of[one.ids[row]] for row in kept])
    names = [name for name in ("parallel", "ape", "block", *TARGETS[1:]) if name in plain.values]
    values = {**here.values, **{name: plain.values[name] for name in names}}
    joined = Measured(here.ids, here.gold, values)
    order = [EXACT, *names, *(name for name in here.values if name != EXACT)]
    whole = fmean(joined.of(EXACT, "computed"))
    rows = []
    for name in order:
        nll = joined.paired(EXACT, name, "nll")
        rows.append(
            [
                f"`{name}`",
                f"{fmean(joined.of(name, 'nll')):.3f}",
                "" if nll is None or name == EXACT else _interval(nll),
                shown(joined.of(name, "kl")),
                f"{fmean(joined.of(name, 'computed')):.0f}",
                f"{fmean(joined.of(name, 'computed')) / whole:.0%}",
            ]
        )
    return table(["", "NLL", f"NLL - `{EXACT}`", "KL", "computed", "of the prompt"], rows)


def targets_table(one: Measured) -> str:
    """Return what each further target gives, by where the last gold passage was found."""
    rows = []
    for title, of_group in groups(one).items():
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
                    f"{fmean(of_group.of(name, 'f1')):.3f}",
                    "" if f1 is None else _interval(f1),
                    f"{fmean(of_group.of(name, 'nll')):.3f}",
                    "" if nll is None else _interval(nll),
                    f"{fmean(of_group.of(name, 'computed')):.0f}",
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


def grid_tables(one: Measured) -> Iterator[str]:
    """Yield APE's grid, by NLL and by KL, with its biases."""
    for metric in ("nll", "kl"):
        rows = [
            [
                f"T = {t:g}",
                *(f"{fmean(one.of(told(ContextWeights(t, s)), metric)):.3f}" for s in SCALES),
            ]
            for t in TEMPERATURES
        ]
        yield f"{metric.upper()}:\n\n"
        yield table(["", *(f"S = {s:g}" for s in SCALES)], rows) + "\n"
        rows = [
            [
                told(ContextWeights(t, s)),
                *(f"{fmean(one.of(told(ContextWeights(t, s, b)), metric)):.3f}" for b in BIASES),
            ]
            for t, s in BIASED
        ]
        yield table(["", *(f"b = {b:g}" for b in BIASES)], rows) + "\n"


def places_table(one: Measured) -> str:
    """Return F1 and NLL by the place of the gold passages, and how far the ends are apart."""
    modes = list(dict.fromkeys(name.rpartition(",")[0] for name in one.values))
    rows = []
    for mode in modes:
        names = [f"{mode}, gold {place}" for place in PLACES]
        cells = [f"`{mode}`"]
        for metric in ("f1", "nll"):
            ends = one.paired(names[0], names[-1], metric)
            cells += [f"{fmean(one.of(name, metric)):.3f}" for name in names]
            cells.append("" if ends is None else _interval(ends))
        rows.append(cells)
    header = [
        f"{metric}, {place}" for metric in ("F1", "NLL") for place in (*PLACES, "last - first")
    ]
    return table(["", *header], rows)


def ranked_table(one: Measured) -> str:
    """Return the modes that read cached passages by F1 over all data sets, against `ape`."""
    named = [name for name, of in one.values.items() if one.of(name, "f1") and EXACT not in name]
    mean = {name: fmean(one.of(name, "f1")) for name in named}
    rows = []
    for pruned in (False, True):
        names = sorted(
            (name for name in named if (", pruned" in name) is pruned), key=lambda n: -mean[n]
        )
        base = "ape, pruned" if pruned else "ape"
        exact = f"{EXACT}, pruned" if pruned else EXACT
        if base not in one.values or exact not in one.values:
            continue
        found = {name: one.paired(base, name, "f1") for name in names if name != base}
        known = {name: difference for name, difference in found.items() if difference is not None}
        corrected = dict(zip(known, holm([d.p for d in known.values()]), strict=True))
        for name in (exact, *names):
            difference = known.get(name)
            rows.append(
                [
                    f"`{name}`",
                    shown(one.of(name, "f1")),
                    f"{fmean(one.of(name, 'nll')):.3f}",
                    ""
                    if difference is None
                    else f"{_interval(difference)}, p {corrected[name]:.2g}",
                    f"{fmean(one.of(name, 'computed')):.0f}",
                    ttft(one, name),
                ]
            )
    return table(["", "F1", "NLL", "F1 - `ape`", "computed", "TTFT, ms"], rows)


def about(text: str) -> dict[str, str]:
    """Return what the values say of where they come from, and the weights that were chosen."""
    lines = csv.DictReader(io.StringIO(text))
    return {line["metric"]: line["values"] for line in lines if not line["part"]}


def page(found: Results, said: Mapping[str, str]) -> Iterator[str]:
    """Yield the parts of the page."""
    sets = list(dict.fromkeys(data for _, data in found))
    where = " with ".join(said[name] for name in ("device", "libraries") if name in said)
    least = {name: values.split(" ") for name, values in said.items() if name in ("nll", "kl")}
    chosen = "; ".join(
        f"`least {name.upper()}`: T = {t}, S = {s}, b = {b}" for name, (t, s, b) in least.items()
    )
    yield INTRODUCTION.format(where=where or "unknown", chosen=chosen or "none")
    if any(part == "five" for part, _ in found):
        yield f"\n## All data sets: which mode\n\n{RANKED}\n"
        yield ranked_table(pooled(found, "five"))
    for data in sets:
        yield from _of_set(data, {part: one for (part, of), one in found.items() if of == data})
    if any(part == "grid" for part, _ in found):
        yield f"\n## APE's weights\n\n{GRID}\n"
        yield from grid_tables(pooled(found, "grid"))


def _of_set(data: str, parts: Mapping[str, Measured]) -> Iterator[str]:
    complete = {part: one.complete() for part, one in parts.items()}
    five = complete.get("five")
    if five is not None and five.ids:
        whole = [name for name in five.values if ", pruned" not in name]
        pruned = [name for name in five.values if ", pruned" in name]
        yield f"\n## {data}: {len(five.ids)} questions, 5 passages\n\n"
        yield answers_table(five, whole, EXACT)
        yield "\nOnly the sentences that the pruner keeps:\n\n"
        yield answers_table(five, pruned, f"{EXACT}, pruned")
        yield f"\n### {data}: how many targets\n\n{DEPTH}\n"
        yield targets_table(five)
    ten = complete.get("ten")
    if ten is not None and ten.ids:
        yield f"\n### {data}: {len(ten.ids)} questions, 10 passages\n\n"
        yield answers_table(ten, list(ten.values), EXACT)
    repairs = complete.get("repairs")
    if repairs is not None and repairs.ids and five is not None:
        yield f"\n### {data}: repairs and edges, {len(repairs.ids)} questions\n\n"
        yield fidelity_table(repairs, five)
    places = complete.get("places")
    if places is not None and places.ids:
        yield f"\n### {data}: where the gold passages stand, {len(places.ids)} questions\n\n"
        yield places_table(places)


INTRODUCTION = """# Results of generation on cached passages

Made by

    python benchmarks/quality.py prepare ../shared/data/squad ../shared/data/hotpotqa -o DIR
    python benchmarks/quality.py generate DIR -o ROWS --jobs 10 --masses
    python benchmarks/quality.py timing DIR -o ROWS --limit 20
    python benchmarks/quality.py page ROWS -o docs

from SmolLM2-135M-Instruct (Q4_1 weights, dequantised) in bfloat16, greedy, answers of one line and
at most 24 tokens; rows are from {where}. Every value is in `generation-results.csv`, and
`page -o docs` makes this page from it. Passages are those that recipe `hybrid` retrieves for squad,
and `graph-compress` for hotpotqa. All settings of a table read the same passages of the same
questions. `sequential` is one prompt with the best passage last, its best order, and its TTFT is
the shorter one of our prefill's and the stock model's.

- NLL: of the first accepted answer, nats a token. KL: from `sequential` over the first 8 tokens of
  its own answer, nats a token, reading the same tokens; that of `sequential` is what rounding does
  between two batches.
- computed: tokens that run through the model before the first one of the answer. TTFT: with all
  passages cached in memory, median of 3 for each of 20 questions, on an idle CPU.
- Intervals are 95 % bootstraps over questions; differences are paired, p of paired randomisation
  tests (10,000), Holm's correction over a table.
- `ape` has T = 0.8, S = 1, b = 0; paper's weights are T = 0.9, S = 0.9. The best cells of the grid
  below, which was measured on other questions, are {chosen}.
- `into_top_k`: the k best passages are computed anew over all others, in mode `graph`.
- pruned: rows of sentences that score below 0.4 are left out; the rest is re-packed, or in place.
"""
RANKED = """F1 over the questions of all data sets. Modes that read cached passages come best first,
those that read whole passages before the others; differences are from `ape` on the same text.
"""
GRID = """Mean over all data sets, 5 passages, on questions that are reported nowhere else.
"""
DEPTH = """Differences are from the row above. Questions are grouped by the rank of the last gold
passage among the five; where a question has several, those that were not found do not count.
"""

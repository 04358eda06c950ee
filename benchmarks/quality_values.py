"""What the quality page is made from: the values of every part, and their table as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from quality_rows import ABOUT, CHOSEN, Row, key_of, read_rows
from quality_settings import AGAIN

from rag.evaluation.comparison import Difference, difference_of

METRICS = {
    "em": 0,
    "f1": 3,
    "contains": 0,
    "nll": 3,
    "kl": 4,
    "cached": 0,
    "computed": 0,
    "gold_kept": 3,
    "device": 0,
    "ttft_ms": 1,
    "stock_ms": 1,
    "cite_document": 3,
    "cite_sentence": 3,
    "unsupported": 0,
    "lost": 0,
    "refused": 0,
    "answer_tokens": 0,
}
"""What is kept of a row, with its decimals; a device is its place among the devices."""
ONLY = {"grid": ("nll", "kl"), AGAIN: ("f1", "nll", "device")}
"""What is kept of a part, or of what another device said again, if not all."""
NOTHING = "-"


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

    def asked(self, *settings: str, metric: str = "nll") -> Measured:
        """Return the questions that all of some settings were asked: they have a metric there."""
        known = [self.raw(name, metric) for name in settings]
        return self.at([row for row, of in enumerate(zip(*known, strict=True)) if None not in of])

    def count(self, setting: str) -> int:
        """Return how many questions a setting was asked."""
        return len(self.of(setting, "nll"))

    def raw(self, setting: str, metric: str) -> list[float | None]:
        """Return a value or None for each question."""
        return self.values.get(setting, {}).get(metric) or [None] * len(self.ids)

    def of(self, setting: str, metric: str) -> list[float]:
        """Return the values that there are."""
        return [value for value in self.raw(setting, metric) if value is not None]

    def mean(self, setting: str, metric: str) -> float | None:
        """Return the mean of the values that there are."""
        found = self.of(setting, metric)
        return fmean(found) if found else None

    def paired(self, a: str, b: str, metric: str) -> Difference | None:
        """Return how setting b differs from a, over the questions that both have.

        A question's value of a is the one of b's device, if it was asked there too.
        """
        again = f"{a}, {AGAIN}"
        columns = (
            self.raw(a, metric),
            self.raw(a, "device"),
            self.raw(again, metric),
            self.raw(again, "device"),
            self.raw(b, "device"),
            self.raw(b, metric),
        )
        pairs = []
        for first, at_first, other, there, here, of_b in zip(*columns, strict=True):
            elsewhere = here is not None and at_first != here
            of_a = other if elsewhere and other is not None and there == here else first
            if of_a is not None and of_b is not None:
                pairs.append((of_a, of_b))
        return difference_of(pairs) if pairs else None


Results = dict[tuple[str, str], Measured]
"""By part and data set."""


def joined(one: Measured, other: Measured) -> Measured:
    """Return a part with the settings of another one that it lacks, over its own questions."""
    rows_of = {id_: row for row, id_ in enumerate(other.ids)}
    rows = [rows_of.get(id_) for id_ in one.ids]
    more: dict[str, dict[str, list[float | None]]] = {
        name: {
            metric: [None if row is None else values[row] for row in rows]
            for metric, values in of.items()
        }
        for name, of in other.values.items()
        if name not in one.values
    }
    return Measured(one.ids, one.gold, {**one.values, **more})


def pooled(found: Results, part: str) -> Measured:
    """Return the questions of all data sets together, with the settings that all of them have."""
    of_part = [one for (name, _), one in found.items() if name == part]
    names = [name for name in of_part[0].values if all(name in one.values for one in of_part)]
    return Measured(
        [id_ for one in of_part for id_ in one.ids],
        [ranks for one in of_part for ranks in one.gold],
        {
            name: {
                metric: [value for one in of_part for value in one.raw(name, metric)]
                for metric in of_part[0].values[name]
            }
            for name in names
        },
    )


def as_csv(*folders: Path, more: Iterable[tuple[str, ...]] = ()) -> str:
    """Return all values of the rows in some folders: a line a part, data set, setting and metric.

    Values are in the order of the line `id` of their part and data set, with spaces between; where
    there is none stands a dash, and a value that all questions share stands once. The line `gold`
    has the ranks of gold passages among those read. Lines without a part say where rows come from;
    `more` are further ones.
    """
    rows, timed = rows_of(folders), rows_of(folders, "timing-*.jsonl")
    devices = list(dict.fromkeys(row["device"] for row in [*rows, *timed]))
    parts: dict[tuple[str, str], dict[str, dict[str, dict[str, str]]]] = {}
    gold: dict[tuple[str, str], dict[str, str]] = {}
    for row in [*rows, *timed]:
        key = row["part"], row["data"]
        of = parts.setdefault(key, {}).setdefault(row["setting"], {})
        for metric in _kept(row):
            value = devices.index(row["device"]) if metric == "device" else row[metric]
            of.setdefault(metric, {})[row["id"]] = _short(f"{value:.{METRICS[metric]}f}")
        if "gold" in row:
            gold.setdefault(key, {})[row["id"]] = row["gold"] or NOTHING
    lines: list[tuple[str, ...]] = [("part", "data", "setting", "metric", "values")]
    lines += [*_about(folders, rows, timed), *more]
    for key, ids in ((key, sorted(of_key)) for key, of_key in gold.items()):
        lines.append((*key, "", "id", " ".join(ids)))
        lines.append((*key, "", "gold", " ".join(gold[key][id_] for id_ in ids)))
        for setting, metrics in parts[key].items():
            for metric, of_metric in metrics.items():
                values = [of_metric.get(id_, NOTHING) for id_ in ids]
                told = " ".join(values if len(set(values)) > 1 else values[:1])
                lines.append((*key, setting, metric, told))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _kept(row: Row) -> list[str]:
    """Return the metrics of a row that are kept; where a time was taken is said once for all."""
    if "ttft_ms" in row:
        return [metric for metric in ("computed", "ttft_ms", "stock_ms") if metric in row]
    special = AGAIN if row["setting"].endswith(AGAIN) else row["part"]
    return [metric for metric in ONLY.get(special, tuple(METRICS)) if metric in row]


def rows_of(folders: Iterable[Path], pattern: str = "rows-*.jsonl") -> list[Row]:
    """Return the rows of all jobs in some folders, each once."""
    found = {key_of(row): row for folder in folders for row in read_rows(folder, pattern)}
    return list(found.values())


def _about(
    folders: Sequence[Path], rows: Sequence[Row], timed: Sequence[Row]
) -> list[tuple[str, ...]]:
    said: dict[str, str] = {}
    for folder in folders:
        said |= json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    counts = Counter(row["device"] for row in rows)
    lines: list[tuple[str, ...]] = [
        ("", "", "rows", device, f"{said[device]}; {count}") for device, count in counts.items()
    ]
    where = {(row["device"], row["threads"]) for row in timed}
    lines += [("", "", "timing", device, f"{threads} threads") for device, threads in sorted(where)]
    for path in (folder / CHOSEN for folder in folders if (folder / CHOSEN).exists()):
        chosen = json.loads(path.read_text(encoding="utf-8"))
        lines += [
            ("", "", "calibrated", metric, " ".join(map(str, values)))
            for metric, values in chosen.items()
        ]
    return lines


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
            numbers = [None if one == NOTHING else float(one) for one in values]
            of[line["metric"]] = numbers if len(numbers) > 1 else numbers * len(found[key].ids)
    return found


def about(text: str) -> Mapping[str, Mapping[str, str]]:
    """Return what the values say of where they come from, by its kind and name."""
    found: dict[str, dict[str, str]] = {}
    for line in csv.DictReader(io.StringIO(text)):
        if not line["part"]:
            found.setdefault(line["setting"], {})[line["metric"]] = line["values"]
    return found

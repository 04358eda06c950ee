"""What the page on adaptation is made from: values of base and adapted model, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from adaptation_settings import BEST_PROMPTS, SETTINGS
from quality_values import Measured, Results, as_csv, joined, rows_of

NO_ADAPTER = "none"
BASE, ADAPTED = "base", "adapted"
SIDES = (BASE, ADAPTED)
FIRST = ("squad", "hotpotqa")
"""Data sets in the order of the page; others follow by name."""


def of_side(side: str, setting: str) -> str:
    """Return the name of a setting on one side."""
    return f"{side}: {setting}"


def values_csv(folders: Sequence[Path]) -> str:
    """Return all values of the rows in some folders; see `quality_values.as_csv`.

    The part of a line is the adapter's hash, or `none`.

    Raises:
        ValueError: if there is no row, or there are rows of several base models or adapters, or of
            different passages for the same question.
    """
    rows = rows_of(folders)
    if not rows:
        raise ValueError(f"ROWS must have rows, got none in {', '.join(map(str, folders))}")
    models = {(row["model"], row["weights"]) for row in rows}
    if len({weights for _, weights in models}) > 1:
        raise ValueError(f"ROWS must be of one base model, got {_listed(map(' '.join, models))}")
    adapters = {row["part"] for row in rows} - {NO_ADAPTER}
    if len(adapters) > 1:
        raise ValueError(f"ROWS must be of one adapter, got {_listed(adapters)}")
    asked: dict[tuple[str, str], str] = {}
    for row in rows:
        key = row["data"], row["id"]
        if asked.setdefault(key, row["asked"]) != row["asked"]:
            raise ValueError(f"question {key[1]!r} of {key[0]} was asked with different passages")
    more = [("", "", "model", name, weights) for name, weights in sorted(models)]
    return as_csv(*folders, more=more)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def adapter_of(found: Results) -> str:
    """Return the adapter's hash; empty without rows of one."""
    return next((part for part, _ in found if part != NO_ADAPTER), "")


def by_data(found: Results) -> dict[str, Measured]:
    """Return the values of each data set, base and adapted side by side.

    Settings are called as `of_side` says; questions are those that either side was asked.
    """
    sides: dict[str, dict[str, Measured]] = {}
    for (part, data), one in found.items():
        sides.setdefault(data, {})[BASE if part == NO_ADAPTER else ADAPTED] = one
    return {data: side_by_side(sides[data]) for data in sorted(sides, key=_place)}


def _place(data: str) -> tuple[int, str]:
    return FIRST.index(data) if data in FIRST else len(FIRST), data


def side_by_side(sides: Mapping[str, Measured]) -> Measured:
    """Return the settings of all sides over the questions that any of them was asked."""
    gold = {
        id_: ranks for one in sides.values() for id_, ranks in zip(one.ids, one.gold, strict=True)
    }
    ids = sorted(gold)
    together = Measured(ids, [gold[id_] for id_ in ids], {})
    for side, one in sides.items():
        values = {of_side(side, setting): of for setting, of in one.values.items()}
        together = joined(together, Measured(one.ids, one.gold, values))
    return together


def settings_of(one: Measured, *sides: str, metric: str = "f1") -> list[str]:
    """Return the settings that have a metric on some side, in the page's order."""
    names = {setting for side in sides for setting in _having(one, side, metric)}
    return [setting.name for setting in SETTINGS if setting.name in names]


def _having(one: Measured, side: str, metric: str) -> list[str]:
    known = (setting.name for setting in SETTINGS)
    return [name for name in known if one.of(of_side(side, name), metric)]


def told_where(one: Measured, name: str, metric: str, known: str) -> list[float]:
    """Return a setting's values of a metric, of the questions that have another metric too."""
    pairs = zip(one.raw(name, metric), one.raw(name, known), strict=True)
    return [value for value, other in pairs if value is not None and other is not None]


def best_prompt(one: Measured) -> str:
    """Return the exact setting whose prompt gives the base the best F1; empty without any.

    They are compared over the questions that all of them were asked. Ties go to the default.
    """
    names = [name for name in BEST_PROMPTS if one.of(of_side(BASE, name), "f1")]
    here = one.asked(*(of_side(BASE, name) for name in names), metric="f1")
    if not names or not here.ids:
        return ""
    return max(names, key=lambda name: here.mean(of_side(BASE, name), "f1") or 0.0)

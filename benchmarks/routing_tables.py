"""The tables of the routing page, each from the statistics of one part."""

from __future__ import annotations

from collections.abc import Sequence

from pruning_tables import gain, number, whole
from pruning_values import Value
from retrieval_grid import table
from routing_routers import CLASSIFIER
from routing_values import Results

_SHARES = ("modality", "ECE", "fallbacks")


def routers_table(values: Results, split: str) -> str:
    """Return accuracy and calibration of each router; macro-F1 where all labels are asked for."""
    rows = [
        [
            f"`{name}`",
            whole(values.get("all", split, name, "accuracy")),
            gain(values.get("all", split, name, "accuracy", CLASSIFIER)),
            _p(values.get("p", split, name, "accuracy", CLASSIFIER)),
            *([whole(values.get("all", split, name, "macro-F1"))] if split == "folds" else []),
            *(number(values.get("all", split, name, stat)) for stat in _SHARES),
        ]
        for name in values.scorers("all", split)
    ]
    columns = ["accuracy", f"- `{CLASSIFIER}`", "p", *(["macro-F1"] if split == "folds" else [])]
    return table(["", *columns, *_SHARES], rows)


def policies_table(values: Results, split: str, names: Sequence[str]) -> str:
    """Return what policies hit, and the corpora that they take, of some routers.

    `all` takes the one label of these routes, as `single` does, and has no row.
    """
    rows = []
    for policy in values.statistics("hit", split):
        if policy == "all":
            continue
        cells = [policy]
        for name in names:
            cells.append(whole(values.get("hit", split, name, policy)))
            corpora = values.get("corpora", split, name, policy)
            cells.append("" if corpora is None else f"{corpora.value:.2f}")
        rows.append(cells)
    columns = [title for name in names for title in (f"`{name}`: hit", "corpora")]
    return table(["policy", *columns], rows)


def sources_table(values: Results, split: str) -> str:
    """Return the accuracy of every router on each source."""
    names = values.scorers("source", split)
    rows = []
    for source in values.statistics("source", split):
        told = [values.get("source", split, name, source) for name in names]
        count = next((one.n for one in told if one is not None), 0)
        rows.append([source, f"{count:,}", *map(number, told)])
    return table(["source", "queries", *(f"`{name}`" for name in names)], rows)


def _p(found: Value | None) -> str:
    return "" if found is None else "<0.001" if found.value < 1e-3 else f"{found.value:.3f}"


def labels_table(values: Results) -> str:
    """Return the F1 of every label."""
    names = values.scorers("F1", "folds")
    rows = [
        [label, *(number(values.get("F1", "folds", name, label)) for name in names)]
        for label in values.statistics("F1", "folds")
    ]
    return table(["label", *(f"`{name}`" for name in names)], rows)


def confusion_table(values: Results, name: str) -> str:
    """Return how many queries of each label one router sent where."""
    pairs = [stat.split(" > ") for stat in values.statistics("confusion", "folds", name)]
    labels = sorted({label for pair in pairs for label in pair})
    rows = []
    for truth in labels:
        found = [values.get("confusion", "folds", name, f"{truth} > {top}") for top in labels]
        rows.append([truth, *("" if one is None else f"{one.value:.0f}" for one in found)])
    return table(["needed", *(label or "(no label)" for label in labels)], rows)

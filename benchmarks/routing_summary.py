"""What the routing page says first: its goals, each with what was measured."""

from __future__ import annotations

from collections.abc import Iterator

from pruning_tables import gain, whole
from pruning_values import Value
from routing_routers import CLASSIFIER
from routing_values import Results

ACCURACY, F1, ECE, HIT, CORPORA = 0.88, 0.88, 0.03, 0.96, 1.4
TRAIN_S, ROUTE_MS = 60.0, 5.0


def in_short(values: Results) -> Iterator[str]:
    """Yield the sentences, each for what was measured."""
    yield from _classifier(values)
    yield from _fallback(values)
    yield from _times(values)
    yield from _left_out(values)
    yield from _unseen(values)


def _classifier(values: Results) -> Iterator[str]:
    for stat, least in (("accuracy", ACCURACY), ("macro-F1", F1)):
        found = values.get("all", "folds", CLASSIFIER, stat)
        if found is not None:
            said = f"{stat[0].upper()}{stat[1:]} of `{CLASSIFIER}`, five-fold: {whole(found)}"
            yield f"{said}; goal at least {least}: {_met(found.value >= least)}."
    error = values.get("all", "folds", CLASSIFIER, "ECE")
    if error is not None:
        yield (
            f"Its expected calibration error: {error.value:.3f}; goal at most {ECE}: "
            f"{_met(error.value <= ECE)}."
        )
    best = [
        (found.value, name)
        for name in values.scorers("all", "folds")
        if (found := values.get("all", "folds", name, "accuracy")) is not None
    ]
    if best and (top := max(best))[1] != CLASSIFIER:
        versus = gain(values.get("all", "folds", top[1], "accuracy", CLASSIFIER))
        yield f"Most accurate, five-fold: `{top[1]}` {top[0]:.3f}, over `{CLASSIFIER}` {versus}."


def _fallback(values: Results) -> Iterator[str]:
    """Yield the best hit among the fallbacks to two corpora that cost little enough."""
    best: tuple[Value, Value] | None = None
    for policy in values.statistics("hit", "folds"):
        hit = values.get("hit", "folds", CLASSIFIER, policy)
        cost = values.get("corpora", "folds", CLASSIFIER, policy)
        if policy.startswith("two") and hit is not None and cost is not None:
            cheap = cost.value <= CORPORA
            if cheap and (best is None or hit.value > best[0].value):
                best = hit, cost
    if best is not None:
        yield (
            f"Two best corpora where `{CLASSIFIER}` is unsure ({best[0].statistic}): hit "
            f"{whole(best[0])} at {best[1].value:.2f} corpora a query; goal at least {HIT} "
            f"at no more than {CORPORA}: {_met(best[0].value >= HIT)}."
        )


def _times(values: Results) -> Iterator[str]:
    for key, what, most, unit in (
        ("train", f"`{CLASSIFIER}` learns from all queries in", TRAIN_S, "s"),
        ("route", "It routes a query, vector at hand, in (median)", ROUTE_MS, "ms"),
    ):
        wall = values.get("times", "", CLASSIFIER, f"{key}_{unit}")
        cpu = values.get("times", "", CLASSIFIER, f"{key}_cpu_{unit}")
        if wall is not None and cpu is not None:
            yield (
                f"{what} {cpu.value:.2f} {unit} of one processor, {wall.value:.2f} {unit} by the "
                f"clock; goal below {most:g} {unit}: {_met(wall.value < most)}."
            )


def _left_out(values: Results) -> Iterator[str]:
    base = values.get("all", "left out", CLASSIFIER, "accuracy")
    if base is None:
        return
    modality = values.get("all", "left out", CLASSIFIER, "modality")
    error = values.get("all", "left out", CLASSIFIER, "ECE")
    yield (
        f"Sources left out whose labels others have: accuracy of `{CLASSIFIER}` {whole(base)}"
        + ("" if modality is None else f", {modality.value:.3f} of modalities right")
        + ("" if error is None else f", calibration error {error.value:.3f}")
        + "."
    )
    told = []
    for name in values.scorers("all", "left out"):
        found = values.get("all", "left out", name, "accuracy", CLASSIFIER)
        if name.startswith("ensemble") and found is not None:
            told.append(f"`{name}` {gain(found)}, {_met(found.low > 0.0)}")
    if told:
        yield f"There the ensemble is to be better than `{CLASSIFIER}`: {'; '.join(told)}."


def _unseen(values: Results) -> Iterator[str]:
    told = []
    for name in values.scorers("all", "unseen"):
        found = values.get("all", "unseen", name, "accuracy")
        if found is not None and (name == CLASSIFIER or found.value > 0.0):
            told.append(f"`{name}` {found.value:.3f}")
    if told:
        yield f"Sources left out with their label, which then has no query: {', '.join(told)}."


def _met(holds: bool) -> str:
    return "met" if holds else "not met"

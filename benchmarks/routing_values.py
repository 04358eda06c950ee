"""Statistics of the routing page, from rows: each with its interval and its paired differences."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from pruning_values import Value, Values
from routing_routers import CLASSIFIER
from routing_rows import TIMING, read_rows

from pipelines.evaluating.router_figures import accuracy_by_source, policy_reach
from rag.evaluation.routing import RoutedQuery, modality_accuracy, routing_figures, sent_right
from rag.evaluation.statistics import Interval, bootstrap_interval, randomisation_p
from rag.routing.labels import MODALITIES

CSV = "routing-results.csv"
Rows = Mapping[tuple[str, str], Sequence[RoutedQuery]]
"""By router and split."""


class Results(Values):
    """Statistics by what they are of, with those of a part in their order."""

    def __init__(self, found: Sequence[Value]) -> None:
        """Index the statistics."""
        super().__init__(found)
        self._found = found

    def statistics(self, part: str, split: str, name: str = "") -> list[str]:
        """Return the names of a part's statistics, of all routers or of one."""
        told = (
            one.statistic
            for one in self._found
            if (one.part, one.data, one.against) == (part, split, "") and name in ("", one.scorer)
        )
        return list(dict.fromkeys(told))


def values(folder: Path, *, resamples: int) -> Iterator[Value]:
    """Yield all statistics of the rows in a folder.

    Args:
        folder: that `route` wrote.
        resamples: of the bootstrap.
    """
    rows = read_rows(folder)
    for (name, split), routed in rows.items():
        yield from _of_router(name, split, routed, resamples)
        if name != CLASSIFIER and (CLASSIFIER, split) in rows:
            yield from _against(name, split, routed, rows[CLASSIFIER, split], resamples)
    yield from _of_times(folder / TIMING)


def _of_router(
    name: str, split: str, routed: Sequence[RoutedQuery], resamples: int
) -> Iterator[Value]:
    n = len(routed)
    found = routing_figures(routed, resamples=resamples)
    yield _value("all", split, name, "accuracy", found.accuracy)
    yield _value("all", split, name, "macro-F1", found.macro_f1)
    yield _plain("all", split, name, "ECE", found.ece, n)
    yield _plain("all", split, name, "fallbacks", found.fallbacks, n)
    yield _plain("all", split, name, "modality", modality_accuracy(routed, MODALITIES), n)
    for source, one in accuracy_by_source(routed).items():
        yield _value("source", split, name, source, one)
    for policy, reached in policy_reach(routed).items():
        yield _value("hit", split, name, policy, reached.hit)
        yield _plain("corpora", split, name, policy, reached.corpora, n)
    if split != "folds":
        return
    for label, score in found.labels.items():
        yield _plain("F1", split, name, label, score.f1, score.support)
    for one in found.bins:
        said = Interval(one.accuracy, one.confidence, one.confidence, one.count)
        yield _value("reliability", split, name, f"{one.low:.4f}", said)
    for truth, given in found.confusion.items():
        for top, count in given.items():
            yield _plain("confusion", split, name, f"{truth} > {top}", count, n)


def _against(
    name: str,
    split: str,
    routed: Sequence[RoutedQuery],
    base: Sequence[RoutedQuery],
    resamples: int,
) -> Iterator[Value]:
    """Yield how a router's accuracy differs from the classifier's, over all and by source."""
    gains = [a - b for a, b in zip(sent_right(routed), sent_right(base), strict=True)]
    told = bootstrap_interval(gains, resamples=resamples)
    yield _value("all", split, name, "accuracy", told, CLASSIFIER)
    yield _plain("p", split, name, "accuracy", randomisation_p(gains), len(gains), CLASSIFIER)
    of_source: dict[str, list[float]] = {}
    for one, gain in zip(routed, gains, strict=True):
        of_source.setdefault(one.source, []).append(gain)
    for source, here in of_source.items():
        told = bootstrap_interval(here, resamples=resamples)
        yield _value("source", split, name, source, told, CLASSIFIER)


def _of_times(path: Path) -> Iterator[Value]:
    if not path.exists():
        return
    told = json.loads(path.read_bytes())
    for key in ("train_s", "train_cpu_s"):
        yield _plain("times", "", CLASSIFIER, key, told[key], 1)
    for key in ("route_ms", "route_cpu_ms"):
        ms = told[key]
        low, high = ms[int(0.05 * (len(ms) - 1))], ms[int(0.95 * (len(ms) - 1))]
        yield Value("times", "", CLASSIFIER, key, "", median(ms), low, high, len(ms))
    for key in ("cpu", "threads", "python", "commit"):
        yield Value("about", "", str(told.get(key, "")), key, "", 0.0, 0.0, 0.0, 0)


def _value(
    part: str, split: str, name: str, statistic: str, one: Interval, against: str = ""
) -> Value:
    return Value(part, split, name, statistic, against, one.mean, one.low, one.high, one.n)


def _plain(
    part: str, split: str, name: str, statistic: str, value: float, n: int, against: str = ""
) -> Value:
    return Value(part, split, name, statistic, against, value, value, value, n)

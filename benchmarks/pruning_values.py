"""Statistics of the pruning page, from rows: each with its interval and its paired differences."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from pruning_data import Asked, prepared, read_asked
from pruning_rows import PLACES, TIMING, Row, read_rows
from pruning_scorers import COSINE, RANDOM, TIER_1

from rag.evaluation.curve_intervals import Statistic, interval_of, kept_at_recall, resampled
from rag.evaluation.judged_sentences import JudgedSentences, judged_sentences
from rag.evaluation.pruning_curve import Cut, Measure, PruningCurve, Tally
from rag.evaluation.retrieval import retrieval_metrics
from rag.evaluation.statistics import Interval, bootstrap_interval

CSV = "pruning-results.csv"
CHANCE = "random"
THRESHOLDS, COMPRESSIONS, RECALLS = (0.05, 0.1, 0.3, 0.5), (0.5, 0.7), (0.9, 0.95)
AGAINST = (COSINE, TIER_1)
STEPS = 40
RANKED = ("nDCG@10", "RR@10")
BASE_RANKINGS = ("hybrid", "bm25", "cosine")


@dataclass(frozen=True)
class Value:
    """A statistic of one scorer on one data set.

    Attributes:
        part: `sentences`, `empty`, `places`, `ranking`, `curve`, `times` or `about`.
        data: name of the data set.
        scorer: its name in the table of scorers.
        statistic: what was measured.
        against: the scorer that it is a difference from; empty for the statistic itself.
        value: the number.
        low: lower end of its 95 % interval; `value` where there is none.
        high: upper end.
        n: questions; of `empty`, passages.
    """

    part: str
    data: str
    scorer: str
    statistic: str
    against: str
    value: float
    low: float
    high: float
    n: int


def _at(tally: Tally, cut: Cut, measure: Measure) -> np.ndarray:
    return tally.at(cut, measure)


def statistics() -> dict[str, Statistic]:
    """Return every statistic of sentences by its name on the page."""
    found: dict[str, Statistic] = {"AUC": Tally.auc, "AP": Tally.average_precision}
    for recall in RECALLS:
        at = Cut("recall", recall)
        found[f"comp@R{100 * recall:.0f}"] = partial(_at, cut=at, measure="Compression")
    found["Kept@SentR95"] = kept_at_recall
    at = Cut("recall", 0.95)
    found["AnswerKept@R95"] = partial(_at, cut=at, measure="AnswerKept")
    found["AllGold@R95"] = partial(_at, cut=at, measure="AllGold")
    for share in COMPRESSIONS:
        at = Cut("compression", share)
        for measure in ("SentR", "AnswerKept", "AllGold"):
            found[f"{measure}@C{100 * share:.0f}"] = partial(_at, cut=at, measure=measure)
    for threshold in THRESHOLDS:
        at = Cut("threshold", threshold)
        for measure in ("SentR", "Compression"):
            found[f"{measure}@T{threshold}"] = partial(_at, cut=at, measure=measure)
    return found


def values(rows: Path, questions: Path, *, resamples: int) -> Iterator[Value]:
    """Yield all statistics of the rows in a folder.

    Args:
        rows: folder that `score` wrote.
        questions: folder that `prepare` wrote.
        resamples: of the bootstrap.
    """
    of_set: dict[str, dict[str, list[Row]]] = defaultdict(dict)
    for (data, scorer), found in read_rows(rows).items():
        of_set[data][scorer] = found
    for data, path in prepared(questions).items():
        if data not in of_set:
            continue
        asked = read_asked(path)
        yield from _of_sentences(data, asked, of_set[data], resamples)
        yield from _of_rankings(data, asked, of_set[data])
    yield from _of_times(rows / TIMING)


def _of_sentences(
    data: str, asked: Sequence[Asked], rows: Mapping[str, list[Row]], resamples: int
) -> Iterator[Value]:
    """Yield what scorers make of sentences; those that have not read all questions are left out."""
    useful = [one for one in asked if one.passages and one.gold]
    scores = {
        name: {row["id"]: row["scores"] for row in of if row["part"] == "sentences"}
        for name, of in rows.items()
    }
    wanted = {one.id for one in asked if one.passages}
    whole = {name: found for name, found in scores.items() if wanted and wanted <= found.keys()}
    curves = {name: PruningCurve(_judged(useful, found)) for name, found in whole.items()}
    families = {name: [name] for name in curves if name not in RANDOM}
    if chance := [name for name in RANDOM if name in curves]:
        families = {CHANCE: chance} | families
    n, drawn = len(useful), {}
    numbers: dict[str, dict[str, float]] = {}
    for name, of in families.items():
        here = [_measured(curves[one], resamples) for one in of]
        numbers[name] = {stat: _mean([one[0][stat] for one in here]) for stat in statistics()}
        drawn[name] = {
            stat: np.mean([one[1][stat] for one in here], axis=0) for stat in statistics()
        }
    for name in families:
        for stat in statistics():
            value = numbers[name][stat]
            if not np.isfinite(value):
                continue
            found = interval_of(value, drawn[name][stat], n)
            yield _value("sentences", data, name, stat, "", found)
            for other in AGAINST:
                if other in families and other != name:
                    gain = value - numbers[other][stat]
                    found = interval_of(gain, drawn[name][stat] - drawn[other][stat], n)
                    yield _value("sentences", data, name, stat, other, found)
        yield from _curve(data, name, [curves[one] for one in families[name]])
        threshold = _mean([curves[one].threshold(0.95) for one in families[name]])
        if name != CHANCE:
            yield Value("sentences", data, name, "T@R95", "", *[threshold] * 3, n)
            yield from _empty(data, name, asked, whole[name], threshold)
            yield from _places(data, name, rows[name], threshold)


def _measured(
    curve: PruningCurve, resamples: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    tally = curve.tally()
    whole = {name: float(statistic(tally)[0]) for name, statistic in statistics().items()}
    return whole, resampled(curve, statistics(), resamples=resamples)


def _judged(
    asked: Sequence[Asked], scores: Mapping[str, list[list[float]]]
) -> list[JudgedSentences]:
    return [judged_sentences(one.passages, scores[one.id], one.gold, one.answers) for one in asked]


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _value(
    part: str, data: str, scorer: str, statistic: str, against: str, found: Interval
) -> Value:
    return Value(part, data, scorer, statistic, against, found.mean, found.low, found.high, found.n)


def _curve(data: str, name: str, curves: Sequence[PruningCurve]) -> Iterator[Value]:
    """Yield recall of gold sentences against characters kept, as the picture shows it."""
    tallies = [curve.tally() for curve in curves]
    for step in range(STEPS + 1):
        kept = step / STEPS
        cut = Cut("compression", 1.0 - kept)
        recall = _mean([float(tally.at(cut, "SentR")[0]) for tally in tallies])
        yield Value("curve", data, name, f"{kept:g}", "", *[recall] * 3, curves[0].questions)


def _empty(
    data: str,
    name: str,
    asked: Sequence[Asked],
    scores: Mapping[str, list[list[float]]],
    threshold: float,
) -> Iterator[Value]:
    """Yield how many passages of each kind the threshold of 95 % recall leaves nothing of."""
    emptied: dict[str, list[bool]] = defaultdict(list)
    for one in asked:
        if not one.passages:
            continue
        for passage, found in zip(one.passages, scores[one.id], strict=True):
            if not found:
                continue
            if one.gold:
                kind = "with gold" if one.gold.get(passage.document) else "without gold"
            else:
                kind = "no answer"
            emptied[kind].append(max(found) <= threshold)
    for kind, found in emptied.items():
        share = sum(found) / len(found)
        yield Value("empty", data, name, kind, "", share, share, share, len(found))


def _places(data: str, name: str, rows: Sequence[Row], threshold: float) -> Iterator[Value]:
    """Yield how many gold sentences the threshold keeps by their place, and how that spreads."""
    of_place = {
        place: {
            row["id"]: _mean([score > threshold for score in row["gold"]])
            for row in rows
            if row["part"] == place
        }
        for place in PLACES
    }
    ids = [id_ for id_ in of_place[PLACES[0]] if all(id_ in of for of in of_place.values())]
    if not ids:
        return
    means = []
    for place, of in of_place.items():
        found = bootstrap_interval([of[id_] for id_ in ids], resamples=2000)
        means.append(found.mean)
        yield _value("places", data, name, place, "", found)
    spread = max(means) - min(means)
    yield Value("places", data, name, "spread", "", *[spread] * 3, len(ids))


def _of_rankings(
    data: str, asked: Sequence[Asked], rows: Mapping[str, list[Row]]
) -> Iterator[Value]:
    """Yield nDCG and reciprocal rank of the index's rankings and of scorers that rerank."""
    ranked = [one for one in asked if one.candidates]
    relevant = {one.id: dict(one.relevant or {}) for one in ranked}
    systems: dict[str, dict[str, list[str]]] = {
        name: {one.id: _order(one, (one.rankings or {}).get(name)) for one in ranked}
        for name in BASE_RANKINGS
    }
    for name, of in rows.items():
        found = {row["id"]: row["ranks"] for row in of if row["part"] == "ranking"}
        if ranked and all(one.id in found for one in ranked):
            systems[name if name not in systems else f"{name}, reranked"] = {
                one.id: _order(one, found[one.id]) for one in ranked
            }
    metrics = {name: retrieval_metrics(of, relevant) for name, of in systems.items()}
    for name, of in metrics.items():
        for metric in RANKED if of else ():
            mine = [of[one.id][metric] for one in ranked]
            yield _value("ranking", data, name, metric, "", bootstrap_interval(mine))
            for other in BASE_RANKINGS:
                if name not in BASE_RANKINGS:
                    theirs = [metrics[other][one.id][metric] for one in ranked]
                    gains = [a - b for a, b in zip(mine, theirs, strict=True)]
                    found = bootstrap_interval(gains)
                    yield _value("ranking", data, name, metric, other, found)


def _order(one: Asked, scores: Sequence[float] | None) -> list[str]:
    """Return the candidates by scores, ties in the order given; as they stand without any."""
    if scores is None:
        return [passage.document for passage in one.candidates]
    places = sorted(range(len(scores)), key=lambda place: -scores[place])
    return [one.candidates[place].document for place in places]


def _of_times(path: Path) -> Iterator[Value]:
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    for row in map(json.loads, lines):
        if row["scorer"] in RANDOM[1:]:
            continue
        name = CHANCE if row["scorer"] in RANDOM else row["scorer"]
        told = sorted(row["ms"])
        low, high = told[int(0.05 * (len(told) - 1))], told[int(0.95 * (len(told) - 1))]
        yield Value("times", row["data"], name, "ms", "", median(told), low, high, len(told))
    for key in ("cpu", "threads", "python", "commit"):
        if lines:
            told = json.loads(lines[0])[key]
            yield Value("about", "", str(told), key, "", 0.0, 0.0, 0.0, 0)


def as_csv(found: Sequence[Value]) -> str:
    """Return statistics as CSV, numbers to six digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Value.__dataclass_fields__)
    for one in found:
        numbers = (f"{number:.6g}" for number in (one.value, one.low, one.high))
        writer.writerow(
            (one.part, one.data, one.scorer, one.statistic, one.against, *numbers, one.n)
        )
    return text.getvalue()


def read_csv(text: str) -> list[Value]:
    """Return what `as_csv` wrote."""
    return [
        Value(
            line["part"],
            line["data"],
            line["scorer"],
            line["statistic"],
            line["against"],
            *(float(line[key]) for key in ("value", "low", "high")),
            int(line["n"]),
        )
        for line in csv.DictReader(io.StringIO(text))
    ]


def read_values(folder: Path) -> list[dict[str, object]]:
    """Return the statistics in a folder as records."""
    return [asdict(one) for one in read_csv((folder / CSV).read_text(encoding="utf-8"))]


class Values:
    """Statistics by what they are of.

    Attributes:
        sets: names of the data sets, the one in domain first.
    """

    def __init__(self, found: Sequence[Value]) -> None:
        """Index the statistics."""
        self._of = {(v.part, v.data, v.scorer, v.statistic, v.against): v for v in found}
        self.sets = list(dict.fromkeys(v.data for v in found if v.part == "sentences"))

    def get(
        self, part: str, data: str, scorer: str, statistic: str, against: str = ""
    ) -> Value | None:
        """Return a statistic, or None if it was not measured."""
        return self._of.get((part, data, scorer, statistic, against))

    def scorers(self, part: str, data: str = "") -> list[str]:
        """Return the scorers that a part has statistics of, in their order."""
        return list(dict.fromkeys(s for p, d, s, _, _ in self._of if p == part and data in ("", d)))

    def about(self, key: str) -> str:
        """Return what is said of where times were taken; nothing if they were not."""
        told = (s for p, _, s, name, _ in self._of if p == "about" and name == key)
        return next(told, "")

    def data(self, part: str) -> list[str]:
        """Return the data sets of a part, in their order."""
        return list(dict.fromkeys(d for p, d, _, _, _ in self._of if p == part))

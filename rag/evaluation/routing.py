"""Figures of routers: how often a route is right, how honest its probabilities are, what it costs.

A question has one right label, or several that it needs together. A router's top label is the first
of its route; a route without a label is never right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.evaluation.statistics import Interval, bootstrap_interval
from rag.records import Route
from rag.routing.policies import taken

if TYPE_CHECKING:
    import numpy as np

BINS = 15
RESAMPLES = 2_000
_CELLS = 1 << 22  # counts drawn at a time: some tens of megabytes


@dataclass(frozen=True, slots=True)
class RoutedQuery:
    """A question, where it belongs and where it was sent.

    Attributes:
        id: of the question.
        truth: labels that it needs, at least one.
        route: what the router said.
        source: the data set that the question comes from; empty where nobody says.
    """

    id: str
    truth: tuple[str, ...]
    route: Route
    source: str = ""

    def __post_init__(self) -> None:
        if not self.truth:
            raise ValueError(f"truth must hold at least one label, got none for {self.id!r}")

    @property
    def top(self) -> str | None:
        """The first label of the route."""
        return self.route.labels[0] if self.route.labels else None

    @property
    def confidence(self) -> float:
        """Probability of the top label; 0 where the router gives none."""
        return self.route.probs.get(self.route.labels[0], 0.0) if self.route.labels else 0.0

    @property
    def right(self) -> bool:
        """Whether the question needs the top label."""
        return self.top in self.truth


@dataclass(frozen=True, slots=True)
class LabelScore:
    """How well a router finds one label; a share of nothing is 0.

    Attributes:
        precision: right ones among the questions that got the label.
        recall: questions that got it among those that need it.
        f1: harmonic mean of the two.
        support: questions that need it.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Questions whose top label has about the same probability.

    Attributes:
        low: lower end of the probabilities, inside.
        high: upper end, outside but for the last bin.
        count: questions.
        confidence: their mean probability.
        accuracy: share of them whose top label is right.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Reach:
    """What a policy takes, and whether what is needed is among it.

    Attributes:
        hit: share of questions with every label that they need taken.
        corpora: mean labels taken; `none` counts as one, though it searches nothing.
    """

    hit: Interval
    corpora: float


@dataclass(frozen=True, slots=True)
class RoutingFigures:
    """All figures of one router over the same questions.

    Attributes:
        questions: how many.
        accuracy: share of questions sent right; of those that need several labels, to just these.
        macro_f1: mean F1 of the labels that are needed or given.
        ece: expected calibration error of the top probability.
        fallbacks: share of routes that say they fell back.
        modality_accuracy: share whose top label has the right modality; None where nobody says
            which label has which.
        labels: scores by label.
        bins: reliability, from the lowest probability; bins without a question are left out.
        confusion: by needed label, how many questions got which top label; without questions that
            need several. A route without a label counts as an empty one.
    """

    questions: int
    accuracy: Interval
    macro_f1: Interval
    ece: float
    fallbacks: float
    modality_accuracy: float | None
    labels: Mapping[str, LabelScore]
    bins: tuple[ReliabilityBin, ...]
    confusion: Mapping[str, Mapping[str, int]]


def routing_figures(
    routed: Sequence[RoutedQuery],
    *,
    modalities: Mapping[str, str] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> RoutingFigures:
    """Return the figures of a router, with 95 % bootstrap intervals over questions.

    Where any question needs several labels, a router is judged by all the labels of its route; else
    by the top one alone.

    Args:
        routed: at least one.
        modalities: by label.
        seed: of the resampling.
        resamples: at least 1.

    Raises:
        ValueError: for no question, or a label that has no modality while others have.
    """
    _check(routed)
    return RoutingFigures(
        len(routed),
        bootstrap_interval(sent_right(routed), seed=seed, resamples=resamples),
        macro_f1(routed, seed=seed, resamples=resamples),
        calibration_error(reliability(routed)),
        sum(one.route.fallback for one in routed) / len(routed),
        None if modalities is None else modality_accuracy(routed, modalities),
        label_scores(routed),
        reliability(routed),
        confusion(routed),
    )


def sent_right(routed: Sequence[RoutedQuery]) -> list[float]:
    """Return 1 for each question that was sent right, else 0: two routers' differences pair up."""
    judged = zip(routed, _given(routed), strict=True)
    return [float(set(given) == set(one.truth)) for one, given in judged]


def label_scores(routed: Sequence[RoutedQuery]) -> dict[str, LabelScore]:
    """Return the scores of every label that is needed or given, in alphabetical order."""
    _check(routed)
    labels, counts = _counts(routed)
    found = {}
    for label, (hits, given, needed) in zip(labels, counts.sum(axis=0).tolist(), strict=True):
        found[label] = LabelScore(
            hits / given if given else 0.0,
            hits / needed if needed else 0.0,
            2.0 * hits / (given + needed),
            needed,
        )
    return found


def macro_f1(
    routed: Sequence[RoutedQuery], *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return the mean F1 over labels, with its 95 % bootstrap interval over questions.

    In a resample, only labels that are needed or given there count.

    Raises:
        ValueError: for no question, or resamples below 1.
    """
    import numpy as np

    _check(routed)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    n = len(routed)
    _, counts = _counts(routed)
    flat = counts.reshape(n, -1)
    rng = np.random.default_rng(seed)
    drawn = [
        _mean_f1((rng.multinomial(n, np.full(n, 1.0 / n), size=rows) @ flat).reshape(rows, -1, 3))
        for rows in _chunks(resamples, n)
    ]
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    return Interval(float(_mean_f1(counts.sum(axis=0)[None])[0]), float(low), float(high), n)


def reliability(routed: Sequence[RoutedQuery], bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Return bins of equal width over the top probability, those without a question left out.

    A probability on an edge belongs to the bin above it, 1 to the last. Source: Guo et al. 2017, On
    Calibration of Modern Neural Networks, arXiv:1706.04599.

    Args:
        routed: at least one, probabilities in [0, 1].
        bins: at least 1.

    Raises:
        ValueError: for no question or bin, or a probability out of range.
    """
    _check(routed)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    held: dict[int, list[RoutedQuery]] = {}
    for one in routed:
        if not -1e-9 <= one.confidence <= 1.0 + 1e-6:
            raise ValueError(f"probabilities must be in [0, 1], got {one.confidence} ({one.id!r})")
        held.setdefault(max(0, min(bins - 1, int(one.confidence * bins))), []).append(one)
    return tuple(
        ReliabilityBin(
            place / bins,
            (place + 1) / bins,
            len(inside),
            sum(one.confidence for one in inside) / len(inside),
            sum(one.right for one in inside) / len(inside),
        )
        for place, inside in sorted(held.items())
    )


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Return the expected calibration error (ECE): how far bins are off, by their questions.

    It is biased upwards: a perfect router, too, has some over finitely many questions.
    """
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / total


def modality_accuracy(routed: Sequence[RoutedQuery], modalities: Mapping[str, str]) -> float:
    """Return the share of questions whose top label has a modality that they need.

    Raises:
        ValueError: naming a label that has no modality.
    """
    _check(routed)
    used = {label for one in routed for label in (*one.truth, *one.route.labels[:1])}
    if missing := sorted(used - modalities.keys()):
        raise ValueError(f"modalities must name every label, got none for {', '.join(missing)}")
    right = [
        one.top is not None and modalities[one.top] in {modalities[label] for label in one.truth}
        for one in routed
    ]
    return sum(right) / len(routed)


def confusion(routed: Sequence[RoutedQuery]) -> dict[str, dict[str, int]]:
    """Return by needed label how many questions got which top label; zeros are left out.

    Questions that need several labels are left out; "" stands for a route without one.
    """
    found: dict[str, dict[str, int]] = {}
    for one in sorted(routed, key=lambda one: (one.truth, one.top or "")):
        if len(one.truth) == 1:
            row = found.setdefault(one.truth[0], {})
            row[one.top or ""] = row.get(one.top or "", 0) + 1
    return found


def most_probable(route: Route, most: int = 2, below: float = 1.0) -> tuple[str, ...]:
    """Return the labels that a fallback takes: the top one where the router is sure, else more.

    Args:
        route: with the probability of every label.
        most: labels where it is not sure, at least 1: the top one and the most probable of the
            others, ties by label.
        below: it is sure if the top label's probability is at least this, and it did not fall back.
    """
    return taken(route, "unsure", below, most=most)


def hits(routed: Sequence[RoutedQuery], taken: Sequence[Sequence[str]]) -> list[float]:
    """Return 1 for each question with every label that it needs among those taken, else 0."""
    return [float(set(one.truth) <= set(got)) for one, got in zip(routed, taken, strict=True)]


def reach(
    routed: Sequence[RoutedQuery],
    taken: Sequence[Sequence[str]],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Reach:
    """Return what a policy hits and costs.

    Args:
        routed: at least one.
        taken: the labels that the policy takes for each of them.
        seed: of the interval's resampling.
        resamples: at least 1.
    """
    _check(routed)
    hit = bootstrap_interval(hits(routed, taken), seed=seed, resamples=resamples)
    return Reach(hit, sum(len(set(got)) for got in taken) / len(taken))


def regrets(taken: Sequence[Sequence[str]], outcomes: Sequence[Mapping[str, float]]) -> list[float]:
    """Return how much each question lost against an oracle that knows its best route.

    Args:
        taken: labels taken for each question; what none of them gives is 0.
        outcomes: quality of the answer by route, for each question; higher is better, at least 0.

    Raises:
        ValueError: for a label taken whose outcome nobody measured, or a question without any.
    """
    lost = []
    for got, outcome in zip(taken, outcomes, strict=True):
        if missing := [label for label in got if label not in outcome]:
            known = ", ".join(outcome) or "none"
            raise ValueError(f"outcomes must hold every label taken ({known}), got {missing[0]!r}")
        if not outcome:
            raise ValueError("outcomes must hold at least one route for each question, got none")
        lost.append(max(outcome.values()) - max((outcome[label] for label in got), default=0.0))
    return lost


def _given(routed: Sequence[RoutedQuery]) -> list[tuple[str, ...]]:
    """Return the labels by which each route is judged."""
    several = any(len(one.truth) > 1 for one in routed)
    return [one.route.labels if several else one.route.labels[:1] for one in routed]


def _counts(routed: Sequence[RoutedQuery]) -> tuple[list[str], np.ndarray]:
    """Return labels, and whether each was hit, given and needed: int64 (questions, labels, 3)."""
    import numpy as np

    given = _given(routed)
    labels = sorted(
        {label for one, got in zip(routed, given, strict=True) for label in (*one.truth, *got)}
    )
    place = {label: row for row, label in enumerate(labels)}
    counts = np.zeros((len(routed), len(labels), 3), np.int64)
    for row, (one, got) in enumerate(zip(routed, given, strict=True)):
        counts[row, [place[label] for label in got], 1] = 1
        counts[row, [place[label] for label in one.truth], 2] = 1
    counts[:, :, 0] = counts[:, :, 1] * counts[:, :, 2]
    return labels, counts


def _mean_f1(counts: np.ndarray) -> np.ndarray:
    """Return the mean F1 over labels in use, from sums of shape (..., labels, 3)."""
    import numpy as np

    whole = counts[..., 1] + counts[..., 2]
    f1 = 2.0 * counts[..., 0] / np.maximum(whole, 1)
    found: np.ndarray = f1.sum(axis=-1) / np.maximum((whole > 0).sum(axis=-1), 1)
    return found


def _chunks(resamples: int, n: int) -> Iterator[int]:
    """Yield how many resamples of n questions to draw at a time."""
    step = max(1, _CELLS // n)
    for start in range(0, resamples, step):
        yield min(step, resamples - start)


def _check(routed: Sequence[RoutedQuery]) -> None:
    if not routed:
        raise ValueError("routed must hold at least one question, got none")

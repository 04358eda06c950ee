"""Every threshold of a pruner at once: what one global threshold keeps, over many questions.

A pruner keeps a sentence if its score is strictly above one threshold, the same for all questions
and passages. Sentences with equal scores stay or go together, so an arrangement of n sentences has
at most as many different outcomes as it has different scores, and one more that keeps nothing. All
statistics here are exact over these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rag.evaluation.judged_sentences import JudgedSentences

if TYPE_CHECKING:
    import numpy as np

_SLACK = 1e-9  # 0.55 * 100 is a little over 55

Measure = Literal["SentR", "SentP", "Kept", "Compression", "AnswerKept", "AllGold"]
MEASURES: tuple[Measure, ...] = ("SentR", "SentP", "Kept", "Compression", "AnswerKept", "AllGold")


@dataclass(frozen=True, slots=True)
class Cut:
    """How the global threshold is chosen.

    Attributes:
        by: `threshold`: it is `value`. `recall`: the largest that keeps at least `value` of all
            gold sentences. `compression`: the one that prunes `value` of all characters; where
            none does so exactly, the two nearest are mixed, as if one of them were drawn for each
            question such that the expected share is `value`.
        value: a threshold, or a share in [0, 1].
    """

    by: Literal["threshold", "recall", "compression"]
    value: float

    def __post_init__(self) -> None:
        if self.by not in {"threshold", "recall", "compression"}:
            raise ValueError(f"by must be 'threshold', 'recall' or 'compression', got {self.by!r}")
        if self.by != "threshold" and not 0.0 <= self.value <= 1.0:
            raise ValueError(f"value must be in [0, 1] for a {self.by}, got {self.value}")


class PruningCurve:
    """The sentences of many questions in order of their scores.

    Attributes:
        questions: how many, those without a sentence included.
        sentences: how many, of all questions.
        levels: the different scores, descending, float64 (k,).
    """

    def __init__(self, questions: Sequence[JudgedSentences]) -> None:
        """Sort the sentences of all questions.

        Raises:
            ValueError: if there is no question, no gold sentence, or a score that is not finite.
        """
        import numpy as np

        if not questions:
            raise ValueError("questions must be at least one, got none")
        scores = _joined([one.scores for one in questions], np.float64)
        gold = _joined([one.gold for one in questions], np.float64)
        if not np.isfinite(scores).all():
            raise ValueError("scores must be finite, got some that are not")
        if not gold.any():
            raise ValueError("gold must hold at least one true, got none")
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        self.questions = len(questions)
        self.sentences = len(scores)
        self._ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
        self.levels = ordered[self._ends]
        counts = [len(one.scores) for one in questions]
        self._question = np.repeat(np.arange(len(questions)), counts)[order]
        self._sums = [
            column[order]
            for column in (
                np.ones(len(scores)),
                gold,
                _joined([one.tokens for one in questions], np.float64),
                _joined([one.characters for one in questions], np.float64),
            )
        ]
        self._answers = self._level_of([one.answer_score for one in questions])
        self._all_gold = self._level_of([_least_gold(one) for one in questions])

    def tally(self, weights: np.ndarray | None = None) -> Tally:
        """Return what each level keeps, if each question counts as often as `weights` say.

        Args:
            weights: (resamples, questions), 0 or more; None counts each once, as one resample.
        """
        import numpy as np

        if weights is None:
            weights = np.ones((1, self.questions))
        if weights.ndim != 2 or weights.shape[1] != self.questions:
            raise ValueError(f"weights must be (resamples, {self.questions}), got {weights.shape}")
        weights = weights.astype(np.float64)
        of_sentences = weights[:, self._question]
        count, gold, tokens, characters = (
            self._cumulated(of_sentences, column) for column in self._sums
        )
        return Tally(self, weights, count, gold, tokens, characters)

    def threshold(self, recall: float) -> float:
        """Return the largest score that, as the threshold, keeps so many of the gold sentences.

        Sentences with just this score go. Where all must stay it is 0, or, if a score is not above
        that, the next number below all of them.
        """
        import numpy as np

        level = int(self.tally().cut(Cut("recall", recall))[1][0])
        if level < len(self.levels):
            return float(self.levels[level])
        least = float(self.levels[-1])
        return 0.0 if least > 0.0 else float(np.nextafter(least, -np.inf))

    def _cumulated(self, weights: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Return sums over all sentences at each level and above, (resamples, levels + 1)."""
        import numpy as np

        sums = np.cumsum(weights * column, axis=1)[:, self._ends]
        kept: np.ndarray = np.concatenate([np.zeros((len(weights), 1)), sums], axis=1)
        return kept

    def _level_of(self, scores: Sequence[float | None]) -> np.ndarray:
        """Return how many levels must be kept to keep each score; -1 for None."""
        import numpy as np

        known = np.array([np.nan if score is None else score for score in scores], np.float64)
        levels = np.searchsorted(-self.levels, -known, side="left") + 1
        levels[np.isnan(known)] = -1
        return levels


@dataclass(frozen=True, slots=True)
class Tally:
    """What keeping the sentences of the first 0, 1, 2 … levels keeps, for each resample.

    Attributes:
        curve: whose sentences.
        weights: how often each question counts, (resamples, questions).
        count: sentences kept, (resamples, levels + 1), and so are the others.
        gold: gold sentences kept.
        tokens: tokens kept.
        characters: characters kept.
    """

    curve: PruningCurve
    weights: np.ndarray
    count: np.ndarray
    gold: np.ndarray
    tokens: np.ndarray
    characters: np.ndarray

    def auc(self) -> np.ndarray:
        """Return the area under the ROC curve, (resamples,); a tie counts half.

        It is the share of pairs of a gold sentence and another one, of any questions, in which the
        gold one scores higher. NaN where there is no such pair.
        """
        import numpy as np

        others = self.count - self.gold
        below = others[:, -1:] - (others[:, 1:] + others[:, :-1]) / 2
        wins = (np.diff(self.gold) * below).sum(axis=1)
        return _ratio(wins, self.gold[:, -1] * others[:, -1])

    def average_precision(self) -> np.ndarray:
        """Return the mean precision at each gold sentence, ties as one step, (resamples,).

        Not interpolated: AP = sum over levels of (R_k - R_(k-1)) P_k.
        """
        import numpy as np

        precision = _ratio(self.gold[:, 1:], self.count[:, 1:], empty=0.0)
        return _ratio((np.diff(self.gold) * precision).sum(axis=1), self.gold[:, -1])

    def cut(self, cut: Cut) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return levels kept, before and after, and the share of the latter: each (resamples,)."""
        import numpy as np

        rows = len(self.weights)
        if cut.by == "threshold":
            level = np.full(rows, int(np.searchsorted(-self.curve.levels, -cut.value)))
            return level, level, np.ones(rows)
        if cut.by == "recall":
            total = self.gold[:, -1:]
            level = (self.gold >= cut.value * total - _SLACK * total).argmax(axis=1)
            return level, level, np.ones(rows)
        total = self.characters[:, -1]
        wanted = (1.0 - cut.value) * total
        level = (self.characters >= (wanted - _SLACK * total)[:, None]).argmax(axis=1)
        before = np.maximum(level - 1, 0)
        at = np.arange(rows)
        low, high = self.characters[at, before], self.characters[at, level]
        share = np.clip(_ratio(wanted - low, high - low, empty=1.0), 0.0, 1.0)
        return before, level, share

    def at(self, cut: Cut, measure: Measure) -> np.ndarray:
        """Return a measure at a cut, (resamples,).

        Args:
            cut: how the threshold is chosen.
            measure: `SentR`: gold sentences kept, over all of them. `SentP`: kept sentences that
                are gold. `Kept`: tokens kept, over all; `Compression`: characters pruned, over
                all. `AnswerKept`: share of the questions with an answer in their passages that
                still have one. `AllGold`: share of the questions with gold sentences that keep
                every one.
        """
        before, after, share = self.cut(cut)
        low, high = self._at(before, measure), self._at(after, measure)
        found: np.ndarray = (1.0 - share) * low + share * high
        return found

    def _at(self, level: np.ndarray, measure: Measure) -> np.ndarray:
        import numpy as np

        at = np.arange(len(level)), level
        if measure == "SentR":
            return _ratio(self.gold[at], self.gold[:, -1])
        if measure == "SentP":
            return _ratio(self.gold[at], self.count[at], empty=1.0)
        if measure == "Kept":
            return _ratio(self.tokens[at], self.tokens[:, -1], empty=1.0)
        if measure == "Compression":
            return 1.0 - _ratio(self.characters[at], self.characters[:, -1], empty=1.0)
        if measure == "AnswerKept":
            needed = self.curve._answers  # noqa: SLF001
        elif measure == "AllGold":
            needed = self.curve._all_gold  # noqa: SLF001
        else:
            raise ValueError(f"measure must be one of {', '.join(MEASURES)}, got {measure!r}")
        kept = (needed >= 0) & (needed <= level[:, None])
        return _ratio((self.weights * kept).sum(axis=1), self.weights @ (needed >= 0))


def auc(scores: Sequence[float], gold: Sequence[bool]) -> float:
    """Return the area under the ROC curve, a tie counting half: chance is 0.5.

    Args:
        scores: of sentences, higher for those more likely gold.
        gold: as many, at least one true and one false.

    Raises:
        ValueError: if the two do not fit together, or one kind is missing.
    """
    if all(gold):
        raise ValueError(f"gold must hold at least one false, got {len(gold)} true")
    return float(_tally(scores, gold).auc()[0])


def average_precision(scores: Sequence[float], gold: Sequence[bool]) -> float:
    """Return the mean precision at each gold sentence, equal scores being one step.

    Args:
        scores: of sentences.
        gold: as many, at least one true.

    Raises:
        ValueError: if the two do not fit together, or nothing is gold.
    """
    return float(_tally(scores, gold).average_precision()[0])


def compression_at_recall(
    scores: Sequence[float],
    gold: Sequence[bool],
    lengths: Sequence[int],
    recall: float = 0.95,
) -> float:
    """Return the share of all characters pruned by the largest threshold that keeps the recall.

    Args:
        scores: of the sentences of all questions; those strictly above the threshold stay.
        gold: as many, at least one true.
        lengths: characters of each.
        recall: the share of gold sentences that must stay, in [0, 1].

    Raises:
        ValueError: if the three do not fit together, nothing is gold, or recall is out of range.
    """
    return float(_tally(scores, gold, lengths).at(Cut("recall", recall), "Compression")[0])


def _tally(
    scores: Sequence[float], gold: Sequence[bool], lengths: Sequence[int] | None = None
) -> Tally:
    sizes = tuple(lengths) if lengths is not None else (1,) * len(scores)
    return PruningCurve([JudgedSentences(tuple(scores), tuple(gold), sizes, sizes)]).tally()


def _joined(columns: Sequence[Sequence[float]], dtype: type) -> np.ndarray:
    import numpy as np

    return np.array([value for column in columns for value in column], dtype)


def _least_gold(one: JudgedSentences) -> float | None:
    gold = (score for score, needed in zip(one.scores, one.gold, strict=True) if needed)
    return min(gold, default=None)


def _ratio(a: np.ndarray, b: np.ndarray, empty: float = float("nan")) -> np.ndarray:
    """Return a / b, and `empty` where b is 0."""
    import numpy as np

    found = np.full(np.broadcast(a, b).shape, empty)
    np.divide(a, b, out=found, where=b > 0)
    return found

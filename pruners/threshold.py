"""The decision shell: keeps the sentences whose score, by any scorer, is above a threshold."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Protocol, runtime_checkable

from pruners.budgets import estimated_tokens, within
from pruners.decide import Guards, Verdicts, decide, title_rows, units, with_titles
from pruners.reorder import rerank_order, with_rerank_scores
from pruners.time_limit import within_time
from rag.bounds import Bounds
from rag.protocols import SentenceScorer
from rag.ranking import Ranking
from rag.records import (
    Budget,
    Hit,
    Passage,
    PassageScores,
    Query,
    Selection,
    SentenceScore,
    Span,
    text_sha,
)


@runtime_checkable
class BatchScorer(Protocol):
    """A `SentenceScorer` for which one call for several queries pays."""

    def score_batch(
        self, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[PassageScores]]:
        """Return what a call returns for each query and its passages."""


@dataclass(frozen=True)
class ThresholdPruner:
    """Pruner that keeps each sentence whose score is strictly above a threshold.

    The scorer says how useful each sentence is; everything that decides is here, so that all
    scorers share it. Scores are raised to 1e-6: at threshold 0 every passage stays byte for byte.
    Decisions depend on the set of passages, not on their order. The rules of titles and reordering
    are those of Chirkova et al. 2025 (Provence), arXiv:2501.16214.

    Attributes:
        scorer: gives each sentence a score in [0, 1].
        threshold: at least 0; the score that a sentence must exceed.
        always_select_title: keep the first sentence too where any sentence of its passage stays; a
            passage of one sentence is no exception.
        protect: regular expressions, looked for in the whole text of a passage; every sentence that
            a match touches stays, also in a passage of which nothing else does.
        min_keep: best sentences that stay, whatever their score, of the passage that holds the best
            one of all; other passages may become empty, and with 0 all may.
        skip_below_chars: a passage of fewer code points stays whole.
        timeout_s: the longest that scoring one query's passages may take, above 0; None waits. With
            it a batch is scored query by query, each with its own time. A late scorer goes on in a
            thread of its own until it ends, and its result is dropped.
        on_error: what to do when scoring fails or is late: `keep` keeps everything that the budget
            allows, with a warning; `raise` lets the error pass.
        budget: the most to keep, where a call says nothing else; None keeps all that scores keep.
        count: tokens of a text, for budgets.
        reorder: give passages back by the scorer's `rerank_score`, best first, as their `score`;
            ties, and passages without one, stay in the order given, the latter last.
        top_k: passages to give back, at least 1; None gives all. The cut comes after the sort, and
            what it drops takes no part in `min_keep` and budgets.

    Raises:
        ValueError: for a field out of its range, or an invalid pattern.
    """

    scorer: SentenceScorer
    threshold: float = 0.1
    always_select_title: bool = False
    protect: Sequence[str] = ()
    min_keep: int = 1
    skip_below_chars: int = 0
    timeout_s: float | None = None
    on_error: Literal["keep", "raise"] = "keep"
    budget: Budget | None = None
    count: Callable[[str], int] = estimated_tokens
    reorder: bool = False
    top_k: Annotated[int, Bounds(low=1)] | None = None
    _guards: Guards = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_threshold(self.threshold)
        for name in ("min_keep", "skip_below_chars"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        if self.timeout_s is not None and not self.timeout_s > 0.0:
            raise ValueError(f"timeout_s must be above 0, got {self.timeout_s}")
        if self.on_error not in {"keep", "raise"}:
            raise ValueError(f"on_error must be 'keep' or 'raise', got {self.on_error!r}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        guards = Guards(_compiled(self.protect), self.skip_below_chars, self.min_keep)
        object.__setattr__(self, "_guards", guards)

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[Passage]:
        """Return the passages with `kept` attached: same order, unless `reorder` says otherwise."""
        return self._finished(passages, self._scores([query], [passages])[0])

    def batch(
        self, *, query: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[Passage]]:
        """Return what a call returns for each query; a scorer with `score_batch` is asked once."""
        scores = self._scores(query, passages)
        return [self._finished(p, s) for p, s in zip(passages, scores, strict=True)]

    def select(
        self,
        query: Query,
        passages: Sequence[Passage],
        *,
        threshold: float | None = None,
        budget: Budget | None = None,
    ) -> list[Selection]:
        """Return one selection a passage, in the passages' order; none is reordered or cut.

        Under a budget, first `per_passage_min` of each passage are taken, then what is protected or
        saved, then the other kept sentences, each group best first, until one does not fit; that
        one and all after it go. So a larger budget only adds, and `tokens` is never exceeded.

        Args:
            query: the question.
            passages: retrieved passages; may be empty, as may each.
            threshold: takes the place of the field.
            budget: takes the place of the field.

        Raises:
            ValueError: if `threshold` is below 0, or if the scorer's answer does not fit the
                passages and `on_error` is `raise`.
        """
        limit = self.threshold if threshold is None else threshold
        _check_threshold(limit)
        scores = self._scores([query], [passages])[0]
        return self._decided(passages, scores, limit, self.budget if budget is None else budget)

    def _finished(
        self, passages: Sequence[Passage], scores: Sequence[PassageScores] | None
    ) -> list[Passage]:
        """Return the passages sorted, cut and pruned; scores are None where scoring failed."""
        tail: Sequence[Hit] | None = None
        if self.reorder and scores is not None and any(s.rerank_score is not None for s in scores):
            ranking = with_rerank_scores(passages, scores, self.top_k)
            passages, tail = ranking, ranking.tail
            scores = [scores[row] for row in rerank_order(scores)]
        passages = passages[: self.top_k]
        scores = None if scores is None else scores[: self.top_k]
        selections = self._decided(passages, scores, self.threshold, self.budget)
        found = [replace(p, kept=s) for p, s in zip(passages, selections, strict=True)]
        return found if tail is None else Ranking(found, tail)

    def _decided(
        self,
        passages: Sequence[Passage],
        scores: Sequence[PassageScores] | None,
        threshold: float,
        budget: Budget | None,
    ) -> list[Selection]:
        held: list[frozenset[int]] = []
        titles: list[frozenset[int]] = []
        if scores is None:
            verdicts = _everything(passages)
            scores = [PassageScores(()) for _ in passages]
        else:
            verdicts, held = decide(passages, scores, threshold, self._guards)
            if self.always_select_title:
                titles = [title_rows(p, found) for p, found in zip(passages, verdicts, strict=True)]
        if budget is not None:
            verdicts = within(
                budget, passages, verdicts, count=self.count, held=held, titles=titles
            )
        elif titles:
            verdicts = with_titles(verdicts, titles)
        return [
            Selection(
                passage.id,
                text_sha(passage.text),
                tuple(found),
                self.scorer.name,
                threshold,
                of_passage.rerank_score,
                "sentence" if of_passage.spans is None else "word",
            )
            for passage, found, of_passage in zip(passages, verdicts, scores, strict=True)
        ]

    def _scores(
        self, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[Sequence[PassageScores] | None]:
        """Return the scores of each query's passages, or None where scoring failed."""
        found: list[Sequence[PassageScores] | None] = [
            [PassageScores(()) for _ in of_query] for of_query in passages
        ]
        asked = [row for row, of in enumerate(passages) if any(p.sentences for p in of)]
        together = self._scores_together(
            [queries[row] for row in asked], [passages[row] for row in asked]
        )
        for place, row in enumerate(asked):
            found[row] = (
                together[place] if together else self._scores_of(queries[row], passages[row])
            )
        return found

    def _scores_together(
        self, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> Sequence[Sequence[PassageScores]]:
        """Return the scores of all queries from one call; empty if each has to be asked alone.

        A call that fails says nothing: each query then fails, or does not, on its own.
        """
        scorer = self.scorer
        if len(queries) < 2 or self.timeout_s is not None or not isinstance(scorer, BatchScorer):
            return []
        try:
            found = scorer.score_batch(queries, passages)
            for of_query, scores in zip(passages, found, strict=True):
                _check_scores(of_query, scores)
        except Exception:
            if self.on_error == "raise":
                raise
            return []
        return found

    def _scores_of(
        self, query: Query, passages: Sequence[Passage]
    ) -> Sequence[PassageScores] | None:
        try:
            if self.timeout_s is None:
                found = self.scorer(query, passages)
            else:
                found = within_time(lambda: self.scorer(query, passages), self.timeout_s)
            _check_scores(passages, found)
        except Exception as error:
            if self.on_error == "raise":
                raise
            warnings.warn(
                f"kept every sentence, as scoring them failed: {error!r}",
                RuntimeWarning,
                stacklevel=4,
            )
            return None
        return found


def _check_threshold(threshold: float) -> None:
    if not threshold >= 0.0:
        raise ValueError(f"threshold must be at least 0, got {threshold}")


def _compiled(patterns: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    if isinstance(patterns, str):
        raise ValueError(  # noqa: TRY004
            f"protect must be a list of patterns, got the text {patterns!r}"
        )
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            raise ValueError(
                f"protect must hold regular expressions, got {pattern!r}: {error}"
            ) from error
    return tuple(compiled)


def _check_scores(passages: Sequence[Passage], scores: Sequence[PassageScores]) -> None:
    """Raise a ValueError if the scores are not those of the passages' units, in [0, 1]."""
    if len(scores) != len(passages):
        raise ValueError(f"scores must be of {len(passages)} passages, got {len(scores)}")
    for passage, found in zip(passages, scores, strict=True):
        of = f"of passage {passage.id!r}"
        spans = units(passage, found)
        if len(found.sentences) != len(spans):
            raise ValueError(f"scores {of} must be {len(spans)}, got {len(found.sentences)}")
        if (odd := next((s for s in found.sentences if not 0.0 <= s <= 1.0), None)) is not None:
            raise ValueError(f"scores {of} must be in [0, 1], got {odd}")
        if found.rerank_score is not None and not math.isfinite(found.rerank_score):
            raise ValueError(f"rerank_score {of} must be finite, got {found.rerank_score}")
        if found.spans is not None and not _partition(found.spans, len(passage.text)):
            raise ValueError(f"spans {of} must partition its {len(passage.text)} code points")


def _partition(spans: Sequence[Span], length: int) -> bool:
    ends = [0, *(span.end for span in spans)]
    return [span.start for span in spans] == ends[:-1] and ends[-1] == length


def _everything(passages: Sequence[Passage]) -> Verdicts:
    return [
        [SentenceScore(span, 1.0, kept=True, forced="error") for span in passage.sentences]
        for passage in passages
    ]

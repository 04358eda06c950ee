"""From scores to a verdict on each sentence: the threshold, and the guards that overrule it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from rag.records import Passage, PassageScores, SentenceScore, Span

if TYPE_CHECKING:
    from re import Pattern

LEAST_SCORE = 1e-6
"""Above 0, so that the strict `score > threshold` keeps every sentence at threshold 0."""

Verdicts = list[list[SentenceScore]]
"""A verdict on each sentence of each passage."""

Place = tuple[int, int]
"""Row of a passage, and row of a sentence in it."""


@dataclass(frozen=True, slots=True)
class Guards:
    """Rules that keep a sentence whatever its score; the first that holds is the one recorded.

    Attributes:
        protect: patterns, looked for in the whole text of a passage; every sentence that a match
            touches stays, also in a passage of which nothing else does.
        skip_below_chars: a passage of fewer code points stays whole.
        min_keep: best sentences that stay of the passage that holds the best one of all; 0 lets
            everything go.
    """

    protect: tuple[Pattern[str], ...] = ()
    skip_below_chars: int = 0
    min_keep: int = 0


def decide(
    passages: Sequence[Passage],
    scores: Sequence[PassageScores],
    threshold: float,
    guards: Guards,
) -> tuple[Verdicts, list[frozenset[int]]]:
    """Return a verdict on each unit of each passage, and the rows that two guards hold.

    A unit stays if `score > threshold`, or if a guard says so. The held rows are those of each
    passage that `protect` and `min_keep` keep, whatever their score. A higher threshold only drops,
    and the held rows do not depend on it. Equal scores go by the passage's score, its id, and the
    row, so the passages' order makes no difference.

    Args:
        passages: with sentences, or none.
        scores: of each passage, one a unit; raised to `LEAST_SCORE`.
        threshold: at least 0; at 0 everything stays, at 1 only what a guard keeps.
        guards: what may overrule a score.
    """
    verdicts = [
        [
            SentenceScore(span, max(score, LEAST_SCORE), kept=max(score, LEAST_SCORE) > threshold)
            for span, score in zip(units(passage, found), found.sentences, strict=True)
        ]
        for passage, found in zip(passages, scores, strict=True)
    ]
    saved = _saved(passages, verdicts, guards.min_keep)
    held = []
    for place, (passage, found) in enumerate(zip(passages, verdicts, strict=True)):
        protected = _touched(passage.text, [verdict.span for verdict in found], guards.protect)
        _force(found, protected, "protect")
        if len(passage.text) < guards.skip_below_chars:
            _force(found, range(len(found)), "short")
        best = {row for at, row in saved if at == place}
        _force(found, best, "min_keep")
        held.append(frozenset(protected | best))
    return verdicts, held


def units(passage: Passage, scores: PassageScores) -> tuple[Span, ...]:
    """Return the spans that the scores are of: the passage's sentences, or the scorer's own."""
    return passage.sentences if scores.spans is None else scores.spans


def title_rows(passage: Passage, found: Sequence[SentenceScore]) -> frozenset[int]:
    """Return the rows of the units that begin in the first sentence: row 0 of sentences."""
    end = passage.sentences[0].end if passage.sentences else 0
    return frozenset(row for row, verdict in enumerate(found) if verdict.span.start < end)


def with_titles(verdicts: Verdicts, titles: Sequence[frozenset[int]]) -> Verdicts:
    """Return the verdicts with the titles of all passages of which something stays."""
    for found, rows in zip(verdicts, titles, strict=True):
        if any(verdict.kept for verdict in found):
            _force(found, rows, "title")
    return verdicts


def best_first(passages: Sequence[Passage], verdicts: Verdicts) -> list[Place]:
    """Return all places by score, ties by the passage's score, its id and the row."""
    return sorted(
        ((place, row) for place, found in enumerate(verdicts) for row in range(len(found))),
        key=lambda at: (
            -verdicts[at[0]][at[1]].score,
            -(passages[at[0]].score or 0.0),
            passages[at[0]].id,
            at[1],
        ),
    )


def _saved(passages: Sequence[Passage], verdicts: Verdicts, min_keep: int) -> list[Place]:
    ranked = best_first(passages, verdicts) if min_keep else []
    return [at for at in ranked if at[0] == ranked[0][0]][:min_keep]


def _touched(text: str, spans: Sequence[Span], patterns: Sequence[Pattern[str]]) -> set[int]:
    """Return the rows of the spans that a match shares a character with.

    The spans partition the text. An empty match counts for the character after it.
    """
    starts = [span.start for span in spans]
    touched: set[int] = set()
    for match in (match for pattern in patterns for match in pattern.finditer(text)):
        last = max(match.end(), match.start() + 1) - 1
        first_row = max(0, bisect_right(starts, match.start()) - 1)
        touched.update(range(first_row, bisect_right(starts, last)))
    return touched


def _force(
    found: list[SentenceScore],
    rows: Iterable[int],
    why: Literal["title", "protect", "min_keep", "short"],
) -> None:
    """Keep the rows that do not stay already, and say why."""
    for row in rows:
        if not found[row].kept:
            found[row] = replace(found[row], kept=True, forced=why)

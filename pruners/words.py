"""LLMLingua-2's rule: the words that a rate leaves, by the probabilities of their tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

from pruners.budgets import estimated_tokens
from pruners.decide import LEAST_SCORE
from pruners.rates import RateScope, around_half, check_rate, check_scope, percentile
from pruners.token_values import TokenScorer, TokenValue
from pruners.word_units import is_identifier, word_units
from rag.bounds import Bounds
from rag.records import Passage, PassageScores, Query, Span


@dataclass(frozen=True)
class WordScorer:
    """Scorer of words: above 0.5 are those that LLMLingua-2 keeps.

    A word's probability is that of its tokens, 1 if it is forced. Among the words of a passage,
    each as often as it has tokens, the cut is the percentile `int(100 * (1 - rate) + 1)`; a word
    above it stays. So the rate is one of tokens, and a dull passage keeps as much as a rich one,
    unless `scope` says otherwise. A rate of 1 keeps everything, 0 nothing but the forced.

    Steps away from the source: a passage is a chunk; words are those of the text (see
    `word_units`), never pieces of an identifier; 100 (1 - rate) is taken exactly, so 0.9 gives 11
    and not 10 for a float's last bit; whole words that hold a digit are forced, not their tokens.
    The white space that ends a sentence has the largest score of its words. Words without a token
    stay.

    Source: Pan et al. 2024, LLMLingua-2, arXiv:2403.12968.

    Attributes:
        tokens: gives the tokens' values.
        rate: share of tokens to keep, in [0, 1]. None has no cut: scores are the words' own, for a
            fixed threshold.
        force: words and marks that stay, such as `.` or `not`.
        force_digits: whether words with a digit stay.
        force_identifiers: whether words stay that hold a digit or an underscore, or look like a
            dotted name, a path, a call or camelCase: half of the words around them can be guessed,
            they cannot.
        drop_consecutive: drop a forced word if the one before it is the same, and no other word
            between them stays; with it a larger rate need not only add.
        word_value: a word's value: the mean of its tokens', or the first one's.
        scope: whether the rate holds in each passage or in all passages of a query together.
        count: tokens of a word for the model that reads.
    """

    tokens: TokenScorer
    rate: Annotated[float, Bounds(0, 1)] | None = 0.5
    force: Sequence[str] = ()
    force_digits: bool = True
    force_identifiers: bool = True
    drop_consecutive: bool = False
    word_value: Literal["mean", "first"] = "mean"
    scope: RateScope = "passage"
    count: Callable[[str], int] = estimated_tokens

    name = "words"

    def __post_init__(self) -> None:
        check_rate(self.rate)
        check_scope(self.scope)
        if self.word_value not in {"mean", "first"}:
            got = self.word_value
            raise ValueError(f"word_value must be 'mean' or 'first', got {got!r}")
        if isinstance(self.force, str):
            raise ValueError(  # noqa: TRY004
                f"force must be a list of words, got the text {self.force!r}"
            )
        odd = next((word for word in self.force if word.split() != [word]), None)
        if odd is not None:
            raise ValueError(f"force must hold words without white space, got {odd!r}")

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[PassageScores]:
        """Return the scores of each passage's words, with their spans.

        A passage without sentences has none and costs nothing.
        """
        return self.score_batch([query], [passages])[0]

    def score_batch(
        self, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[PassageScores]]:
        """Return what a call returns for each query; the tokens of all are asked for at once."""
        tokens = self.tokens.token_values(queries, passages)
        return [
            self._of_query([self._words(p, t) for p, t in zip(*pair, strict=True)])
            for pair in zip(passages, tokens, strict=True)
        ]

    def _words(self, passage: Passage, tokens: Sequence[TokenValue]) -> _Words:
        units = word_units(passage)
        spans = [span for of_sentence in units for span in of_sentence]
        rows = [row for row, of_sentence in enumerate(units) for _ in of_sentence]
        texts = [span.of(passage.text).strip() for span in spans]
        forced = [self._is_forced(text) for text in texts]
        values = _values_of(spans, tokens)
        if self.word_value == "first":
            values = [found[:1] for found in values]
        scores = [
            1.0 if stays or not found else self.tokens.unit_score(found)
            for stays, found in zip(forced, values, strict=True)
        ]
        return _Words(spans, rows, texts, scores)

    def _is_forced(self, word: str) -> bool:
        return bool(word) and (
            word in self.force
            or (self.force_digits and any(map(str.isdigit, word)))
            or (self.force_identifiers and is_identifier(word))
        )

    def _of_query(self, found: Sequence[_Words]) -> list[PassageScores]:
        if self.rate is None:
            return [words.scored(words.scores) for words in found]
        groups = [[one] for one in found] if self.scope == "passage" else [found]
        return [scores for group in groups for scores in self._cut(group, self.rate)]

    def _cut(self, group: Sequence[_Words], rate: float) -> list[PassageScores]:
        """Return the scores of passages that share a rate."""
        if rate == 1.0:
            return [
                words.scored([around_half(p, 0.0, kept=True) for p in words.scores])
                for words in group
            ]
        counted = cache(self.count)
        percent = round(100.0 * (1.0 - rate), 9)
        if self.drop_consecutive:
            plain = [(p, 1) for words in group for p, text in words.pairs() if text]
            first = _cut_of(plain, int(percent))
            group = [words.without_repeats(first, self.force) for words in group]
        weighted = [(p, counted(text)) for words in group for p, text in words.pairs() if text]
        cut = _cut_of(weighted, min(100, int(percent + 1.0)))
        return [
            words.scored(
                [around_half(p, cut, kept=p > cut or p == cut == 1.0) for p in words.scores]
            )
            for words in group
        ]


@dataclass(frozen=True, slots=True)
class _Words:
    """The units of a passage.

    Attributes:
        spans: of each unit.
        rows: row of its sentence.
        texts: without white space; empty for the white space that ends a sentence.
        scores: in [0, 1].
    """

    spans: list[Span]
    rows: list[int]
    texts: list[str]
    scores: list[float]

    def pairs(self) -> zip[tuple[float, str]]:
        """Return score and text of each unit."""
        return zip(self.scores, self.texts, strict=True)

    def without_repeats(self, cut: float, force: Sequence[str]) -> _Words:
        """Return the words, forced ones at 0 that repeat the one before with nothing between."""
        scores, before, between = list(self.scores), "", False
        for row, (score, text) in enumerate(self.pairs()):
            if text in force:
                if text == before and not between:
                    scores[row] = 0.0
                before, between = text, False
            elif text:
                between |= score > cut
        return _Words(self.spans, self.rows, self.texts, scores)

    def scored(self, scores: Sequence[float]) -> PassageScores:
        """Return the scores of all units; white space takes the largest of its sentence."""
        best: dict[int, float] = {}
        for row, text, score in zip(self.rows, self.texts, scores, strict=True):
            if text:
                best[row] = max(score, best.get(row, LEAST_SCORE))
        raised = tuple(
            max(LEAST_SCORE, score if text else best.get(row, LEAST_SCORE))
            for row, text, score in zip(self.rows, self.texts, scores, strict=True)
        )
        return PassageScores(raised, spans=tuple(self.spans)) if raised else PassageScores(())


def _cut_of(weighted: Sequence[tuple[float, int]], percent: float) -> float:
    if not any(weight for _, weight in weighted):
        return 0.0
    values, weights = zip(*weighted, strict=True)
    return percentile(values, percent, weights)


def _values_of(spans: Sequence[Span], tokens: Sequence[TokenValue]) -> list[list[float]]:
    """Return the values of the tokens that each span shares a character with.

    A token counts from its first visible character on: many hold the space before a word, and that
    is a part of the word's span.
    """
    starts = [span.start for span in spans]
    values: list[list[float]] = [[] for _ in spans]
    for token in tokens:
        first = bisect_right(starts, token.span.start) - 1
        last = bisect_right(starts, token.span.end - 1) - 1
        for row in range(first, last + 1):
            values[row].append(token.value)
    return values

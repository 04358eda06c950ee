"""Sentence pruning: keep the sentences of retrieved passages that resemble the query."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rag.protocols import Encoder
from rag.records import Budget, Passage, Query, Selection, SentenceScore, Span, text_sha
from rag.text.bm25 import bm25_scores
from rag.text.terms import query_terms, terms

# Above 0, so that the strict `score > threshold` keeps every sentence at threshold 0.
_LEAST = 1e-6


def estimated_tokens(text: str) -> int:
    """Return a text's UTF-8 bytes over three, rounded up.

    English runs at four to five bytes a token and code near three, so this is rather too many.
    """
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / 3)


def sentence_texts(passage: Passage) -> list[str]:
    """Return what stands for each sentence when it is scored: `title: sentence`, stripped.

    A sentence seldom repeats what its passage is about; the title says it.
    """
    lead = f"{passage.title}: " if passage.title else ""
    return [lead + span.of(passage.text).strip() for span in passage.sentences]


@dataclass(frozen=True)
class SentencePruner:
    """Pruner that scores each sentence against the query by vector and by terms.

    `score = w * max(0, cosine) + (1 - w) * BM25 / (largest BM25 of this query)`, in [1e-6, 1], BM25
    over all sentences of the passages given, both parts over title and sentence. A sentence stays
    if its score is strictly above `threshold`: at 0 all stay, and at 1 only what `min_keep` saves.
    Scores depend on the set of passages, not on their order.

    Over gold passages and two near ones, the defaults keep 91, 99 and 96 % of the gold sentences of
    HotpotQA, SQuAD and Natural Questions in 69, 59 and 58 % of the text (tuned on them), and 84 and
    98 % in 53 and 46 % of 2WikiMultihopQA and QED (not tuned on): it is weakest at second hops.

    Attributes:
        encoder: makes the vectors of the query, and of sentences without `sentence_vectors`.
        threshold: at least 0; the score that a sentence must exceed.
        similarity_weight: w, in [0, 1].
        min_keep: best sentences that stay, whatever their score, of the passage that holds the best
            one of all; other passages may become empty. A budget may still take them.
        sentence_vectors: gives the unit vectors, (sentences, dim), that the same encoder made of a
            passage's `sentence_texts`; None encodes them for each query.
        count: tokens of a text, for budgets.
        on_error: what to do when scoring raises: `keep` keeps everything, with a warning; `raise`
            lets it pass.
    """

    encoder: Encoder
    threshold: float = 0.28
    similarity_weight: float = 0.6
    min_keep: int = 1
    sentence_vectors: Callable[[Passage], np.ndarray] | None = None
    count: Callable[[str], int] = estimated_tokens
    on_error: Literal["keep", "raise"] = "keep"

    def __post_init__(self) -> None:
        if not self.threshold >= 0.0:
            raise ValueError(f"threshold must be at least 0, got {self.threshold}")
        if not 0.0 <= self.similarity_weight <= 1.0:
            raise ValueError(f"similarity_weight must be in [0, 1], got {self.similarity_weight}")
        if self.min_keep < 0:
            raise ValueError(f"min_keep must be at least 0, got {self.min_keep}")
        if self.on_error not in {"keep", "raise"}:
            raise ValueError(f"on_error must be 'keep' or 'raise', got {self.on_error!r}")

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[Passage]:
        """Return the same passages, same order, with `kept` attached."""
        selections = self.select(query, passages)
        return [replace(p, kept=s) for p, s in zip(passages, selections, strict=True)]

    def select(
        self, query: Query, passages: Sequence[Passage], *, budget: Budget | None = None
    ) -> list[Selection]:
        """Return one selection a passage, in the passages' order.

        Under a budget, first `per_passage_min` of each passage and then the other kept sentences
        are taken, best first, until one does not fit; that one and all after it go. So a larger
        budget only adds, and `tokens` is never exceeded. Equal scores go by the passage's score,
        its id, and the row.

        Args:
            query: the question.
            passages: retrieved passages; may be empty, as may each.
            budget: the most to keep; None keeps all that the scores keep.

        Raises:
            ValueError: if `sentence_vectors` or the encoder gives no finite vectors of the right
                shape, and `on_error` is `raise`.
        """
        if not any(passage.sentences for passage in passages):
            verdicts: list[list[SentenceScore]] = [[] for _ in passages]
        else:
            try:
                verdicts = self._judge(passages, self._scores(query, passages))
            except Exception as error:
                if self.on_error == "raise":
                    raise
                warnings.warn(
                    f"kept every sentence, as scoring them failed: {error!r}",
                    RuntimeWarning,
                    stacklevel=2,
                )
                verdicts = [
                    [SentenceScore(span, 1.0, kept=True, forced="error") for span in p.sentences]
                    for p in passages
                ]
            if budget is not None:
                verdicts = self._within(budget, passages, verdicts)
        return [
            Selection(p.id, text_sha(p.text), tuple(found), "sentences", self.threshold)
            for p, found in zip(passages, verdicts, strict=True)
        ]

    def _scores(self, query: Query, passages: Sequence[Passage]) -> list[np.ndarray]:
        """Return each passage's sentence scores, float64 (sentences,), in [1e-6, 1]."""
        texts = [sentence_texts(passage) for passage in passages]
        flat = [text for of_passage in texts for text in of_passage]
        scores = np.zeros(len(flat))
        if self.similarity_weight > 0.0:
            scores += self.similarity_weight * self._similarities(query, passages, flat)
        if self.similarity_weight < 1.0:
            found = bm25_scores(query_terms(query.text), [terms(text) for text in flat])
            scores += (1.0 - self.similarity_weight) * np.array(found) / (max(found) or 1.0)
        ends = np.cumsum([len(of_passage) for of_passage in texts])
        return np.split(np.clip(scores, _LEAST, 1.0), ends[:-1])

    def _similarities(
        self, query: Query, passages: Sequence[Passage], texts: list[str]
    ) -> np.ndarray:
        """Return the cosine of query and each sentence, negative ones as 0: float64 (texts,)."""
        asked = self.encoder.encode_queries([query.text])[0]
        if self.sentence_vectors is None:
            vectors = self.encoder.encode(texts)
        else:
            kept = [self.sentence_vectors(p) for p in passages if p.sentences]
            vectors = np.concatenate(kept)
        if vectors.shape != (len(texts), len(asked)):
            raise ValueError(
                f"sentence vectors must be {(len(texts), len(asked))}, got {vectors.shape}"
            )
        cosines: np.ndarray = vectors.astype(np.float64) @ asked.astype(np.float64)
        if not np.isfinite(cosines).all():
            raise ValueError("sentence vectors must be finite, got some that are not")
        cosines[cosines < 0.0] = 0.0
        return cosines

    def _judge(
        self, passages: Sequence[Passage], scores: list[np.ndarray]
    ) -> list[list[SentenceScore]]:
        """Return a verdict on each sentence, before any budget."""
        ranked = _best_first(passages, scores)
        best_passage = ranked[0][0]
        saved = [at for at in ranked if at[0] == best_passage][: self.min_keep]
        return [
            [
                _verdict(span, float(score), score > self.threshold, (place, row) in saved)
                for row, (span, score) in enumerate(zip(passage.sentences, found, strict=True))
            ]
            for place, (passage, found) in enumerate(zip(passages, scores, strict=True))
        ]

    def _within(
        self, budget: Budget, passages: Sequence[Passage], verdicts: list[list[SentenceScore]]
    ) -> list[list[SentenceScore]]:
        """Return the verdicts once the budget has had its say."""
        ranked = _best_first(passages, [[v.score for v in found] for found in verdicts])
        taken: Counter[int] = Counter()
        minimum, others = [], []
        for place, row in ranked:
            if taken[place] < budget.per_passage_min:
                taken[place] += 1
                minimum.append((place, row))
            elif verdicts[place][row].kept:
                others.append((place, row))
        spent: Counter[int] = Counter()  # by passage, or all of it under place -1
        fitting = set()
        for place, row in [*minimum, *others]:
            purse = place if budget.scope == "passage" else -1
            spent[purse] += self.count(verdicts[place][row].span.of(passages[place].text))
            # What did not fit stays counted, so nothing after it fits either.
            if spent[purse] <= budget.tokens:
                fitting.add((place, row))
        return [
            [_budgeted(verdict, (place, row) in fitting) for row, verdict in enumerate(found)]
            for place, found in enumerate(verdicts)
        ]


def _verdict(span: Span, score: float, above: bool, saved: bool) -> SentenceScore:
    forced: Literal["min_keep"] | None = "min_keep" if saved and not above else None
    return SentenceScore(span, score, kept=bool(above or saved), forced=forced)


def _budgeted(verdict: SentenceScore, fits: bool) -> SentenceScore:
    if verdict.kept == fits:
        return verdict
    return replace(verdict, kept=fits, forced="min_keep" if fits else "budget")


def _best_first(
    passages: Sequence[Passage], scores: Sequence[Sequence[float] | np.ndarray]
) -> list[tuple[int, int]]:
    """Return (place of passage, row of sentence) by score, ties by passage score, id and row."""
    return sorted(
        ((place, row) for place, found in enumerate(scores) for row in range(len(found))),
        key=lambda at: (
            -scores[at[0]][at[1]],
            -(passages[at[0]].score or 0.0),
            passages[at[0]].id,
            at[1],
        ),
    )

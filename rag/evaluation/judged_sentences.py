"""What a pruner was given for a question, sentence by sentence, with what is known about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag.evaluation.answers import contains_answer
from rag.evaluation.pruning import count_tokens, gold_rows
from rag.records import Passage, PassageScores, Span


@dataclass(frozen=True, slots=True)
class JudgedSentences:
    """The sentences that a pruner was given for one question.

    Attributes:
        scores: of each sentence, of all passages in turn.
        gold: whether the question needs it.
        tokens: words and punctuation marks of each.
        characters: code points of each.
        answer_score: an accepted answer is kept at the thresholds below this; None if no passage
            holds one.
    """

    scores: tuple[float, ...]
    gold: tuple[bool, ...]
    tokens: tuple[int, ...]
    characters: tuple[int, ...]
    answer_score: float | None = None

    def __post_init__(self) -> None:
        sizes = [len(self.scores), len(self.gold), len(self.tokens), len(self.characters)]
        if len(set(sizes)) > 1:
            listed = ", ".join(map(str, sizes))
            raise ValueError(f"scores, gold, tokens and characters must be as many, got {listed}")


def judged_sentences(
    passages: Sequence[Passage],
    scores: Sequence[Sequence[float]],
    supporting: Mapping[str, Sequence[int]],
    answers: Sequence[str] = (),
) -> JudgedSentences:
    """Return the sentences of a question's passages with their scores.

    Args:
        passages: what the pruner was given.
        scores: of each passage's sentences.
        supporting: gold sentences by document, as rows from 0.
        answers: accepted answers.

    Raises:
        EvaluationDataError: if a gold row is past a passage's last sentence.
        ValueError: if there are not as many scores as sentences.
    """
    for passage, found in zip(passages, scores, strict=True):
        if len(found) != len(passage.sentences):
            raise ValueError(
                f"scores of {passage.id!r} must be {len(passage.sentences)}, got {len(found)}"
            )
    spans = [(passage.text, span) for passage in passages for span in passage.sentences]
    gold = [(gold_rows(passage, supporting), len(passage.sentences)) for passage in passages]
    answer_scores = [
        at
        for passage, found in zip(passages, scores, strict=True)
        if answers and (at := _answer_score(passage, found, answers)) is not None
    ]
    return JudgedSentences(
        scores=tuple(float(score) for found in scores for score in found),
        gold=tuple(row in rows for rows, count in gold for row in range(count)),
        tokens=tuple(count_tokens(span.of(text)) for text, span in spans),
        characters=tuple(len(span) for _, span in spans),
        answer_score=max(answer_scores, default=None),
    )


def scores_of_pruned(passages: Sequence[Passage]) -> list[tuple[float, ...]]:
    """Return the scores of each passage's sentences that its pruner left in `kept`.

    Words of a sentence give it their mean; the sentences of a passage that no pruner saw have 1.
    """
    return [
        (1.0,) * len(passage.sentences)
        if passage.kept is None
        else _of_sentences(
            passage,
            [one.score for one in passage.kept.sentences],
            [one.span for one in passage.kept.sentences],
        )
        for passage in passages
    ]


def scores_of_scorer(passage: Passage, found: PassageScores) -> tuple[float, ...]:
    """Return a scorer's scores of a passage's sentences; words give theirs their mean."""
    if found.spans is None:
        return tuple(found.sentences)
    return _of_sentences(passage, found.sentences, found.spans)


def _of_sentences(
    passage: Passage, scores: Sequence[float], spans: Sequence[Span]
) -> tuple[float, ...]:
    if tuple(spans) == passage.sentences:
        return tuple(scores)
    means = []
    for sentence in passage.sentences:
        inside = [
            score
            for score, span in zip(scores, spans, strict=True)
            if sentence.start <= span.start < sentence.end
        ]
        means.append(sum(inside) / len(inside) if inside else 1.0)
    return tuple(means)


def _answer_score(
    passage: Passage, scores: Sequence[float], answers: Sequence[str]
) -> float | None:
    """Return the score below which a threshold keeps an answer of the passage.

    The text kept is read at each different score, the highest first; what is found there counts as
    found at all lower ones.
    """
    if not contains_answer(passage.text, answers):
        return None
    for level in sorted(set(scores), reverse=True):
        pairs = zip(passage.sentences, scores, strict=True)
        text = "".join(span.of(passage.text) for span, score in pairs if score >= level)
        if contains_answer(text, answers):
            return float(level)
    return None

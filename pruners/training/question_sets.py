"""Question sets: labelled passages as a retriever would bring them, several to a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pruners.training.labelled import LabelledPassage
from pruners.training.split import question_key

_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """A question and the passages that stand together when its sentences are scored.

    Attributes:
        question: what is asked.
        rows: the passages, as rows of the examples.
        gold: for each passage the rows of its gold sentences; empty for one that does not help.
    """

    question: str
    rows: tuple[int, ...]
    gold: tuple[frozenset[int], ...]


def given_sets(examples: Sequence[LabelledPassage]) -> list[QuestionSet]:
    """Return one set a question, of the passages that the data gives it, in the data's order."""
    asked: dict[str, list[int]] = {}
    for row, one in enumerate(examples):
        asked.setdefault(question_key(one.question), []).append(row)
    return [
        QuestionSet(
            examples[rows[0]].question,
            tuple(rows),
            tuple(examples[row].gold for row in rows),
        )
        for rows in asked.values()
    ]


def with_near_passages(
    sets: Sequence[QuestionSet],
    examples: Sequence[LabelledPassage],
    questions: np.ndarray,
    passages: np.ndarray,
    counts: Sequence[int],
) -> list[QuestionSet]:
    """Return the sets with the nearest passages of other questions added, none of them gold.

    A passage is left out that holds an answer to the question, or a text that the set has already,
    since nobody labelled it for this question.

    Args:
        sets: of the examples.
        examples: labelled passages.
        questions: unit vectors of the sets' questions, float32 (sets, dim).
        passages: vectors of the examples' passages, float32 (examples, dim).
        counts: how many to add to each set; fewer are added where there are no more.
    """
    texts = [one.text.casefold() for one in examples]
    first = list({one.key: row for row, one in reversed(list(enumerate(examples)))}.values())
    candidates = np.array(sorted(first), np.int64)
    near = passages[candidates]
    grown = []
    for start in range(0, len(sets), _CHUNK):
        scores = questions[start : start + _CHUNK] @ near.T
        for of_set, found, wanted in zip(
            sets[start : start + _CHUNK], scores, counts[start : start + _CHUNK], strict=True
        ):
            order = candidates[np.argsort(-found, kind="stable")[: 4 * wanted + 16]]
            grown.append(_grown(of_set, examples, texts, order.tolist(), wanted))
    return grown


def _grown(
    of_set: QuestionSet,
    examples: Sequence[LabelledPassage],
    texts: Sequence[str],
    order: Sequence[int],
    wanted: int,
) -> QuestionSet:
    has = {examples[row].key for row in of_set.rows}
    answers = {a.casefold() for row in of_set.rows for a in examples[row].answers}
    answers -= {"yes", "no", ""}
    added: list[int] = []
    for row in order:
        if len(added) == wanted:
            break
        if examples[row].key in has or any(answer in texts[row] for answer in answers):
            continue
        added.append(row)
    return QuestionSet(
        of_set.question,
        (*of_set.rows, *added),
        (*of_set.gold, *(frozenset[int]() for _ in added)),
    )

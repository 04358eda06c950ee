"""Evidence: whether what was retrieved can answer a question, without asking a model."""

from __future__ import annotations

from collections.abc import Sequence

from rag.evaluation.answers import contains_answer
from rag.evaluation.data import Question
from rag.records import Passage


def evidence_score(question: Question, passages: Sequence[Passage]) -> float:
    """Return how much of the evidence for an answer is in some passages, in [0, 1].

    It is the mean of what is known: the recall of the documents that hold evidence, and whether an
    accepted answer's words stand in a passage (1 or 0), unbroken and normalised as exact match
    normalises. Where the documents are known, only their passages count for the second: a `yes` or
    a `2` stands in many others. Titles count, as they are read.

    Args:
        question: with answers, or documents that hold evidence.
        passages: what is read for it.

    Raises:
        ValueError: if neither is known of the question.
    """
    gold = question.gold_documents
    known = []
    if gold:
        known.append(len(gold & {one.document for one in passages}) / len(gold))
    if question.answers:
        read = [one for one in passages if not gold or one.document in gold]
        found = (contains_answer(one.searchable, question.answers) for one in read)
        known.append(max(found, default=0.0))
    if not known:
        raise ValueError(
            f"a question must have answers or gold documents to be judged by, got neither for "
            f"{question.id!r}"
        )
    return sum(known) / len(known)

"""Scores of a route: the evidence that it finds, or the answer that a model makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag.evaluation.answers import token_f1
from rag.evaluation.evidence_score import evidence_score
from rag.evaluation.outcomes import answer_text
from rag.records import Passage, Query
from rag.routing.decision import NONE

if TYPE_CHECKING:
    from pipelines.flow.pipeline import Pipeline
    from rag.evaluation.data import Question

READ = ("prune.features", "generate.cached")
RECALL = ("generate.sentence", "generate.append", "generate.assemble")
"""Steps that answer without a passage."""


def evidence(
    questions: Sequence[Question], _route: str, passages: Sequence[Sequence[Passage]]
) -> list[float]:
    """Return the evidence in the passages of each question; no model is asked."""
    pairs = zip(questions, passages, strict=True)
    return [evidence_score(question, read) for question, read in pairs]


@dataclass(frozen=True, slots=True)
class AnswerF1:
    """Token F1 of the answer that a model gives, from passages or, for `none`, without any.

    An answer from passages that abstains counts as an empty one.

    Attributes:
        read: pipeline from `query` and `passages` to `answer`.
        recall: pipeline from `query` to `answer`.
    """

    read: Pipeline
    recall: Pipeline

    @classmethod
    def of(cls, *, lm: Any, index: Any) -> AnswerF1:
        """Return what asks a model, reading as the recipes do.

        Args:
            lm: the resource, open or how to open it.
            index: the resource with the KV of passages.
        """
        from pipelines.flow.pipeline import Pipeline

        given = {"query": "Query", "passages": "list[Passage]"}
        read = Pipeline("read", READ, inputs=given).bind(lm=lm, index=index)
        recall = Pipeline("recall", RECALL).bind(lm=lm, index=index)
        return cls(read.require_valid(), recall.require_valid())

    def __call__(
        self, questions: Sequence[Question], route: str, passages: Sequence[Sequence[Passage]]
    ) -> list[float]:
        """Return the F1 of each answer.

        Raises:
            StepFailedError: if the model cannot answer a question.
        """
        queries = [Query(question.text) for question in questions]
        if route == NONE:
            found = self.recall.batch([{"query": query} for query in queries])
            # An answer that nothing supports abstains, and without passages nothing does.
            said = [one.answer.text for one in found]
        else:
            pairs = zip(queries, passages, strict=True)
            found = self.read.batch([{"query": q, "passages": list(p)} for q, p in pairs])
            said = [answer_text(one.answer) for one in found]
        pairs_ = zip(said, questions, strict=True)
        return [token_f1(text, question.answers) for text, question in pairs_]

"""Choice: which questions of a source are learned from, and why the others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from pipelines.adapting.left_out import LeftOut
from pipelines.adapting.questions import AskedQuestion, labelled_questions, limited
from pruners.training.labelled import LabelledPassage
from pruners.training.split import question_key
from rag.adaptation.examples import ReadingExample


@dataclass
class Choice:
    """Chooses what is learned from, source after source, and counts the rest.

    Attributes:
        apart: what is not learned from.
        without_answers: whether a question may have no answer without being unanswerable.
        only: ids of the questions to take, if not all.
        refusals: share of unanswerable questions in a data set; examples that were prepared have
            theirs, and `only` alone overrules it, too.
        limit: the most questions of a data set in a source.
        seed: of the samples.
        left: questions that were not chosen, by reason; those outside `only` and the samples aside.
        seen: `question_key` of what was chosen so far, samples aside.
    """

    apart: LeftOut
    without_answers: bool
    only: Collection[str] | None
    refusals: float
    limit: int | None
    seed: int
    left: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)

    def __call__(self, questions: Sequence[AskedQuestion]) -> list[AskedQuestion]:
        """Return a source's questions to learn from, in their order."""
        return self._chosen(questions, self.refusals)

    def _chosen(
        self, questions: Sequence[AskedQuestion], refusals: float | None
    ) -> list[AskedQuestion]:
        kept = []
        for question in questions:
            if self.only is not None and question.id not in self.only:
                continue
            reason = self._reason(question)
            if reason is None:
                kept.append(question)
            else:
                self.left[reason] += 1
        if self.only is not None and self.limit is None:
            return kept
        return limited(kept, refusals=refusals, limit=self.limit, seed=self.seed)

    def of_rows(self, rows: Sequence[LabelledPassage]) -> list[AskedQuestion]:
        """Return the questions of labelled passages to learn from."""
        questions = labelled_questions(rows)
        asked = {question_key(row.question) for row in rows}
        if self.only is None:
            self.left["no gold passage"] += len(asked) - len(questions)
        return self(questions)

    def of_examples(self, examples: Sequence[ReadingExample]) -> list[ReadingExample]:
        """Return the prepared examples to learn from."""
        questions = [
            AskedQuestion(
                id=one.id,
                data=one.data,
                text=one.query.text,
                answers=one.answers,
                must=one.gold_passages,
                unanswerable=one.unanswerable,
            )
            for one in examples
        ]
        kept = {(one.data, one.id) for one in self._chosen(questions, None)}
        return [one for one in examples if (one.data, one.id) in kept]

    def _reason(self, question: AskedQuestion) -> str | None:
        if not (question.answers or question.unanswerable or self.without_answers):
            return "no answer"
        reason = self.apart.reason(question.text, question.must)
        if reason is None:
            key = question_key(question.text)
            if key in self.seen:
                return "asked before"
            self.seen.add(key)
        return reason

"""Stability: whether another round changed the answer."""

from dataclasses import dataclass

from rag.records import Answer, Judgement
from rag.text.normalise import normalised_answer


@dataclass(frozen=True, slots=True)
class AnswerStable:
    """Passes if this round's answer says the same as that of the round before.

    Answers are the same if they differ in case, punctuation, articles or white space only; two
    empty ones are. The first round is never stable.
    """

    def __call__(self, answer: Answer, previous: Answer | None = None) -> Judgement:
        """Judge; the score is 1 for the same answer, else 0.

        Args:
            answer: of this round.
            previous: of the round before; None in the first.
        """
        if previous is None:
            return Judgement(passed=False, score=0.0, reason="no answer to compare with")
        same = normalised_answer(answer.text) == normalised_answer(previous.text)
        reason = "the same answer as before" if same else "another answer than before"
        return Judgement(same, float(same), reason)

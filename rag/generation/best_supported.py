"""Of several answers, the one that its passages support best."""

from collections.abc import Sequence
from dataclasses import dataclass

from rag.records import Answer


@dataclass(frozen=True)
class BestSupported:
    """Keeps the answer whose sentences are supported best; ties go to the earlier one.

    An answer's support is the mean over its sentences of their citation's score, 0 for a sentence
    without one. It stands in for the critique tokens of Self-RAG, which need a trained model.
    Source: arXiv:2310.11511.
    """

    def __call__(self, answers: Sequence[Answer]) -> Answer:
        """Return one of the answers, as it is.

        Args:
            answers: may all be unsupported; without any, the result abstains.
        """
        if not answers:
            return Answer("", abstained=True)
        return max(enumerate(answers), key=lambda at: (support(at[1]), -at[0]))[1]


def support(answer: Answer) -> float:
    """Return the mean support of an answer's sentences, in [0, 1]; 0 for an empty answer."""
    scores = [citation.score for citation in answer.citations]
    sentences = len(scores) + len(answer.unsupported)
    return sum(scores) / sentences if sentences else 0.0

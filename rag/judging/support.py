"""Support: how much of an answer its citations cover."""

from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.records import Answer, Judgement
from rag.text.sentences import split_sentences


@dataclass(frozen=True, slots=True)
class Support:
    """Passes an answer of which enough sentences have a citation.

    It reads the citations that the framework attributed, where the source trains a model to write
    ISSUP tokens. An empty answer has nothing supported: it fails with score 0.
    Source: Asai et al. 2023 (Self-RAG's ISSUP), arXiv:2310.11511.

    Attributes:
        threshold: least share of sentences, in [0, 1]; by default all of them.
    """

    threshold: Annotated[float, Bounds(low=0, high=1)] = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}")

    def __call__(self, answer: Answer) -> Judgement:
        """Judge; the score is the share of sentences that a citation overlaps."""
        sentences = split_sentences(answer.text)
        if not sentences:
            return Judgement(passed=False, score=0.0, reason="the answer is empty")
        cited = sum(
            any(c.answer_start < s.end and s.start < c.answer_end for c in answer.citations)
            for s in sentences
        )
        share = cited / len(sentences)
        reason = f"{cited} of {len(sentences)} sentences have a citation"
        return Judgement(share >= self.threshold, share, reason)

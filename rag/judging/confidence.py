"""Confidence: whether a model was sure of every word that it wrote."""

from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.judging.token_probabilities import telling_tokens
from rag.records import Completion, Judgement


@dataclass(frozen=True, slots=True)
class Confidence:
    """Passes a completion whose least probable token reaches a threshold.

    Tokens of white space and punctuation alone do not count; an empty completion passes with score
    1, as nothing in it is doubted.
    Source: Jiang et al. 2023 (FLARE), arXiv:2305.06983.

    Attributes:
        threshold: least probability, in [0, 1]. The source sets it by task; the default is low, as
            small models are seldom sure, and is not tuned.
    """

    threshold: Annotated[float, Bounds(low=0, high=1)] = 0.2

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}")

    def __call__(self, completion: Completion) -> Judgement:
        """Judge; the score is the least token probability.

        Raises:
            ValueError: if there is a text, but the model told no probabilities.
        """
        found = telling_tokens(completion)
        if not found:
            return Judgement(passed=True, score=1.0, reason="nothing was written")
        token, least = min(found, key=lambda one: one[1])
        reason = f"least probable token {token.strip()!r} has {least:.2f}"
        return Judgement(least >= self.threshold, least, reason)

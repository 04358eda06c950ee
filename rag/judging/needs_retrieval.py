"""Needs retrieval: whether a model's answer from memory is too doubtful to be trusted."""

from dataclasses import dataclass
from typing import Annotated

from rag.bounds import Bounds
from rag.judging.token_probabilities import telling_tokens
from rag.records import Completion, Judgement


@dataclass(frozen=True, slots=True)
class NeedsRetrieval:
    """Passes, meaning "retrieve", if a draft written without passages has a low mean probability.

    Training-free stand-in for the source's Retrieve token, which its models are trained to write.
    Tokens of white space and punctuation alone do not count; an empty draft needs retrieval.
    Source: Asai et al. 2023 (Self-RAG), arXiv:2310.11511.

    Attributes:
        threshold: mean token probability that makes retrieval needless, in [0, 1]; at 1 all but
            certain drafts need it, at 0 only empty ones do. The default is not tuned.
    """

    threshold: Annotated[float, Bounds(low=0, high=1)] = 0.9

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}")

    def __call__(self, completion: Completion) -> Judgement:
        """Judge a draft; the score is the doubt, 1 minus the mean token probability.

        Raises:
            ValueError: if there is a text, but the model told no probabilities.
        """
        found = telling_tokens(completion)
        if not found:
            return Judgement(passed=True, score=1.0, reason="no draft, so retrieve")
        mean = sum(probability for _, probability in found) / len(found)
        needed = mean < self.threshold
        reason = f"mean token probability is {mean:.2f}, so {'' if needed else 'do not '}retrieve"
        return Judgement(needed, 1.0 - mean, reason)

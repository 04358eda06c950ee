"""What the authors of a checkpoint publish beside its weights."""

from __future__ import annotations

from dataclasses import dataclass

from pruners.provence.rounding import Rounding
from pruners.provence.scorer import Rerank


@dataclass(frozen=True, slots=True)
class Published:
    """Recommended settings of a checkpoint; whoever uses it may choose others.

    Attributes:
        threshold: the score that a sentence must exceed.
        rounding: how token probabilities become a sentence's score.
        rerank: what a passage's own score is.
        languages: ISO 639-1 codes that it was trained for; none where they are many.
        licence: of the weights, as an SPDX identifier in lower case.
        window: most tokens of a block; fewer where the trunk has fewer positions.
        always_select_title: whether a passage's first sentence stays where any sentence stays.
        verbatim: whether sentences are read with their own white space.
    """

    threshold: float
    rounding: Rounding
    rerank: Rerank
    languages: tuple[str, ...]
    licence: str
    window: int = 512
    always_select_title: bool = False
    verbatim: bool = False

"""Routing by a language model: which label it finds the most probable after the question."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

from rag.protocols import TextModel
from rag.records import Query, Route
from rag.routing.decision import chosen_labels
from rag.routing.labels import DESCRIPTIONS, MODALITIES
from rag.text.template import one_line

Correction = Literal["none", "content_free", "batch"]
CONTENT_FREE = "N/A"
"""Stands in place of a question to see what a model says of none."""


@dataclass(frozen=True)
class LMRouter:
    """Routes a question to the label that a language model continues the prompt with.

    The prompt lists the labels with their descriptions and some examples. A label's score is the
    log-probability of a space and its text; probabilities are their softmax. Models favour some
    labels whatever they read: `content_free` subtracts the scores for "N/A" (contextual
    calibration), `batch` the mean scores over the questions asked in the same call (batch
    calibration), which needs several. Use it with models of some billion parameters: the default
    one of 135 million does no better than chance without examples.
    Sources: Zhao et al. 2021, arXiv:2102.09690; Zhou et al. 2024, arXiv:2309.17249.

    Attributes:
        lm: gives log-probabilities.
        descriptions: label to what it answers; of several texts the first is shown.
        examples: label to questions that it answers; may be empty, or leave labels out.
        correction: of the scores.
        modalities: of labels; one that is not there is a modality of its own.

    Raises:
        ValueError: for fewer than two labels, an example of an unknown label or an unknown
            correction.
    """

    lm: TextModel
    descriptions: Mapping[str, str | Sequence[str]] = field(
        default_factory=lambda: dict(DESCRIPTIONS)
    )
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    correction: Correction = "content_free"
    modalities: Mapping[str, str] = field(default_factory=lambda: dict(MODALITIES))

    def __post_init__(self) -> None:
        if len(self.descriptions) < 2:
            raise ValueError(
                f"descriptions must hold at least 2 labels, got {list(self.descriptions)}"
            )
        unknown = sorted(self.examples.keys() - self.descriptions.keys())
        if unknown:
            raise ValueError(
                f"examples must be of labels {', '.join(self.descriptions)}, got {unknown[0]!r}"
            )
        if self.correction not in get_args(Correction):
            raise ValueError(
                f"correction must be one of {', '.join(get_args(Correction))}, got "
                f"{self.correction!r}"
            )

    def __call__(self, query: Query) -> Route:
        """Return the most probable label.

        Raises:
            NotImplementedError: if the model does not tell log-probabilities.
        """
        return self.batch(query=[query])[0]

    def batch(self, query: Sequence[Query]) -> list[Route]:
        """Return the route of each query; with the correction `batch` they depend on each other."""
        scores = [self._scores(one.text) for one in query]
        if self.correction == "content_free" and scores:
            offsets = self._content_free
        elif self.correction == "batch" and len(scores) > 1:
            offsets = [sum(column) / len(scores) for column in zip(*scores, strict=True)]
        else:
            offsets = [0.0] * len(self.descriptions)
        return [
            self._route([s - offset for s, offset in zip(row, offsets, strict=True)])
            for row in scores
        ]

    def prompt(self, text: str) -> str:
        """Return what the model reads of a question, up to where the label goes."""
        listed = [
            f"{label}: {one_line(told if isinstance(told, str) else told[0])}"
            for label, told in self.descriptions.items()
        ]
        shown = [
            f"Question: {one_line(question)}\nSource: {label}"
            for label, questions in self.examples.items()
            for question in questions
        ]
        asked = f"Question: {one_line(text)}\nSource:"
        head = "Which source answers the question?\n\n" + "\n".join(listed)
        return "\n\n".join([head, *shown, asked])

    def _scores(self, text: str) -> list[float]:
        """Return the log-probability of each label, less what they have in common."""
        found = self.lm.logprobs(self.prompt(text), [f" {label}" for label in self.descriptions])
        top = max(found)
        among = top + math.log(sum(math.exp(score - top) for score in found))
        return [score - among for score in found]

    @cached_property
    def _content_free(self) -> list[float]:
        return self._scores(CONTENT_FREE)

    def _route(self, scores: Sequence[float]) -> Route:
        top = max(scores)
        grown = [math.exp(score - top) for score in scores]
        probs = {
            label: one / sum(grown) for label, one in zip(self.descriptions, grown, strict=True)
        }
        return Route(chosen_labels(probs, self.modalities), probs, "lm")

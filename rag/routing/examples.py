"""Examples routing: the label of the labelled questions that are the closest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

from rag.bounds import Bounds
from rag.protocols import Encoder
from rag.records import Query, Route
from rag.routing.decision import chosen_labels
from rag.routing.labels import MODALITIES

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ExampleRouter:
    """Routes a question as its nearest examples are labelled, each weighted by its cosine.

    The probability of a label is the sum of `softmax(cosine / temperature)` of its examples among
    the `k` nearest of all; ties go to the earlier example. With `k` 0 each label is one example,
    the mean of its examples' vectors (prototypes), which needs fewer of them.

    Attributes:
        encoder: makes the vectors of questions and examples.
        examples: label to questions that it answers, at least one each.
        k: neighbours that count, or 0 for prototypes.
        temperature: of the weights, above 0.
        trust: cosine to the nearest example below which a route is a fallback, in [-1, 1].
        modalities: of labels; one that is not there is a modality of its own.

    Raises:
        ValueError: for no label, a label without an example, or a number outside its range.
    """

    encoder: Encoder
    examples: Mapping[str, Sequence[str]]
    k: Annotated[int, Bounds(low=0)] = 20
    temperature: Annotated[float, Bounds(low=0, open_low=True)] = 0.05
    trust: Annotated[float, Bounds(low=-1, high=1)] = 0.3
    modalities: Mapping[str, str] = field(default_factory=lambda: dict(MODALITIES))

    def __post_init__(self) -> None:
        if not self.examples:
            raise ValueError("examples must hold at least one label, got none")
        for label, texts in self.examples.items():
            if isinstance(texts, str) or not texts or not all(text.strip() for text in texts):
                raise ValueError(
                    f"examples[{label!r}] must be a list of questions, none empty, got {texts!r}"
                )
        if self.k < 0:
            raise ValueError(f"k must be at least 0, got {self.k}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if not -1.0 <= self.trust <= 1.0:
            raise ValueError(f"trust must be in [-1, 1], got {self.trust}")

    def __call__(self, query: Query) -> Route:
        """Return the label with the probability of every label."""
        return self.batch(query=[query])[0]

    def batch(self, query: Sequence[Query]) -> list[Route]:
        """Return what a call returns for each query; all are encoded in one call."""
        if not query:
            return []
        import numpy as np

        vectors, owners = self._known
        asked = self.encoder.encode_queries([one.text for one in query]).astype(np.float64)
        return [self._route(row, owners) for row in asked @ vectors.T]

    def _route(self, cosines: np.ndarray, owners: np.ndarray) -> Route:
        import numpy as np

        nearest = np.argsort(-cosines, kind="stable")[: self.k or len(cosines)]
        weights = np.exp((cosines[nearest] - cosines[nearest[0]]) / self.temperature)
        shares = np.bincount(owners[nearest], weights, minlength=len(self.examples))
        probs = dict(zip(self.examples, (shares / weights.sum()).tolist(), strict=True))
        far = bool(cosines[nearest[0]] < self.trust)
        return Route(chosen_labels(probs, self.modalities), probs, "examples", far)

    @cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors of examples or prototypes, (m, dim), and the row of each one's label."""
        import numpy as np

        texts = [text for of_label in self.examples.values() for text in of_label]
        vectors = self.encoder.encode_queries(texts).astype(np.float64)
        counts = [len(of_label) for of_label in self.examples.values()]
        owners = np.repeat(np.arange(len(counts)), counts)
        if self.k:
            return vectors, owners
        means = np.stack([vectors[owners == row].mean(axis=0) for row in range(len(counts))])
        norms = np.linalg.norm(means, axis=1, keepdims=True)
        return means / np.where(norms > 0, norms, 1.0), np.arange(len(counts))

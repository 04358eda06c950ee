"""Descriptions routing: the label whose description is the closest to the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

from rag.bounds import Bounds
from rag.protocols import Encoder
from rag.records import Query, Route
from rag.routing.calibration import fitted_temperature, probabilities
from rag.routing.decision import chosen_labels
from rag.routing.labels import DESCRIPTIONS, MODALITIES

if TYPE_CHECKING:
    import numpy as np

    from rag.routing.labelled_queries import LabelledQuery


@dataclass(frozen=True)
class DescriptionRouter:
    """Routes a question to the label with the closest description, by cosine; it learns nothing.

    It works on the first day and is weak: bring labelled queries and train `route.classifier`.
    Probabilities are the softmax of each label's largest cosine over the temperature.

    Attributes:
        encoder: makes the vectors of questions and descriptions.
        descriptions: label to one description or several of what it answers; by default those of
            the usual corpora.
        temperature: of the softmax, above 0; cosines differ by little, so it is small.
            `fitted_to` finds one by labelled queries.
        modalities: of labels; one that is not there is a modality of its own.

    Raises:
        ValueError: for no label, a label without a description, or a temperature of 0 or less.
    """

    encoder: Encoder
    descriptions: Mapping[str, str | Sequence[str]] = field(
        default_factory=lambda: dict(DESCRIPTIONS)
    )
    temperature: Annotated[float, Bounds(low=0, open_low=True)] = 0.05
    modalities: Mapping[str, str] = field(default_factory=lambda: dict(MODALITIES))

    def __post_init__(self) -> None:
        if not self.descriptions:
            raise ValueError("descriptions must hold at least one label, got none")
        for label, texts in self.descriptions.items():
            if not _texts(texts) or not all(text.strip() for text in _texts(texts)):
                raise ValueError(
                    f"descriptions[{label!r}] must be one text or more, none empty, got {texts!r}"
                )
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")

    def __call__(self, query: Query) -> Route:
        """Return the label with the probability of every label."""
        return self.batch(query=[query])[0]

    def batch(self, query: Sequence[Query]) -> list[Route]:
        """Return what a call returns for each query; all are encoded in one call."""
        if not query:
            return []
        probs = probabilities(self.cosines([one.text for one in query]), self.temperature)
        found = []
        for row in probs.tolist():
            of_label = dict(zip(self.descriptions, row, strict=True))
            labels = chosen_labels(of_label, self.modalities)
            found.append(Route(labels, of_label, "descriptions"))
        return found

    def cosines(self, texts: Sequence[str]) -> np.ndarray:
        """Return the largest cosine of each query with a description of each label, (n, labels)."""
        import numpy as np

        asked = self.encoder.encode_queries(texts).astype(np.float64)
        return np.stack([(asked @ of_label.T).max(axis=1) for of_label in self._described], axis=1)

    def fitted_to(self, queries: Sequence[LabelledQuery]) -> DescriptionRouter:
        """Return the same router with the temperature that suits labelled queries best.

        Args:
            queries: at least one; each needs a label that is described.

        Raises:
            ValueError: if a query has none.
        """
        from dataclasses import replace

        import numpy as np

        rows = [[label in one.labels for label in self.descriptions] for one in queries]
        for one, row in zip(queries, rows, strict=True):
            if not any(row):
                raise ValueError(
                    f"query {one.id!r} needs a label among {', '.join(self.descriptions)}, got "
                    f"{', '.join(one.labels)}"
                )
        logits = self.cosines([one.text for one in queries])
        wanted = np.array(rows, np.float64)
        return replace(self, temperature=fitted_temperature(logits, wanted))

    @cached_property
    def _described(self) -> list[np.ndarray]:
        """Vectors of each label's descriptions, (descriptions, dim)."""
        import numpy as np

        return [
            self.encoder.encode_queries(list(_texts(texts))).astype(np.float64)
            for texts in self.descriptions.values()
        ]


def _texts(found: str | Sequence[str]) -> Sequence[str]:
    return (found,) if isinstance(found, str) else found

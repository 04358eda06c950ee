"""Classifier routing: logistic heads that were trained on labelled queries, in numpy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.errors import RouterError
from rag.protocols import Encoder
from rag.records import Query, Route
from rag.routing.calibration import probabilities
from rag.routing.decision import chosen_labels
from rag.routing.labels import MODALITIES
from rag.routing.nearness import nearest_cosine

if TYPE_CHECKING:
    import numpy as np

    from rag.routing.heads import Heads

SOURCE = "classifier"


@dataclass(frozen=True, eq=False)
class RouteClassifier:
    """Routes a question by averaged logistic heads over its vector, its words and its characters.

    Probabilities are calibrated by a temperature. A question that is far from all that the router
    learned from is marked as a fallback: an ensemble asks somebody else, and a policy may take
    more corpora. `rag.routing.training.train_router` makes one; it learns the style of its training
    queries as much as their needs, so train it on the questions that your users ask.
    Source: the trained router of Yeo et al. 2025 (UniversalRAG), arXiv:2504.20734, with linear
    heads in place of language models.

    Attributes:
        encoder: makes the vectors of questions; the one that the router was trained with.
        labels: all that it knows, in the order of logits.
        heads: the trained part.
        known: unit vectors of training queries, float32 (m, dim).
        temperature: of the calibration, above 0.
        trust: cosine to the nearest training query below which a route is a fallback, in [-1, 1].
        modalities: of labels; one that is not there is a modality of its own.
        multi_label: whether a question may need several labels.
        threshold: least probability of one of several labels, in [0, 1].
        encoder_name: of the encoder in training.
        encoder_fingerprint: of the encoder in training.
        about: how it was made: data, seed, figures and whatever else JSON can say.

    Raises:
        RouterError: if it was trained with another encoder.
        ValueError: if a number is outside its range.
    """

    encoder: Encoder
    labels: tuple[str, ...]
    heads: Heads
    known: np.ndarray
    encoder_name: str
    encoder_fingerprint: str
    temperature: float = 1.0
    trust: float = -1.0
    modalities: Mapping[str, str] = field(default_factory=lambda: dict(MODALITIES))
    multi_label: bool = False
    threshold: float = 0.5
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.encoder.fingerprint != self.encoder_fingerprint:
            raise RouterError(
                f"the router was trained with encoder {self.encoder_name!r} "
                f"({self.encoder_fingerprint[:12]}), got {self.encoder.name!r} "
                f"({self.encoder.fingerprint[:12]}); use that encoder, or train it again: "
                "dovetail router train QUERIES -o ROUTER"
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        for name, low in (("trust", -1.0), ("threshold", 0.0)):
            if not low <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [{low:g}, 1], got {getattr(self, name)}")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that routes depend on, the encoder included, in hex."""
        import json

        from rag.routing.classifier_file import tensors_of, written_settings

        settings = {
            name: value for name, value in written_settings(self).items() if name != "about"
        }
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for name, tensor in sorted(tensors_of(self).items()):
            digest.update(name.encode() + tensor.tobytes())
        return digest.hexdigest()

    def __call__(self, query: Query) -> Route:
        """Return the best label, or where several are allowed those that reach the threshold."""
        return self.batch(query=[query])[0]

    def batch(self, query: Sequence[Query]) -> list[Route]:
        """Return what a call returns for each query; all are encoded in one call."""
        if not query:
            return []
        texts = [one.text for one in query]
        return self.routes(texts, self.encoder.encode_queries(texts))

    def routes(self, texts: Sequence[str], vectors: np.ndarray) -> list[Route]:
        """Return the routes of queries that are encoded already.

        Args:
            texts: n.
            vectors: unit vectors of the same, (n, dim), by the router's encoder.

        Raises:
            ValueError: if the vectors have another shape.
        """
        expected = (len(texts), self.known.shape[1])
        if vectors.shape != expected:
            raise ValueError(f"vectors must be of shape {expected}, got {vectors.shape}")
        logits = self.heads.logits(texts, vectors)
        probs = probabilities(logits, self.temperature, independent=self.multi_label)
        near = nearest_cosine(vectors, self.known)
        return [
            self._route(
                dict(zip(self.labels, row, strict=True)), fallback=bool(cosine < self.trust)
            )
            for row, cosine in zip(probs.tolist(), near, strict=True)
        ]

    def _route(self, probs: dict[str, float], *, fallback: bool) -> Route:
        threshold = self.threshold if self.multi_label else None
        labels = chosen_labels(probs, self.modalities, threshold=threshold)
        return Route(labels, probs, SOURCE, fallback)

    def save(self, folder: Path) -> None:
        """Write `router.safetensors` and `config.json` into a folder, made if need be."""
        from rag.routing.classifier_file import save_classifier

        save_classifier(self, folder)

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> RouteClassifier:
        """Read a router.

        Args:
            folder: that `save` wrote.
            encoder: the one that it was trained with.

        Raises:
            RouterError: if the folder holds none, it is damaged, or the encoder is another one.
        """
        from rag.routing.classifier_file import load_classifier

        return load_classifier(folder, encoder)

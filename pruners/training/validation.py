"""Validation of a model in training: how well one threshold prunes pairs that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pruners.provence.rounding import LEAST
from pruners.training.augment import TrainingPair
from pruners.training.items import Caps, batch_of, items_of
from rag.evaluation.judged_sentences import JudgedSentences
from rag.evaluation.pruning_curve import Cut, PruningCurve
from rag.training.precision import Precision, autocast

if TYPE_CHECKING:
    from pruners.provence.model import ProvenceModel


@dataclass(frozen=True, slots=True)
class Figures:
    """Quality of scores over the sentences of many questions.

    Attributes:
        auc: area under the ROC curve.
        compression: share of characters pruned by the one threshold that keeps 95 % of the gold
            sentences: comp@R95.
        threshold: that threshold.
    """

    auc: float
    compression: float
    threshold: float

    @property
    def merit(self) -> float:
        """What the best weights are chosen by: the mean of both shares.

        Compression at one point of the curve jumps about; the area steadies it.
        """
        return (self.auc + self.compression) / 2

    def as_json(self) -> dict[str, float]:
        """Return the fields by name."""
        return asdict(self)


class Validation:
    """Pairs that stand ready to be scored, by a model that changes from one look to the next."""

    def __init__(
        self,
        pairs: Sequence[TrainingPair],
        tokenizer: Any,
        caps: Caps,
        *,
        pad_id: int,
        batch_size: int,
    ) -> None:
        """Tokenise the pairs.

        Args:
            pairs: with priors if the model adds one.
            tokenizer: of the model.
            caps: of a block.
            pad_id: id of the padding token.
            batch_size: blocks that are read at a time.

        Raises:
            ValueError: if there is no pair, or nothing to tell apart: no gold sentence, or no
                other.
        """
        labels = [row in one.gold for one in pairs for row in range(len(one.sentences))]
        if not any(labels) or all(labels):
            raise ValueError(
                "validation pairs must hold gold sentences and others, got "
                f"{sum(labels)} gold of {len(labels)}"
            )
        self._pairs = list(pairs)
        items = items_of(tokenizer, pairs, caps)
        self._items = sorted(items, key=lambda one: -len(one.block))
        self._pad_id = pad_id
        self._batch_size = batch_size

    def scores(self, model: ProvenceModel, precision: Precision = "float32") -> list[np.ndarray]:
        """Return the score of each sentence of each pair, float64 (sentences,): rounding `mean`.

        The model is left in the mode it was in.
        """
        import torch

        sums = [np.zeros(len(one.sentences)) for one in self._pairs]
        counts = [np.zeros(len(one.sentences)) for one in self._pairs]
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            for start in range(0, len(self._items), self._batch_size):
                items = self._items[start : start + self._batch_size]
                batch, _ = batch_of(items, self._pad_id)
                with autocast(precision, model.device):
                    said = model(batch.to(model.device)).tokens
                kept = said.double().sigmoid().cpu().numpy()
                for line, item in zip(kept, items, strict=True):
                    rows = np.array(item.block.rows)
                    told = rows >= 0
                    np.add.at(sums[item.pair], rows[told], line[: len(rows)][told])
                    np.add.at(counts[item.pair], rows[told], 1.0)
        model.train(was_training)
        return [
            np.clip(np.where(count > 0, total / np.maximum(count, 1), 1.0), LEAST, 1.0)
            for total, count in zip(sums, counts, strict=True)
        ]

    def figures(self, model: ProvenceModel, precision: Precision = "float32") -> Figures:
        """Return how well the model's scores prune the pairs."""
        curve = PruningCurve(
            [
                JudgedSentences(
                    scores=tuple(found.tolist()),
                    gold=tuple(row in one.gold for row in range(len(one.sentences))),
                    tokens=tuple(len(sentence.split()) for sentence in one.sentences),
                    characters=tuple(len(sentence) for sentence in one.sentences),
                )
                for one, found in zip(self._pairs, self.scores(model, precision), strict=True)
            ]
        )
        tally = curve.tally()
        return Figures(
            auc=float(tally.auc()[0]),
            compression=float(tally.at(Cut("recall", 0.95), "Compression")[0]),
            threshold=curve.threshold(0.95),
        )

"""Validation of a model in training: how well one threshold prunes pairs that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pruners.provence.rounding import LEAST
from pruners.training.augment import TrainingPair
from pruners.training.items import Caps, batch_of, items_of
from pruners.training.stacking import Stack, fitted_stack
from rag.evaluation.judged_sentences import JudgedSentences
from rag.evaluation.pruning_curve import Cut, PruningCurve
from rag.training.precision import Precision, autocast

if TYPE_CHECKING:
    from torch import Tensor

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


class _Said(NamedTuple):
    """What a model says of all blocks, and what there is to know of them.

    Attributes:
        tokens: log-odds of every token of a sentence, float64 (tokens,).
        prior: of its sentence, (tokens,); empty without a prior.
        sentence: which one it is of, counted through all pairs, int64 (tokens,).
        rerank: score of every block, float64 (blocks,).
        passage_prior: largest log-odds of its sentences, (blocks,); empty without a prior.
        helps: whether it holds a gold sentence, bool (blocks,).
    """

    tokens: Tensor
    prior: Tensor
    sentence: Tensor
    rerank: Tensor
    passage_prior: Tensor
    helps: Tensor

    @property
    def has_prior(self) -> bool:
        """Whether a prior can be joined: the blocks have one, and are of both kinds."""
        both = bool(self.helps.any()) and not bool(self.helps.all())
        return len(self.prior) == len(self.tokens) > 0 and both


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
        keep: float = 2.0,
    ) -> None:
        """Tokenise the pairs.

        Args:
            pairs: with priors if the model will be joined to one.
            tokenizer: of the model.
            caps: of a block.
            pad_id: id of the padding token.
            batch_size: blocks that are read at a time.
            keep: how much more a gold sentence counts where model and prior are weighed.

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
        self._keep = keep

    def scores(self, model: ProvenceModel, precision: Precision = "float32") -> list[np.ndarray]:
        """Return the score of each sentence of each pair, float64 (sentences,): rounding `mean`.

        They are those of the model joined to its prior as `stacks` says, if the pairs have one. The
        model is left in the mode it was in.

        Args:
            model: that adds no prior.
            precision: of its forward passes.
        """
        said = self._said(model, precision)
        return self._scores(said, self._stacks(said)[0] if said.has_prior else None)

    def stacks(
        self, model: ProvenceModel, precision: Precision = "float32"
    ) -> tuple[Stack, Stack] | None:
        """Return how a model and its prior are joined best, for tokens and for the passage.

        None if the pairs have no prior, or all blocks are of one kind.

        Args:
            model: as of `scores`.
            precision: likewise.
        """
        said = self._said(model, precision)
        return self._stacks(said) if said.has_prior else None

    def _said(self, model: ProvenceModel, precision: Precision) -> _Said:
        """Ask the model about every pair."""
        import torch

        starts = np.cumsum([0, *(len(one.sentences) for one in self._pairs)])
        parts: dict[str, list[torch.Tensor]] = {name: [] for name in _Said.__annotations__}
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            for start in range(0, len(self._items), self._batch_size):
                items = self._items[start : start + self._batch_size]
                whole, gold = batch_of(items, self._pad_id)
                batch = replace(whole, prior=None, passage_prior=None).to(model.device)
                with autocast(precision, model.device):
                    said = model(batch)
                told = whole.rows >= 0
                first = torch.tensor([starts[item.pair] for item in items])[:, None]
                parts["tokens"].append(said.tokens.double().cpu()[told])
                parts["sentence"].append((whole.rows + first)[told])
                parts["rerank"].append(said.rerank.double().cpu())
                parts["helps"].append((gold & told).any(1))
                if whole.prior is not None and whole.passage_prior is not None:
                    parts["prior"].append(whole.prior[told])
                    parts["passage_prior"].append(whole.passage_prior)
        model.train(was_training)
        return _Said(
            **{name: torch.cat(found or [torch.empty(0)]) for name, found in parts.items()}
        )

    def _stacks(self, said: _Said) -> tuple[Stack, Stack]:
        import torch

        gold = [row in one.gold for one in self._pairs for row in range(len(one.sentences))]
        # A sentence without a token has no score to fit.
        seen, sentence = torch.unique(said.sentence, return_inverse=True)
        kept = torch.tensor(gold)[seen]
        each = torch.arange(len(said.helps))
        return (
            fitted_stack(said.tokens, said.prior, sentence, kept, self._keep),
            fitted_stack(said.rerank, said.passage_prior, each, said.helps, 1.0),
        )

    def _scores(self, said: _Said, stack: Stack | None) -> list[np.ndarray]:
        import torch

        lengths = [len(one.sentences) for one in self._pairs]
        total = sum(lengths)
        odds = said.tokens if stack is None else stack.of(said.tokens, said.prior.double())
        count = torch.bincount(said.sentence, minlength=total).double()
        kept = torch.zeros(total, dtype=torch.float64).index_add(0, said.sentence, odds.sigmoid())
        mean = torch.where(count > 0, kept / count.clamp(min=1), 1.0).clamp(LEAST, 1.0).numpy()
        return np.split(mean, np.cumsum(lengths)[:-1])

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

"""The run of a Provence training: what changes from step to step, and how it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruners.provence.adapter import new_model
from pruners.training.augment import TrainingPair
from pruners.training.items import Item, augmented_items, batch_of
from pruners.training.losses import Losses, provence_losses
from pruners.training.recipe import ProvenceRecipe
from pruners.training.remembered_tokens import RememberedTokens
from pruners.training.scored_sets import ScoredSet, pairs_of_epoch
from pruners.training.stacking import Stack, join_prior
from pruners.training.validation import Figures, Validation
from rag.training.batch_order import epoch_batches
from rag.training.precision import Precision, autocast
from rag.training.run_state import RunState
from rag.training.training_run import Place, TrainingRun
from rag.training.watching import Watcher

if TYPE_CHECKING:
    from pruners.provence.model import ProvenceModel
    from pruners.provence.trunk import Trunk


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to.

    Attributes:
        steps: done.
        planned: steps that the recipe asked for.
        stopped: why it ended: `done`, `no gain` or `time`.
        best_step: the step whose weights were kept.
        before: figures on the validation part before the first step, which are the prior's if there
            is one; None without a validation part.
        after: figures of the weights that were kept, likewise.
        pairs: question-passage pairs of an epoch.
        precision: of the forward passes.
        parameters: trained ones.
        seconds: of this process.
    """

    steps: int
    planned: int
    stopped: str
    best_step: int
    before: Figures | None
    after: Figures | None
    pairs: int
    precision: Precision
    parameters: int
    seconds: float


class ProvenceRun:
    """A model in training; satisfies `rag.training.training_run.Task`."""

    def __init__(
        self,
        trunk: Trunk,
        recipe: ProvenceRecipe,
        folder: Path,
        sets: Sequence[ScoredSet],
        checks: Sequence[TrainingPair],
        settings: Mapping[str, Any],
    ) -> None:
        import torch

        self.recipe = recipe
        drawn = torch.Generator().manual_seed(recipe.seed)
        self.model: ProvenceModel = new_model(
            trunk.model, recipe.tuning, residual=False, generator=drawn
        )
        self._sets = sets
        self._tokenizer = RememberedTokens(trunk.tokenizer)
        self._pad_id = int(trunk.tokenizer.pad_token_id or 0)
        self._validation = (
            Validation(
                checks,
                self._tokenizer,
                recipe.caps,
                pad_id=self._pad_id,
                batch_size=4 * recipe.batch_size,
                keep=recipe.weights.keep,
            )
            if checks
            else None
        )
        self._items: list[Item] = []
        self._precision: Precision = "float32"
        self._run = TrainingRun(
            self,
            recipe.schedule,
            {name: one for name, one in self.model.named_parameters() if one.requires_grad},
            folder,
            settings,
            faster=lambda name: 1.0 if name.startswith("trunk.") else recipe.head_rate,
        )

    def restore(self, state: RunState) -> None:
        """Go back to a saved state."""
        self._run.restore(state)

    def train(self, watcher: Watcher, *, deadline: float | None, state_every: int) -> Trained:
        """Do the steps that are left, keep the best weights in the model, and tell.

        The model stays alone; every look joins it to its prior, to see what it is worth.
        """
        self.model.train(self.recipe.dropout)
        found = self._run.train(watcher, deadline=deadline, state_every=state_every)
        self.model.eval()
        self._precision = found.precision
        return Trained(
            steps=found.steps,
            planned=found.planned,
            stopped=found.stopped,
            best_step=found.best_step,
            before=Figures(**found.before) if found.before else None,
            after=Figures(**found.after) if found.after else None,
            pairs=len(pairs_of_epoch(self._sets, self.recipe.negatives, self.recipe.seed, 0)),
            precision=found.precision,
            parameters=found.parameters,
            seconds=found.seconds,
        )

    def join(self) -> None:
        """Join the trained model to its prior, as fits the validation part best."""
        found = None
        if self._validation is not None:
            found = self._validation.stacks(self.model, self._precision)
        join_prior(self.model, *(found or (Stack(), Stack())))

    # what a training asks of its task

    def batches(self, epoch: int) -> list[list[int]]:
        """Make the items of an epoch, and return the rows of each batch."""
        recipe = self.recipe
        pairs = pairs_of_epoch(self._sets, recipe.negatives, recipe.seed, epoch)
        self._items = augmented_items(
            self._tokenizer,
            pairs,
            recipe.caps,
            recipe.augmentation,
            seed=recipe.seed,
            epoch=epoch,
        )
        lengths = [len(one.block) for one in self._items]
        found = epoch_batches(lengths, recipe.batch_size, recipe.seed, epoch)
        if not found:
            raise ValueError(
                f"examples must hold text that the tokenizer can read, got {len(pairs)}"
            )
        return found

    def add_gradients(
        self, rows: Sequence[int], place: Place, precision: Precision
    ) -> dict[str, float]:
        """Add the gradients of a batch; return its loss and the parts of it."""
        import torch

        if self.recipe.dropout:
            # Drawn anew from the step, so that a resumed training drops the same.
            torch.manual_seed(self.recipe.seed * 1_000_003 + place.step)
        losses = self._losses([self._items[row] for row in rows], precision)
        losses.total.backward()  # type: ignore[no-untyped-call]
        names = ("total", "token", "sentence", "rerank")
        values = torch.stack([getattr(losses, name).detach() for name in names]).tolist()
        return dict(zip(("loss", *names[1:]), values, strict=True))

    def look(self, precision: Precision) -> dict[str, float] | None:
        """Return the figures on the validation part; None without one."""
        if self._validation is None:
            return None
        return self._validation.figures(self.model, precision).as_json()

    def merit(self, figures: Mapping[str, float]) -> float:
        """Return what the best weights are chosen by."""
        return Figures(**figures).merit

    def charted(self, figures: Mapping[str, float]) -> Mapping[str, float]:
        """Return area and compression."""
        return {name: figures[name] for name in ("auc", "compression")}

    def probe(self, precision: Precision) -> None:
        """Learn from the longest items."""
        longest = sorted(self._items, key=lambda one: -len(one.block))[: self.recipe.batch_size]
        self._losses(longest, precision).total.backward()  # type: ignore[no-untyped-call]

    def _losses(self, items: Sequence[Item], precision: Precision) -> Losses:
        batch, gold = batch_of(items, self._pad_id)
        device = self.model.device
        batch = batch.to(device)
        with autocast(precision, device):
            said = self.model(batch)
        return provence_losses(
            said.tokens, said.rerank, batch.rows, gold.to(device), self.recipe.weights
        )

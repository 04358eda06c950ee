"""The run of a Provence training: what changes from step to step, and how it goes on."""

from __future__ import annotations

import math
import time
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
from rag.errors import DovetailError
from rag.training.batch_order import epoch_batches
from rag.training.journal import Journal
from rag.training.precision import Precision, autocast, probed_precision
from rag.training.rate_schedule import rate_share
from rag.training.run_state import RunState, moments_of, put_moments, save_state
from rag.training.watching import Watcher

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pruners.provence.model import ProvenceModel
    from pruners.provence.trunk import Trunk


class TrainingFailedError(DovetailError):
    """A training that cannot go on: its loss is not a finite number."""

    exit_status = 1


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
    """A model in training: what changes from step to step, and how."""

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

        self.recipe, self.folder = recipe, folder
        self.settings = settings
        drawn = torch.Generator().manual_seed(recipe.seed)
        self.model: ProvenceModel = new_model(
            trunk.model, recipe.tuning, residual=False, generator=drawn
        )
        self._sets = sets
        self._tokenizer = RememberedTokens(trunk.tokenizer)
        self._pad_id = int(trunk.tokenizer.pad_token_id or 0)
        self._named = {
            name: one for name, one in self.model.named_parameters() if one.requires_grad
        }
        self._optimiser = self._new_optimiser()
        self._journal = Journal(folder)
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
        self._step = self._epoch = self._at = 0
        self._items: list[Item] = []
        self._batches: list[list[int]] = []
        self._best: dict[str, Tensor] = {}
        self._told: dict[str, Any] = {}

    def restore(self, state: RunState) -> None:
        """Go back to a saved state."""
        import torch

        with torch.no_grad():
            for name, parameter in self._named.items():
                parameter.copy_(state.weights[name])
        put_moments(self._optimiser, self._named, state.moments)
        self._best = dict(state.best)
        self._step = state.step
        self._told = dict(state.facts)
        self._epoch, self._at = self._told["epoch"], self._told["at"]

    def train(self, watcher: Watcher, *, deadline: float | None, state_every: int) -> Trained:
        """Do the steps that are left, keep the best weights in the model, and tell.

        The model stays alone; every look joins it to its prior, to see what it is worth.
        """
        started = time.monotonic()
        self._begin_epoch()
        told = self._told
        if not told:
            told |= {"planned": self._planned(), "looks_without_gain": 0, "best_step": 0}
            told["precision"] = self._precision()
            self._journal.begin(0)
            told["before"] = told["after"] = self._look(0)
            self._best = self._copy()
        else:
            self._journal.begin(self._step)
        planned, precision = int(told["planned"]), told["precision"]
        every = max(1, planned // self.recipe.looks)
        watcher.stage("train", planned)
        watcher.advance(self._step)
        stopped = "done"
        self.model.train(self.recipe.dropout)
        while self._step < planned:
            if deadline is not None and time.monotonic() >= deadline:
                stopped = "time"
                self._gains_nothing()
                break
            losses, share = self._one_step(self._next_batch(), precision, planned)
            self._step += 1
            self._note(losses, share)
            watcher.advance()
            if (self._step % every == 0 or self._step == planned) and self._gains_nothing():
                stopped = "no gain"
                break
            if self._step % state_every == 0:
                self._save()
        self._save()
        if self._validation is None:
            told["best_step"] = self._step
        else:
            self._put(self._best)
        self.model.eval()
        return Trained(
            steps=self._step,
            planned=planned,
            stopped=stopped,
            best_step=int(told["best_step"]),
            before=Figures(**told["before"]) if told["before"] else None,
            after=Figures(**told["after"]) if told["after"] else None,
            pairs=len(pairs_of_epoch(self._sets, self.recipe.negatives, self.recipe.seed, 0)),
            precision=precision,
            parameters=sum(one.numel() for one in self._named.values()),
            seconds=time.monotonic() - started,
        )

    def join(self) -> None:
        """Join the trained model to its prior, as fits the validation part best."""
        found = None
        if self._validation is not None:
            found = self._validation.stacks(self.model, self._told["precision"])
        join_prior(self.model, *(found or (Stack(), Stack())))

    # steps

    def _one_step(
        self, rows: Sequence[int], precision: Precision, planned: int
    ) -> tuple[Losses, float]:
        import torch

        share = rate_share(self._step, planned, warmup=self.recipe.warmup, decay=self.recipe.decay)
        for group in self._optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * group["faster"] * share
        if self.recipe.dropout:
            # Drawn anew from the step, so that a resumed training drops the same.
            torch.manual_seed(self.recipe.seed * 1_000_003 + self._step)
        self._optimiser.zero_grad(set_to_none=True)
        losses = self._losses([self._items[row] for row in rows], precision)
        losses.total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(self._named.values()), self.recipe.clip)
        self._optimiser.step()
        return losses, share

    def _losses(self, items: Sequence[Item], precision: Precision) -> Losses:
        batch, gold = batch_of(items, self._pad_id)
        device = self.model.device
        batch = batch.to(device)
        with autocast(precision, device):
            said = self.model(batch)
        return provence_losses(
            said.tokens, said.rerank, batch.rows, gold.to(device), self.recipe.weights
        )

    def _note(self, losses: Losses, share: float) -> None:
        import torch

        names = ("total", "token", "sentence", "rerank")
        values = torch.stack([getattr(losses, name).detach() for name in names]).tolist()
        told = dict(zip(names, values, strict=True))
        if not math.isfinite(told["total"]):
            raise TrainingFailedError(
                f"the loss of step {self._step} is {told['total']}; a lower learning rate than "
                f"{self.recipe.learning_rate:g} may help"
            )
        self._journal.record(self._step, loss=told.pop("total"), **told, rate=share)

    # order

    def _begin_epoch(self) -> None:
        """Make the items and batches of the present epoch."""
        recipe = self.recipe
        pairs = pairs_of_epoch(self._sets, recipe.negatives, recipe.seed, self._epoch)
        self._items = augmented_items(
            self._tokenizer,
            pairs,
            recipe.caps,
            recipe.augmentation,
            seed=recipe.seed,
            epoch=self._epoch,
        )
        lengths = [len(one.block) for one in self._items]
        self._batches = epoch_batches(lengths, recipe.batch_size, recipe.seed, self._epoch)
        if not self._batches:
            raise ValueError(
                f"examples must hold text that the tokenizer can read, got {len(pairs)}"
            )

    def _next_batch(self) -> list[int]:
        """Return the batch at the present place, and move on."""
        if self._at == len(self._batches):
            self._epoch, self._at = self._epoch + 1, 0
            self._begin_epoch()
        self._at += 1
        return self._batches[self._at - 1]

    def _planned(self) -> int:
        if self.recipe.steps is not None:
            return self.recipe.steps
        return max(1, round(self.recipe.epochs * len(self._batches)))

    # looks

    def _look(self, step: int) -> dict[str, float] | None:
        """Return the figures on the validation part, noted; None without one."""
        if self._validation is None:
            return None
        found = self._validation.figures(self.model, self._told["precision"])
        self._journal.record(step, auc=found.auc, compression=found.compression)
        return found.as_json()

    def _gains_nothing(self) -> bool:
        """Look, keep the weights if they are the best so far, and tell whether patience is out."""
        found = self._look(self._step)
        if found is None:
            return False
        told = self._told
        if Figures(**found).merit > Figures(**told["after"]).merit:
            self._best = self._copy()
            told |= {"after": found, "best_step": self._step, "looks_without_gain": 0}
        else:
            told["looks_without_gain"] += 1
        return bool(told["looks_without_gain"] >= self.recipe.patience)

    # parts

    def _precision(self) -> Precision:
        if self.recipe.precision != "auto":
            return self.recipe.precision
        longest = sorted(self._items, key=lambda one: -len(one.block))[: self.recipe.batch_size]

        def step(precision: Precision) -> None:
            self._losses(longest, precision).total.backward()  # type: ignore[no-untyped-call]
            self._optimiser.zero_grad(set_to_none=True)

        return probed_precision(step, self.model.device)

    def _new_optimiser(self) -> torch.optim.Optimizer:
        import torch

        groups = [
            {
                "params": [one],
                "weight_decay": self.recipe.weight_decay if one.ndim > 1 else 0.0,
                "faster": 1.0 if name.startswith("trunk.") else self.recipe.head_rate,
            }
            for name, one in self._named.items()
        ]
        return torch.optim.AdamW(groups, lr=self.recipe.learning_rate)

    def _copy(self) -> dict[str, Tensor]:
        return {name: one.detach().clone() for name, one in self._named.items()}

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in self._named.items():
                parameter.copy_(weights[name])

    def _save(self) -> None:
        self._journal.flush()
        self._told |= {"epoch": self._epoch, "at": self._at}
        state = RunState(
            self._step,
            {name: one.detach() for name, one in self._named.items()},
            moments_of(self._optimiser, self._named),
            self._best,
            self._told,
        )
        save_state(self.folder, state, self.settings)

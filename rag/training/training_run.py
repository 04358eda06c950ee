"""The run of a training: steps, looks, early stop and the state that it goes on from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rag.errors import DovetailError
from rag.training.journal import Journal
from rag.training.precision import Precision, probed_precision
from rag.training.rate_schedule import rate_share
from rag.training.run_state import RunState, moments_of, put_moments, save_state
from rag.training.schedule import Schedule
from rag.training.watching import Watcher

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STATE_EVERY = 50
"""Steps between two saved states."""


class TrainingFailedError(DovetailError):
    """A training that cannot go on: its loss is not a finite number."""

    exit_status = 1


class Place(NamedTuple):
    """Where a step stands in a training.

    Attributes:
        step: steps done before it.
        planned: steps of the whole training.
    """

    step: int
    planned: int


class Task(Protocol):
    """What is learned: which items form a batch, what a batch costs, and how good the model is."""

    def batches(self, epoch: int) -> Sequence[Sequence[int]]:
        """Return the items of each batch of an epoch, and make ready for these.

        It is a function of the epoch alone, so that a resumed training sees the same.
        """

    def add_gradients(
        self, rows: Sequence[int], place: Place, precision: Precision
    ) -> Mapping[str, float]:
        """Add the gradients of a batch to the parameters; return its losses, `loss` the total."""

    def look(self, precision: Precision) -> dict[str, float] | None:
        """Return figures of the model as it is; None if there is nothing to look at."""

    def merit(self, figures: Mapping[str, float]) -> float:
        """Return what the best weights are chosen by; higher is better."""

    def charted(self, figures: Mapping[str, float]) -> Mapping[str, float]:
        """Return those figures that the journal shows."""

    def probe(self, precision: Precision) -> None:
        """Add the gradients of a batch of usual cost, to find out how long that takes."""


@dataclass(frozen=True, slots=True)
class Course:
    """What a training came to.

    Attributes:
        steps: done.
        planned: steps that the recipe asked for.
        stopped: why it ended: `done`, `no gain` or `time`.
        best_step: the step whose weights were kept.
        before: figures of the first look, before the first step; None if there is no look.
        after: figures of the weights that were kept, likewise.
        precision: of the forward passes.
        parameters: trained ones.
        seconds: of this process.
    """

    steps: int
    planned: int
    stopped: str
    best_step: int
    before: Mapping[str, float] | None
    after: Mapping[str, float] | None
    precision: Precision
    parameters: int
    seconds: float


def _alike(_: str) -> float:
    return 1.0


class TrainingRun:
    """Parameters in training: what changes from step to step, and how it goes on.

    AdamW, with weight decay of matrices only. Order of data and every draw are functions of seed
    and step, so that a state of weights, moments and place is enough to go on with the same bits.
    """

    def __init__(
        self,
        task: Task,
        schedule: Schedule,
        named: Mapping[str, torch.nn.Parameter],
        folder: Path,
        settings: Mapping[str, Any],
        *,
        faster: Callable[[str], float] = _alike,
        before_save: Callable[[], None] = lambda: None,
    ) -> None:
        """Make the optimiser; nothing runs yet.

        Args:
            task: what is learned.
            schedule: of the recipe.
            named: the trained parameters, at least one, all on one device.
            folder: exists; gets journal and state.
            settings: all that the course depends on, as JSON.
            faster: how many times as fast as others a parameter learns, by its name.
            before_save: writes what else the training needs to go on, right before its state.
        """
        import torch

        self._task, self._schedule, self._named = task, schedule, dict(named)
        self._folder, self._settings = folder, settings
        self._before_save = before_save
        groups = [
            {
                "params": [one],
                "weight_decay": schedule.weight_decay if one.ndim > 1 else 0.0,
                "faster": faster(name),
            }
            for name, one in self._named.items()
        ]
        self._optimiser = torch.optim.AdamW(groups, lr=schedule.learning_rate)
        self._journal = Journal(folder)
        self._step = self._epoch = self._at = 0
        self._batches: Sequence[Sequence[int]] = ()
        self._best: dict[str, Tensor] = {}
        self._told: dict[str, Any] = {}
        self._consistent = True

    def restore(self, state: RunState) -> None:
        """Go back to a saved state."""
        self._put(state.weights)
        put_moments(self._optimiser, self._named, state.moments)
        self._best = dict(state.best)
        self._step = state.step
        self._told = dict(state.facts)
        self._epoch, self._at = self._told["epoch"], self._told["at"]

    def train(self, watcher: Watcher, *, deadline: float | None, state_every: int) -> Course:
        """Do the steps that are left, put the best weights into the model, and tell.

        Interrupted from the keyboard, it saves its state first.

        Args:
            watcher: told of the stage `train` and its steps.
            deadline: by `time.monotonic`; after it no step begins.
            state_every: steps between two saved states.

        Raises:
            TrainingFailedError: if a loss is not finite; the state saved last stays.
        """
        started = time.monotonic()
        self._batches = self._task.batches(self._epoch)
        if not self._told:
            self._begin()
        else:
            self._journal.resume(self._step)
        try:
            stopped = self._steps(watcher, deadline, state_every)
        except KeyboardInterrupt:
            if self._consistent:
                self._save()
            raise
        self._save()
        told = self._told
        if told["after"] is None:
            told["best_step"] = self._step
        else:
            self._put(self._best)
        return Course(
            steps=self._step,
            planned=int(told["planned"]),
            stopped=stopped,
            best_step=int(told["best_step"]),
            before=told["before"],
            after=told["after"],
            precision=told["precision"],
            parameters=sum(one.numel() for one in self._named.values()),
            seconds=time.monotonic() - started,
        )

    def _begin(self) -> None:
        """Plan, choose the precision and look, before the first step."""
        told: dict[str, Any] = {"looks_without_gain": 0, "best_step": 0, "looked": 0}
        told["planned"] = self._schedule.planned(len(self._batches))
        told["precision"] = self._precision()
        self._journal.begin(0)
        told["before"] = told["after"] = self._look(told["precision"])
        self._best = self._copy()
        self._told = told

    def _steps(self, watcher: Watcher, deadline: float | None, state_every: int) -> str:
        planned = int(self._told["planned"])
        every = max(1, planned // self._schedule.looks)
        watcher.stage("train", planned)
        watcher.advance(self._step)
        while True:
            due = self._step and (self._step % every == 0 or self._step == planned)
            # A training that was interrupted in a look has it still before it.
            if due and self._told.get("looked") != self._step and self._gains_nothing():
                return "no gain"
            if self._step == planned:
                return "done"
            if self._step and self._step % state_every == 0:
                self._save()
            if deadline is not None and time.monotonic() >= deadline:
                if self._told.get("looked") != self._step:
                    self._gains_nothing()
                return "time"
            self._one_step(planned)
            watcher.advance()

    def _one_step(self, planned: int) -> None:
        import torch

        if self._at == len(self._batches):
            self._epoch, self._at = self._epoch + 1, 0
            self._batches = self._task.batches(self._epoch)
        schedule, precision = self._schedule, self._told["precision"]
        share = rate_share(self._step, planned, warmup=schedule.warmup, decay=schedule.decay)
        for group in self._optimiser.param_groups:
            group["lr"] = schedule.learning_rate * group["faster"] * share
        self._optimiser.zero_grad(set_to_none=True)
        place = Place(self._step, planned)
        losses = self._task.add_gradients(self._batches[self._at], place, precision)
        if not math.isfinite(losses["loss"]):
            raise TrainingFailedError(
                f"the loss of step {self._step + 1} is {losses['loss']}; a lower learning rate "
                f"than {schedule.learning_rate:g} may help"
            )
        self._consistent = False
        torch.nn.utils.clip_grad_norm_(list(self._named.values()), schedule.clip)
        self._optimiser.step()
        self._step, self._at = self._step + 1, self._at + 1
        self._journal.record(self._step, **losses, rate=share)
        self._consistent = True

    def _look(self, precision: Precision) -> dict[str, float] | None:
        """Return the figures of the model as it is, noted; None if there is nothing to look at."""
        found = self._task.look(precision)
        if found is not None:
            self._journal.record(self._step, **self._task.charted(found))
        return found

    def _gains_nothing(self) -> bool:
        """Look, keep the weights if they are the best so far, and tell whether patience is out."""
        told = self._told
        found = self._look(told["precision"])
        told["looked"] = self._step
        if found is None:
            return False
        if self._task.merit(found) > self._task.merit(told["after"]):
            self._best = self._copy()
            told |= {"after": found, "best_step": self._step, "looks_without_gain": 0}
        else:
            told["looks_without_gain"] += 1
        return bool(told["looks_without_gain"] >= self._schedule.patience)

    def _precision(self) -> Precision:
        if self._schedule.precision != "auto":
            return self._schedule.precision

        def step(precision: Precision) -> None:
            self._task.probe(precision)
            self._optimiser.zero_grad(set_to_none=True)

        device = next(iter(self._named.values())).device
        return probed_precision(step, device)

    def _copy(self) -> dict[str, Tensor]:
        return {name: one.detach().clone() for name, one in self._named.items()}

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in self._named.items():
                parameter.copy_(weights[name])

    def _save(self) -> None:
        self._before_save()
        self._journal.flush()
        self._told |= {"epoch": self._epoch, "at": self._at}
        state = RunState(
            self._step,
            {name: one.detach() for name, one in self._named.items()},
            moments_of(self._optimiser, self._named),
            self._best,
            self._told,
        )
        save_state(self._folder, state, self._settings)

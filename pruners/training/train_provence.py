"""Training of a Provence model: a pruner that reads question and passage together.

Only a small adapter over a frozen trunk is trained, alone. What is kept is joined to a cheaper
scorer, the prior, whose log-odds it adds; every look at the validation part joins the two, so the
figures say what training has gained over the prior.

Source: Chirkova et al. 2025, Provence, arXiv:2501.16214, for heads and token labels. Frozen trunk,
prior, sentence loss and augmentation are ours.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruners.provence.adapter import AdapterConfig, save_adapter
from pruners.provence.load import prior_fingerprint
from pruners.training.labelled import LabelledPassage
from pruners.training.prior_file import remembered_priors
from pruners.training.provence_run import ProvenceRun, Trained
from pruners.training.question_sets import QuestionSet, given_sets
from pruners.training.recipe import ProvenceRecipe
from pruners.training.scored_sets import (
    ScoredSet,
    Vectors,
    grown_sets,
    scored_sets,
)
from pruners.training.split import split_by_passage
from rag.protocols import Encoder, SentenceScorer
from rag.training.run_state import load_state
from rag.training.watching import Unwatched, Watcher

if TYPE_CHECKING:
    from pruners.provence.trunk import Trunk

_STATE_EVERY = 50  # steps between two saved states


def train_provence(
    examples: Sequence[LabelledPassage],
    trunk: Trunk,
    recipe: ProvenceRecipe,
    folder: Path,
    *,
    prior: SentenceScorer | None = None,
    encoder: Encoder | None = None,
    vectors: Vectors | None = None,
    resume: bool = False,
    minutes: float | None = None,
    state_every: int = _STATE_EVERY,
    facts: Mapping[str, Any] | None = None,
    watcher: Watcher | None = None,
) -> Trained:
    """Train a model and write its adapter, its journal and, while it runs, its state.

    The state is written every few steps, so an interrupted training can resume; on one machine and
    a CPU the resumed one ends with the same bits as one that was never interrupted. It is removed
    once the training is over, and kept where the time ran out. A validation part so small that all
    of its sentences are of one kind is not used: then the last weights are kept.

    Args:
        examples: to train on; a part of them chooses weights and threshold.
        trunk: the frozen base; its model is changed in place, on the device where it is.
        recipe: every number.
        folder: exists; gets `model.safetensors`, `config.json` and `losses.jsonl`.
        prior: scorer whose log-odds the model adds, with a `fingerprint`; None trains without.
        encoder: finds near passages, which the prior sees beside a question's own ones, and which
            are shown as negatives if the recipe asks for these; None does without.
        vectors: gives the vectors of a passage's sentences by `encoder`; needed with it.
        resume: whether to go on from the state in `folder`.
        minutes: after which training stops between two steps and the best weights are kept.
        state_every: steps between two states, at least 1.
        facts: of the data and the command, for the adapter's configuration.
        watcher: told of stages and steps.

    Raises:
        ValueError: if an argument does not fit, or there is nothing to train on.
        TrainingStateError: if `resume` finds no state, or one of another training.
        TrainingFailedError: if a loss is not finite.
    """
    if minutes is not None and not minutes > 0.0:
        raise ValueError(f"minutes must be above 0, got {minutes}")
    if state_every < 1:
        raise ValueError(f"state_every must be at least 1, got {state_every}")
    if (encoder is None) != (vectors is None):
        raise ValueError("encoder and vectors go together, got one of them")
    started = time.monotonic()
    watcher = watcher or Unwatched()
    inner, checked = split_by_passage(examples, recipe.validation, recipe.seed + 1)
    if not any(one.gold for one in inner):
        raise ValueError(f"examples must hold gold sentences, got none in {len(inner)}")
    settings = {
        "recipe": recipe.as_json(),
        "examples": _examples_sha(examples),
        "base": trunk.fingerprint,
        "prior": "" if prior is None else prior_fingerprint(prior),
        "encoder": "" if encoder is None else encoder.fingerprint,
    }
    gathered = Gatherer(recipe, folder, prior, encoder, vectors, settings, watcher)
    sets = gathered.training(inner)
    # Near passages are easy to prune whole: with them every look would say about the same.
    checks = [pair for one in gathered.validation(checked) for pair in one.pairs[: one.given]]
    if len({row in pair.gold for pair in checks for row in range(len(pair.sentences))}) < 2:
        checks = []  # nothing to tell apart
    run = ProvenceRun(trunk, recipe, folder, sets, checks, settings)
    if resume:
        run.restore(load_state(folder, settings))
    trained = run.train(
        watcher,
        deadline=None if minutes is None else started + 60.0 * minutes,
        state_every=state_every,
    )
    if prior is not None:
        run.join()
    config = AdapterConfig(
        base=trunk.name,
        base_fingerprint=trunk.fingerprint,
        tuning=recipe.tuning,
        prior="" if prior is None else prior.name,
        prior_fingerprint=str(settings["prior"]),
        window=recipe.caps.window,
        query_tokens=recipe.caps.query,
        title_tokens=recipe.caps.title,
        threshold=min(1.0, trained.after.threshold) if trained.after else 0.1,
        recipe={**recipe.as_json(), "best_step": trained.best_step, **(facts or {})},
    )
    import torch

    save_adapter(folder, run.model, config, dtype=getattr(torch, recipe.stored))
    if trained.stopped != "time":
        clear_run(folder)
    return trained


def clear_run(folder: Path) -> None:
    """Remove what only a running training needs: its state and the log-odds of its prior."""
    from pruners.training.prior_file import PRIORS
    from rag.training.run_state import STATE

    for name in (STATE, PRIORS):
        (folder / name).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Gatherer:
    """Makes the sets of a part of the examples."""

    recipe: ProvenceRecipe
    folder: Path
    prior: SentenceScorer | None
    encoder: Encoder | None
    vectors: Vectors | None
    settings: Mapping[str, Any]
    watcher: Watcher

    def training(self, examples: Sequence[LabelledPassage]) -> list[ScoredSet]:
        """Return the sets to train on, which no prior looks at."""
        near = self.recipe.near if self.recipe.negatives else 0
        return scored_sets(self._sets(examples, near), examples)

    def validation(self, examples: Sequence[LabelledPassage]) -> list[ScoredSet]:
        """Return the sets to look at, the log-odds of the prior read from the folder if there."""
        sets = self._sets(examples, self.recipe.near)
        if self.prior is None:
            return scored_sets(sets, examples)
        made_of = {
            "examples": self.settings["examples"],
            "prior": self.settings["prior"],
            "encoder": self.settings["encoder"],
            "sets": hashlib.sha256(
                json.dumps([[one.question, *one.rows] for one in sets]).encode()
            ).hexdigest(),
        }
        priors = remembered_priors(self.folder, made_of, sets, examples, self.prior, self.watcher)
        return scored_sets(sets, examples, priors)

    def _sets(self, examples: Sequence[LabelledPassage], near: int) -> list[QuestionSet]:
        if self.encoder is None or self.vectors is None or not near:
            return given_sets(examples)
        return grown_sets(examples, self.encoder, self.vectors, most=near, seed=self.recipe.seed)


def _examples_sha(examples: Sequence[LabelledPassage]) -> str:
    """Return the SHA-256 of everything that the examples say, in hex."""
    digest = hashlib.sha256()
    for one in examples:
        said = [one.id, one.question, one.title, list(one.sentences), sorted(one.gold)]
        digest.update(json.dumps(said).encode() + b"\n")
    return digest.hexdigest()

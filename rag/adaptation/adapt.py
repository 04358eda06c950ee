"""Adaptation of a language model to passages that are encoded apart, pruned and cached.

A small LoRA is trained on answers, with each example read at once in the sequential prompt and in
some of the encodings that inference uses; the sequential reading is the others' teacher.

Sources: Ma et al. 2024, Block-Attention, arXiv:2409.15355, for fine-tuning on block masks. Several
encodings a step, pruned rows, and distillation from the model's own sequential reading are ours.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.adaptation.adaptation_card import DataFacts, adaptation_card
from rag.adaptation.adapter import AdapterConfig, save_adapter
from rag.adaptation.encodings import Plans
from rag.adaptation.lessons import Lesson, lessons
from rag.adaptation.loss_curves import loss_picture
from rag.adaptation.start import Start
from rag.adaptation.teacher import BaseTeacher, clear_teacher, with_own_answers
from rag.files import write_atomically
from rag.generation.prompt import PromptEncoder
from rag.generation.templates import PromptTemplate
from rag.training.batch_order import generator
from rag.training.journal import JOURNAL, read_journal
from rag.training.run_state import STATE, load_state
from rag.training.training_run import STATE_EVERY, Course, TrainingRun
from rag.training.watching import Unwatched, Watcher

if TYPE_CHECKING:
    from rag.adaptation.examples import ReadingExample
    from rag.adaptation.recipe import ReadingRecipe
    from rag.models.language_model import LoadedModel

CARD = "README.md"
PICTURE = "losses.svg"


@dataclass(frozen=True, slots=True)
class Adapted:
    """What an adaptation came to.

    Attributes:
        course: steps, figures before and after, time.
        learned: examples that were trained on.
        held_out: examples that were held out.
        dropped: examples that could not be used, by reason.
    """

    course: Course
    learned: int
    held_out: int
    dropped: Mapping[str, int]


def adapt(
    examples: Sequence[ReadingExample],
    held_out: Sequence[ReadingExample],
    loaded: LoadedModel,
    recipe: ReadingRecipe,
    folder: Path,
    *,
    template: PromptTemplate = PromptTemplate(),
    start: Path | None = None,
    resume: bool = False,
    minutes: float | None = None,
    state_every: int = STATE_EVERY,
    facts: DataFacts | None = None,
    watcher: Watcher | None = None,
) -> Adapted:
    """Train updates of a model and write them, with journal, picture, card and, meanwhile, state.

    The state is written every few steps and when the training is interrupted from the keyboard; on
    one machine and a CPU a resumed training ends with the same bits as one that was never
    interrupted. It is removed once the training is over, and kept where the time ran out.

    Args:
        examples: to learn from; those without an answer learn the model's own.
        held_out: choose the weights, and end the training where nothing is gained; may be empty,
            and then the last weights are kept.
        loaded: the base, without an adapter; it gets the updates inside, on the device where it is.
        recipe: every number.
        folder: gets `adapter.safetensors`, `config.json`, `README.md`, `losses.jsonl` and
            `losses.svg`; it is made if needed.
        template: the prompt that answers are learned after.
        start: folder of an adapter of this base that is trained further; None starts with updates
            that change nothing. What is learned without an answer, and a teacher, is the base.
        resume: whether to go on from the state in `folder`.
        minutes: after which training stops between two steps and the best weights are kept.
        state_every: steps between two saved states, at least 1.
        facts: of the data, for the card.
        watcher: told of stages and steps.

    Raises:
        ValueError: if an argument does not fit, or no example can be learned from.
        AdapterError: if `start` is no adapter, or not of this base.
        UnsupportedModelError: if KV reuse is not proven exact for the model's family.
        TrainingStateError: if `resume` finds no state, or one of another training.
        TrainingFailedError: if a loss is not finite.
    """
    from rag.adaptation.plan_pass import PlanPass

    if minutes is not None and not minutes > 0.0:
        raise ValueError(f"minutes must be above 0, got {minutes}")
    if state_every < 1:
        raise ValueError(f"state_every must be at least 1, got {state_every}")
    if loaded.identity.adapter:
        raise ValueError(
            f"loaded must have no adapter, got {loaded.identity.name} with "
            f"{loaded.identity.adapter[:12]}"
        )
    started = time.monotonic()
    watcher = watcher or Unwatched()
    folder.mkdir(parents=True, exist_ok=True)
    begun = Start.at(start, loaded, recipe.tuning)
    settings = _settings(examples, held_out, loaded, recipe, template, begun)
    state = load_state(folder, settings) if resume else None
    if not resume:
        clear_teacher(folder)
    reads = PlanPass(loaded.model, checkpointing=recipe.checkpointing)
    prompt = PromptEncoder(loaded.tokenizer, loaded.identity, template)
    plans = Plans(prompt, recipe.encodings)
    answered = with_own_answers([*examples, *held_out], loaded, template, folder, watcher)
    window = loaded.model.config.max_position_embeddings
    watcher.stage("tokenise", len(answered))
    learned, dropped = lessons(answered[: len(examples)], prompt, plans, window, watcher)
    if not learned:
        raise ValueError(
            f"examples must hold one that can be learned from, got {len(examples)}: {dropped}"
        )
    checked, _ = lessons(answered[len(examples) :], prompt, plans, window, watcher)
    run, layers = _run(
        loaded, reads, plans, recipe, learned, _some(checked, recipe), folder, settings,
        resumed=resume,
    )  # fmt: skip
    begun.put(loaded.model)
    if state is not None:
        run.restore(state)
    course = run.train(
        watcher,
        deadline=None if minutes is None else started + 60.0 * minutes,
        state_every=state_every,
    )
    told = {
        **recipe.as_json(),
        "template": asdict(template),
        "best_step": course.best_step,
        **begun.as_json(),
    }
    config = AdapterConfig.of(loaded.identity, recipe.tuning, layers, told)
    save_adapter(folder, loaded.model, config, stored=recipe.stored)
    picture = loss_picture(
        read_journal(folder / JOURNAL), recipe.encodings, f"Training of {folder.name}"
    )
    card = adaptation_card(
        loaded.identity.name,
        loaded.identity.weights,
        course,
        recipe.as_json(),
        [one.example for one in learned],
        [one.example for one in checked],
        facts or DataFacts(),
        loaded.model.device.type,
        begun.adapter,
    )
    _write(folder / PICTURE, picture)
    _write(folder / CARD, card)
    if course.stopped != "time":
        (folder / STATE).unlink(missing_ok=True)
        clear_teacher(folder)
    return Adapted(course, len(learned), len(checked), dropped)


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()), mode=0o644)


def _run(
    loaded: LoadedModel,
    reads: Any,
    plans: Plans,
    recipe: ReadingRecipe,
    learned: Sequence[Lesson],
    checked: Sequence[Lesson],
    folder: Path,
    settings: Mapping[str, Any],
    *,
    resumed: bool,
) -> tuple[TrainingRun, list[str]]:
    """Put updates into the model; return the run that trains them, and the layers that have one."""
    import torch

    from rag.adaptation.adapt_task import ReadingTask
    from rag.adaptation.answer_loss import AnswerLoss

    model = loaded.model
    layers = recipe.tuning.apply(model, torch.Generator().manual_seed(recipe.seed))
    base = None
    if recipe.teacher == "base" and recipe.distil:
        base = BaseTeacher(model, reads, recipe.teacher_tokens)
        if resumed:
            base.restore(folder)
    checks = (
        AnswerLoss(model, reads, plans, checked, recipe.encodings, recipe.pass_tokens)
        if checked
        else None
    )
    task = ReadingTask(model, reads, plans, recipe, learned, checks, base)
    named = {name: one for name, one in model.named_parameters() if one.requires_grad}

    def remember() -> None:
        if base is not None:
            base.save(folder)

    run = TrainingRun(task, recipe.schedule, named, folder, settings, before_save=remember)
    return run, layers


def _some(checked: Sequence[Lesson], recipe: ReadingRecipe) -> list[Lesson]:
    """Return the held-out lessons that are looked at: a sample, in order."""
    if len(checked) <= recipe.checks:
        return list(checked)
    rows = generator(recipe.seed, 0).sample(range(len(checked)), recipe.checks)
    return [checked[row] for row in sorted(rows)]


def _settings(
    examples: Sequence[ReadingExample],
    held_out: Sequence[ReadingExample],
    loaded: LoadedModel,
    recipe: ReadingRecipe,
    template: PromptTemplate,
    begun: Start,
) -> dict[str, Any]:
    """Return all that the course of a training depends on."""
    identity = loaded.identity
    return {
        "recipe": recipe.as_json(),
        "examples": examples_sha(examples),
        "held out": examples_sha(held_out),
        "base": identity.weights,
        "base configuration": hashlib.sha256(identity.config.encode()).hexdigest(),
        "dtype": identity.dtype,
        "tokenizer": identity.tokenizer,
        "template": asdict(template),
        "start": begun.adapter,
    }


def examples_sha(examples: Sequence[ReadingExample]) -> str:
    """Return the SHA-256 of everything that is learned from some examples, in hex."""
    digest = hashlib.sha256()
    for one in examples:
        read = [[p.title, p.text, [*map(tuple, _ends(p))], p.kept_rows] for p in one.passages]
        said = [one.data, one.id, one.query.text, one.target, read]
        digest.update(json.dumps(said).encode() + b"\n")
    return digest.hexdigest()


def _ends(passage: Any) -> list[tuple[int, int]]:
    kept = passage.kept.spans if passage.kept is not None else ()
    return [(span.start, span.end) for span in (*passage.sentences, *kept)]

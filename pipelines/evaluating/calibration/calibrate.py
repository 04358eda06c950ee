"""Calibration: ways to read passages measured on one half of the questions, told on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipelines.evaluating.calibration.choice import Measured, choose, compared, front, point, ranked
from pipelines.evaluating.calibration.measure import Asked, Measuring, own_setting
from pipelines.evaluating.calibration.questions import QuestionsError
from pipelines.evaluating.calibration.report import CalibrationReport, Tried
from pipelines.evaluating.calibration.settings import (
    EXACT,
    GENERATOR,
    Setting,
    Stage,
    grid,
    search,
)
from pipelines.evaluating.retrieval_part import without_generation
from pipelines.evaluating.score_log import ScoreLog
from pipelines.progress import Progress, Unwatched
from rag.errors import DovetailError
from rag.evaluation.cross_validation import fold_rows
from rag.models.user_cache import user_cache
from rag.records import Query

if TYPE_CHECKING:
    from pipelines.flow.pipeline import Pipeline
    from rag.evaluation.data import Question
    from rag.generation.local_model import LocalModel

_INPUTS: Final = {"query", "history"}
LEAST: Final = 4
"""Questions: two to choose by, two to report on."""


class CalibrationError(DovetailError):
    """A pipeline in which there is nothing to calibrate."""


def generator_of(pipeline: Pipeline) -> tuple[Pipeline, str]:
    """Return the part of a pipeline before its last generator, and the id of that.

    Args:
        pipeline: without mistakes.

    Raises:
        CalibrationError: if it needs other inputs than a question and a history, or its last
            generator is not `generate.cached`, or stands in a loop or an arm.
    """
    others = sorted(set(pipeline.definition.inputs) - _INPUTS)
    if others or "query" not in pipeline.definition.inputs:
        needed = ", ".join(pipeline.definition.inputs) or "nothing"
        raise CalibrationError(
            f"calibrate gives a pipeline `query` and an empty `history`, and {pipeline.name!r} "
            f"takes {needed}"
        )
    before, left_out = without_generation(pipeline)
    step = left_out[0] if left_out else None
    if step is None or pipeline.checked.steps[step].spec.name != GENERATOR:
        found = f"{pipeline.checked.steps[step].spec.name} at {step!r}" if step else "no generator"
        raise CalibrationError(
            f"{pipeline.name!r} must end with {GENERATOR}, outside loops and arms, got {found}"
        )
    return before, step


def stages_of(
    pipeline: Pipeline, step: str, tried: Mapping[str, Sequence[Any]] | None
) -> list[Stage]:
    """Return the stages of a search; nothing is loaded.

    Args:
        pipeline: without mistakes.
        step: id of its generator.
        tried: instead of the usual search: option to the values to try, in all combinations.

    Raises:
        InvalidPipelineError: for a value that an option does not take.
        ValueError: for an option that does not say how passages are read.
    """
    if not tried:
        return search()
    stages = grid(tried, own_setting(pipeline.checked.steps[step].options))
    for stage in stages:
        for setting in stage.settings(()):
            pipeline.with_options(step, **setting.options).require_valid()
    return stages


def calibrate(
    pipeline: Pipeline,
    questions: Sequence[Question],
    lm: LocalModel,
    *,
    fingerprint: str,
    tried: Mapping[str, Sequence[Any]] | None = None,
    budget_ms: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> CalibrationReport:
    """Choose how a pipeline reads its passages: by one half of the questions, told on the other.

    The pipeline runs up to its generator once a question. On one half the settings are measured
    stage by stage: time to the first token with caches filled, divergence from the exact mode, and
    where answers are known their NLL. Settings that no other one beats in both have answers decoded
    too. Of these one is chosen, and they are measured again on the other half, which took no part
    in the choice; what is told is from there. Whatever was measured is kept, so that an interrupted
    run goes on.

    Args:
        pipeline: without mistakes, bound to `lm` and to an index.
        questions: all with answers, or all without.
        lm: the model.
        fingerprint: of the index.
        tried: instead of the usual search: option to the values to try, in all combinations.
        budget_ms: the most that the first token may take, without retrieval; None is no budget.
        seed: of the halves and intervals.
        progress: watches.

    Raises:
        CalibrationError: if there is nothing to calibrate in the pipeline.
        QuestionsError: if passages are found for fewer than 4 questions.
        StepFailedError: if retrieval fails.
        ValueError: for a budget that is not above 0, or options to try that do not fit.
    """
    if budget_ms is not None and not budget_ms > 0:
        raise ValueError(f"budget must be above 0 ms, got {budget_ms:g}")
    before, step = generator_of(pipeline)
    own = own_setting(pipeline.checked.steps[step].options)
    stages = stages_of(pipeline, step, tried)
    progress = progress or Unwatched()
    asked = _asked(pipeline, before, step, questions, progress)
    if len(asked) < LEAST:
        raise QuestionsError(
            f"calibration needs passages for at least {LEAST} questions, got {len(asked)} of "
            f"{len(questions)}"
        )
    log = ScoreLog(_log_path(pipeline, lm, fingerprint))
    measuring = Measuring(pipeline, step, asked, log, progress)
    choosing, held_out = fold_rows([one.question.id for one in asked], 2, seed)
    found = _searched(measuring, stages, own, choosing, budget_ms)
    finalists = measuring.with_answers(
        _finalists(found, own, budget_ms), choosing, "answers of the best"
    )
    exact = next(one for one in finalists if one.setting == EXACT)
    choice = choose(finalists, exact, budget_ms=budget_ms, seed=seed)
    held = measuring.with_answers(
        measuring.measure([one.setting for one in finalists], held_out, "questions held out"),
        held_out,
        "answers held out",
    )
    answered = {one.setting: one for one in finalists}
    tried_rows = _tried([answered.get(one.setting, one) for one in found], exact, seed)
    held_exact = next(one for one in held if one.setting == EXACT)
    return CalibrationReport(
        step=step,
        labelled=measuring.labelled,
        chosen=choice.setting.name,
        options=choice.setting.changes(own),
        own=own.name,
        rule=choice.rule,
        budget_ms=budget_ms,
        choosing=len(choosing),
        held_out=len(held_out),
        left_out=len(questions) - len(asked),
        results=_tried(held, held_exact, seed),
        tried=tried_rows,
        model=lm.name,
    )


def _asked(
    pipeline: Pipeline,
    before: Pipeline,
    step: str,
    questions: Sequence[Question],
    progress: Progress,
) -> list[Asked]:
    """Return the questions for which there is something to read, with what the generator gets."""
    progress.stage("retrieving", len(questions))
    inputs = pipeline.checked.steps[step].inputs
    empty: dict[str, Any] = {"history": []} if "history" in pipeline.definition.inputs else {}
    results = before.batch([{"query": Query(one.text), **empty} for one in questions])
    progress.advance(len(questions))
    found = []
    for question, result in zip(questions, results, strict=True):
        query = result.variables.get(inputs["query"], result.variables["query"])
        passages = tuple(result.outputs[inputs["passages"]])
        if any(passage.kept_rows for passage in passages):
            found.append(Asked(question, query, passages))
    return found


def _log_path(pipeline: Pipeline, lm: LocalModel, fingerprint: str) -> Path:
    """Return where measurements are kept: one file for whatever they all depend on."""
    import torch

    device = lm.engine().model.device
    machine = (str(device), torch.get_num_threads())
    definition = replace(pipeline.definition, resources={}, overrides=())
    depends = repr((definition, lm.fingerprint, fingerprint, machine, version("dovetail-rag")))
    digest = sha256(depends.encode()).hexdigest()[:16]
    return user_cache() / "calibration" / f"{digest}.jsonl"


def _searched(
    measuring: Measuring,
    stages: Sequence[Stage],
    own: Setting,
    rows: Sequence[int],
    budget_ms: float | None,
) -> list[Measured]:
    """Return all that was measured: the exact mode, the recipe's, then stage by stage."""
    found: dict[Setting, Measured] = {}
    start: list[Setting] = [EXACT, own]
    for stage in stages:
        cached = [one for one in found.values() if not one.setting.exact]
        best = [one.setting for one in ranked(cached, budget_ms)]
        settings = list(dict.fromkeys([*start, *stage.settings(best)]))
        new = [setting for setting in settings if setting not in found]
        start = []
        found |= {one.setting: one for one in measuring.measure(new, rows, stage.name)}
    return list(found.values())


def _finalists(found: Sequence[Measured], own: Setting, budget_ms: float | None) -> list[Measured]:
    """Return what may be chosen: the front, the exact mode, the recipe's, and each mode's best."""
    kept = {found[row].setting for row in front([point(one) for one in found])} | {EXACT, own}
    modes: set[str] = set()
    for one in ranked(found, budget_ms):
        if one.setting.mode not in modes:
            modes.add(one.setting.mode)
            kept.add(one.setting)
    return [one for one in found if one.setting in kept]


def _tried(found: Sequence[Measured], exact: Measured, seed: int) -> tuple[Tried, ...]:
    """Compare all with the exact mode, and mark the front; the fastest first."""
    best = set(front([point(one) for one in found]))
    rows = [
        Tried(
            compared(one, exact, seed=seed),
            {"mode": one.setting.mode, **dict(one.setting.changed)},
            on_front=row in best,
        )
        for row, one in enumerate(found)
    ]
    return tuple(sorted(rows, key=lambda one: one.compared.ttft_ms))

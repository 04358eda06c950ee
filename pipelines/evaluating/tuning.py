"""Tuning: options of a pipeline's retriever chosen by judged questions, and their honest worth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.evaluating.asking import PipelineAsker, index_for
from pipelines.evaluating.retrieval_part import without_generation
from pipelines.evaluating.score_log import ScoreLog
from pipelines.open_index import OpenIndex
from pipelines.progress import Progress, Unwatched
from rag.errors import DovetailError
from rag.evaluation.cross_validation import Tuned, cross_validated, staged
from rag.evaluation.data import Question, data_sha, read_questions
from rag.evaluation.outcomes import RETRIEVAL, outcome_metrics
from rag.evaluation.statistics import Interval, bootstrap_interval, randomisation_p
from rag.models.remembering import Remembering
from rag.models.user_cache import user_cache

if TYPE_CHECKING:
    from pipelines.flow.pipeline import Pipeline
    from rag.protocols import Encoder

Options = tuple[tuple[str, Any], ...]
"""Options of one step, by name; hashable."""

_WEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)
_FUSED = ("none", "pre", "post", "both")


class TuningError(DovetailError):
    """A pipeline or data that there is nothing to tune in or by."""


@dataclass(frozen=True)
class TuningReport:
    """What tuning found.

    Attributes:
        step: id of the tuned step.
        operator: its short name.
        metric: what was made as high as possible.
        chosen: options that all questions together choose, those of the search only.
        before: mean of the recipe as it is.
        nested: mean by nested cross-validation: each question is judged by options that were chosen
            without it. This is what to expect of new questions.
        difference: of nested and before, question by question.
        p: of a paired randomisation test of that difference.
        fitted: mean of the chosen options on the questions that chose them; too good to be true.
        of_folds: what each fold's other questions chose.
        tried: number of configurations that were measured.
        folds: of the cross-validation.
    """

    step: str
    operator: str
    metric: str
    chosen: Mapping[str, Any]
    before: Interval
    nested: Interval
    difference: Interval
    p: float
    fitted: float
    of_folds: tuple[Mapping[str, Any], ...]
    tried: int
    folds: int


def tune(
    pipeline: Pipeline,
    data: Path,
    *,
    encoder: Encoder,
    metric: str = "nDCG@10",
    tried: Mapping[str, Sequence[Any]] | None = None,
    folds: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> TuningReport:
    """Choose options of a pipeline's retriever by the judged questions of a data folder.

    Of `retrieve.hybrid` first the interpolation and the sparse leg's weight, then k, alpha and beta
    of the feedback; of `retrieve.sparse` k1 and b, and what its expansion takes. Where there is
    `expand.graph`, its weights are chosen instead, then damping and the weight of phrases. Whatever
    was measured is kept, so that an interrupted run goes on.

    Args:
        pipeline: without mistakes; its generator is left out.
        data: in the layout of the evaluation data.
        encoder: of the index, if it has to be made.
        metric: a retrieval metric, to be as high as possible.
        tried: instead of the usual search: `step.option` or `option` to the values to try, in all
            their combinations; all of one step.
        folds: of the cross-validation.
        seed: of folds and intervals.
        progress: watches.

    Raises:
        TuningError: if the pipeline has no step to tune, or the data too few judged questions.
        ValueError: for an unknown metric or option, or a value out of its range.
    """
    if metric not in RETRIEVAL:
        raise ValueError(f"metric must be one of {', '.join(RETRIEVAL)}, got {metric!r}")
    pipeline, _ = without_generation(pipeline.require_valid())
    step, operator, stages = _search(pipeline, tried)
    questions = [q for q in read_questions(data) if max(q.relevant.values(), default=0) > 0]
    if len(questions) < folds:
        raise TuningError(
            f"{data} has {len(questions)} judged questions, too few for {folds} folds"
        )
    progress = progress or Unwatched()
    path = index_for(pipeline, data, encoder=encoder, progress=progress)
    opened = OpenIndex(path, encoder=Remembering(encoder))
    made_by = version("dovetail-rag")
    depends = repr((pipeline.definition, metric, opened.fingerprint, data_sha(data), made_by))
    try:
        log = ScoreLog(
            user_cache() / "tuning" / f"{sha256(depends.encode()).hexdigest()[:16]}.jsonl"
        )
        scores = _Scores(pipeline.bind(index=opened), step, questions, metric, log, progress)
        progress.stage("configurations", 1 + sum(len(stage(())) for stage in stages))
        ids = [question.id for question in questions]

        def choose(rows: Sequence[int]) -> Options:
            return staged((), stages, scores, rows)

        found: Tuned[Options] = cross_validated(ids, choose, scores, folds=folds, seed=seed)
        return _report(step, operator, metric, found, scores, folds, seed)
    finally:
        opened.close()


def _report(
    step: str,
    operator: str,
    metric: str,
    found: Tuned[Options],
    scores: _Scores,
    folds: int,
    seed: int,
) -> TuningReport:
    before, fitted = scores(()), scores(found.chosen)
    differences = [a - b for a, b in zip(found.held_out, before, strict=True)]
    return TuningReport(
        step=step,
        operator=operator,
        metric=metric,
        chosen=dict(found.chosen),
        before=bootstrap_interval(before, seed=seed),
        nested=bootstrap_interval(found.held_out, seed=seed),
        difference=bootstrap_interval(differences, seed=seed),
        p=randomisation_p(differences, seed=seed),
        fitted=sum(fitted) / len(fitted),
        of_folds=tuple(map(dict, found.of_folds)),
        tried=len(scores.known),
        folds=folds,
    )


class _Scores:
    """Every question's metric under given options, measured once."""

    def __init__(
        self,
        pipeline: Pipeline,
        step: str,
        questions: Sequence[Question],
        metric: str,
        log: ScoreLog,
        progress: Progress,
    ) -> None:
        self._pipeline = pipeline
        self._step = step
        self._questions = questions
        self._metric = metric
        self._log = log
        self._progress = progress
        self.known: dict[Options, list[float]] = {}

    def __call__(self, options: Options) -> Sequence[float]:
        if options not in self.known:
            key = json.dumps(options)
            values = self._log.get(key)
            if values is None:
                values = self._measured(options)
                self._log.put(key, values)
            self.known[options] = values
            self._progress.advance()
        return self.known[options]

    def _measured(self, options: Options) -> list[float]:
        pipeline = self._pipeline.with_options(self._step, **dict(options)).require_valid()
        outcomes = PipelineAsker(pipeline)(self._questions)
        failed = [outcome.error for outcome in outcomes if outcome.error is not None]
        if failed:
            raise TuningError(f"{dict(options)}: {failed[0]}")
        found = outcome_metrics(self._questions, outcomes)
        return [metrics.get(self._metric, 0.0) for metrics in found]


Stage = Callable[[Options], Sequence[Options]]


def _search(
    pipeline: Pipeline, tried: Mapping[str, Sequence[Any]] | None
) -> tuple[str, str, list[Stage]]:
    """Return the step to tune, its operator, and the stages of the search."""
    steps = {id_: bound.spec for id_, bound in pipeline.checked.steps.items()}
    if tried:
        named = {name.rpartition(".")[0] for name in tried} - {""}
        tunable = [id_ for id_ in steps if id_ in named] or list(steps)[:1]
        if len(named) > 1 or (named and not named & steps.keys()):
            raise ValueError(
                f"all options to try must be of one step of {', '.join(steps)}, got "
                f"{', '.join(tried)}"
            )
        step = tunable[0]
        grid = [
            tuple(zip((name.rpartition(".")[2] for name in tried), values, strict=True))
            for values in product(*tried.values())
        ]
        return step, steps[step].name, [lambda _: grid]
    for name, search in _SEARCHES.items():
        for id_, spec in steps.items():
            if spec.name == name:
                return id_, name, search(dict(pipeline.checked.steps[id_].options))
    raise TuningError(
        f"{pipeline.name!r} has no {', '.join(_SEARCHES)} to tune; name options to try"
    )


def _graph(_: Mapping[str, Any]) -> list[Stage]:
    def blends(_: Options) -> list[Options]:
        return [
            (("graph_weight", high), ("unnamed_weight", low))
            for high in (0.3, 0.5, 0.7, 0.8, 0.9)
            for low in (0.0, 0.1, 0.3, 0.5, 0.8)
            if low <= high
        ]

    def walks(best: Options) -> list[Options]:
        return [
            (*best, ("damping", damping), ("phrase", phrase))
            for damping in (0.3, 0.5, 0.7)
            for phrase in (0.0, 0.2, 0.4, 0.8)
        ]

    return [blends, walks]


def _hybrid(given: Mapping[str, Any]) -> list[Stage]:
    mode = str(given.get("interpolation", "none"))
    # Only these take a weight of the feedback's own, and keep it.
    own_weight = given.get("feedback_weight") is not None

    def fusions(_: Options) -> list[Options]:
        mixed: list[Options] = [
            (("interpolation", name), ("sparse_weight", weight))
            for name in (("pre", "both") if own_weight else _FUSED)
            for weight in _WEIGHTS
        ]
        return mixed if own_weight else [(("interpolation", "dense"),), *mixed]

    def feedback(best: Options) -> list[Options]:
        if dict(best).get("interpolation", mode) == "none":
            return []
        return [
            (*best, ("k", k), ("alpha", alpha), ("beta", round(1.0 - alpha, 1)))
            for k in (1, 3, 5, 10)
            for alpha in (0.2, 0.4, 0.6, 0.8)
        ]

    return [fusions, feedback]


def _sparse(given: Mapping[str, Any]) -> list[Stage]:
    def saturation(_: Options) -> list[Options]:
        return [
            (("k1", k1), ("b", b))
            for k1 in (0.6, 0.9, 1.2, 1.6, 2.0)
            for b in (0.3, 0.4, 0.6, 0.75)
        ]

    def expansion(best: Options) -> list[Options]:
        shares = (0.3, 0.5, 0.7) if given["expansion"] == "rm3" else (None,)
        return [
            (
                *best,
                ("expansion_passages", passages),
                ("expansion_terms", terms),
                *((("original_weight", share),) if share is not None else ()),
            )
            for passages in (5, 10, 20)
            for terms in (10, 20, 40)
            for share in shares
        ]

    return [saturation, expansion] if given.get("expansion", "none") != "none" else [saturation]


_SEARCHES: dict[str, Callable[[Mapping[str, Any]], list[Stage]]] = {
    "expand.graph": _graph,
    "retrieve.hybrid": _hybrid,
    "retrieve.sparse": _sparse,
}
"""What is tuned of which operator; of several in a pipeline the first of these."""


def tuned_text(report: TuningReport, extends: str, command: str) -> str:
    """Return a pipeline file that extends a recipe with the chosen options.

    Args:
        report: what tuning found.
        extends: name of the recipe, or path of its file as the new one is to name it.
        command: what was run, for the comment.
    """
    import yaml

    step = {"id": report.step, "use": report.operator, "with": dict(report.chosen)}
    body = yaml.safe_dump(
        {"version": 1, "extends": extends, "steps": [step]}, sort_keys=False, allow_unicode=True
    )
    return "".join(f"# {line}\n" for line in _comment(report, command)) + body


def _comment(report: TuningReport, command: str) -> Iterator[str]:
    nested, before = report.nested, report.before
    yield f"Made by: {command}"
    yield (
        f"{report.metric} on questions left out, {report.folds} folds of {nested.n}: "
        f"{nested.mean:.3f} [{nested.low:.3f}, {nested.high:.3f}]"
    )
    yield (
        f"the recipe as it was: {before.mean:.3f} [{before.low:.3f}, {before.high:.3f}], "
        f"p = {report.p:.4f}"
    )

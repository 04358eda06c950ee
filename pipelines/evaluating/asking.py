"""Asking a pipeline: from a recipe and a data folder to outcomes of questions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.evaluating.data_index import data_index
from pipelines.evaluating.retrieval_part import without_generation
from pipelines.flow.blocks import ResourceUse
from pipelines.flow.result import Result, StepFailedError
from pipelines.language_model import language_model
from rag.errors import DovetailError
from rag.evaluation.data import Question, data_sha
from rag.evaluation.outcomes import Outcome
from rag.records import Answer, Hit, Passage, Query

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from pipelines.flow.pipeline import Pipeline
    from pipelines.progress import Progress
    from rag.protocols import Encoder

MODEL = "smollm2-135m"
OF_SENTENCES = frozenset({"prune.cosine", "prune.features", "prune.provence", "prune.sentences"})
"""Operators that read the vectors of sentences."""
OF_GRAPH = frozenset({"expand.graph"})
"""Operators that walk the corpus graph."""


class UnaskableError(DovetailError):
    """A pipeline that needs more than a question and the data give."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """How to open what a recipe leaves unbound.

    Attributes:
        model: name, folder, hub id or URL of the language model; None takes the one that the
            pipeline declares, or else the default.
        dtype: of its forward pass.
        download: let short names reach the hub.
        kv_ram: bytes of RAM for KV.
        kv_disk: bytes of disk for KV.
        adapter: of the model: `auto`, `none` or a folder.
    """

    model: str | None = None
    dtype: str = "auto"
    download: bool = False
    kv_ram: int = 4_000_000_000
    kv_disk: int = 10_000_000_000
    adapter: str = "auto"


class PipelineAsker:
    """Asks a pipeline batches of questions; closes what the pipeline opened.

    The time to the first token is measured apart, once a question's passages are cached and with
    nothing beside it. If they are not even then, as the store is too small, there is no such time.

    Attributes:
        config: hash of the pipeline with its options, the model and the data.
        left_out: ids of the steps that are not run, as no answers are wanted.
        model: name of the language model, once one has answered.
    """

    def __init__(
        self, pipeline: Pipeline, *, config: str = "", left_out: tuple[str, ...] = ()
    ) -> None:
        self.config = config
        self.left_out = left_out
        self.model: str | None = None
        self._pipeline = pipeline

    def __call__(self, questions: Sequence[Question]) -> list[Outcome]:
        """Return one outcome a question, in order; a failed step is an outcome with `error`."""
        empty: dict[str, Any] = {"history": []} if "history" in self._inputs else {}
        results = self._pipeline.batch(
            [{"query": Query(question.text), **empty} for question in questions],
            on_error="return",
        )
        return [self._outcome(result) for result in results]

    def _outcome(self, result: Result | StepFailedError) -> Outcome:
        if isinstance(result, StepFailedError):
            return Outcome(error=str(result))
        answer = _answer(result)
        prompt_tokens = answer.tokens.prompt if answer else 0
        if answer is not None and answer.model:
            self.model = answer.model
        return Outcome(
            ranking=_ranking(result),
            passages=_read(result, answer),
            answer=answer,
            ttft_ms=None if answer is None else self._ttft_ms(result, answer),
            prompt_tokens=prompt_tokens or None,
        )

    def _ttft_ms(self, result: Result, answer: Answer) -> float | None:
        """Return the time to the first token of an answer whose passages are cached.

        The time of the answer itself will do only where it was alone and nothing missed. A store
        that is too small for a question's passages gives no such time.
        """
        for id_, bound in self._pipeline.checked.steps.items():
            if bound.spec.streams and {"query", "passages"} <= bound.inputs.keys():
                generate = self._pipeline.operator(id_)
                query = result.variables.get(bound.inputs["query"], result.variables["query"])
                if (time := getattr(generate, "first_token_ms", None)) is not None:
                    found: float | None = time(query, answer.passages)
                    return found
                if answer.cache.misses:
                    answer = generate(query=query, passages=answer.passages)
        measured = answer.tokens.prompt > 0 and not answer.cache.misses
        return answer.timings_ms.get("ttft") if measured else None

    @property
    def _inputs(self) -> Mapping[str, str]:
        return self._pipeline.definition.inputs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pipeline.close()


def pipeline_asker(
    recipe: str,
    data: Path,
    *,
    encoder: Encoder,
    sets: Sequence[str] = (),
    choice: ModelChoice | None = None,
    answers: bool = True,
    progress: Progress | None = None,
) -> PipelineAsker:
    """Return what asks a recipe about a data folder; its index is made if the recipe needs one.

    Args:
        recipe: name of a shipped recipe, or path of a pipeline file.
        data: in the layout of the evaluation data.
        encoder: of the index, if it has to be made.
        sets: changes of options, `step.option=value`.
        choice: model and budgets.
        answers: whether to generate them; else the pipeline ends where its passages are ready.
        progress: watches the index being made.

    Raises:
        DovetailError: if the pipeline has mistakes or needs inputs other than a question, or the
            data cannot be read; the pipeline is looked at first.
    """
    from pipelines.loading import load_pipeline

    pipeline = load_pipeline(recipe, sets=list(sets)).require_valid()
    return asker_of(
        pipeline, data, encoder=encoder, choice=choice, answers=answers, progress=progress
    )


def asker_of(
    pipeline: Pipeline,
    data: Path,
    *,
    encoder: Encoder,
    choice: ModelChoice | None = None,
    answers: bool = True,
    progress: Progress | None = None,
) -> PipelineAsker:
    """Return what asks a pipeline about a data folder; see `pipeline_asker`."""
    choice = choice or ModelChoice()
    others = sorted(set(pipeline.definition.inputs) - {"query", "history"})
    if others or "query" not in pipeline.definition.inputs:
        needed = ", ".join(pipeline.definition.inputs) or "nothing"
        raise UnaskableError(
            f"eval gives a pipeline `query` and an empty `history`, and {pipeline.name!r} takes "
            f"{needed}"
        )
    pipeline, left_out = (pipeline, ()) if answers else without_generation(pipeline)
    definition = replace(pipeline.definition, overrides=())
    needed_names = pipeline.checked.needed.keys() - definition.resources.keys()
    bound: dict[str, ResourceUse] = {}
    if "index" in needed_names:
        options = {
            "path": index_for(pipeline, data, encoder=encoder, progress=progress),
            "download": choice.download,
            "kv_ram": choice.kv_ram,
            "kv_disk": choice.kv_disk,
        }
        bound["index"] = ResourceUse(use="index.folder", options=options)
    if "lm" in needed_names or ("lm" in definition.resources and choice.model is not None):
        bound["lm"] = language_model(
            choice.model or MODEL,
            dtype=choice.dtype,
            download=choice.download,
            placed_bytes=choice.kv_ram // 2,
            adapter=choice.adapter,
        )
    elif choice.adapter != "auto" and "lm" in pipeline.checked.needed:
        raise UnaskableError(
            f"{pipeline.name!r} declares its own lm, so the adapter {choice.adapter!r} needs "
            "--model, or stands there as the option `adapter`"
        )
    model = (choice.model or MODEL, choice.dtype, choice.adapter) if "lm" in bound else None
    depends = repr((definition, model, encoder.fingerprint, data_sha(data)))
    config = hashlib.sha256(depends.encode()).hexdigest()[:16]
    return PipelineAsker(pipeline.bind(**bound), config=config, left_out=left_out)


def index_for(
    pipeline: Pipeline, data: Path, *, encoder: Encoder, progress: Progress | None = None
) -> Path:
    """Return the index of a data folder with all that a pipeline's steps read of it.

    Arguments and errors are those of `data_index`.
    """
    used = {bound.spec.name for bound in pipeline.checked.steps.values()}
    return data_index(
        data,
        encoder=encoder,
        sentences=not OF_SENTENCES.isdisjoint(used),
        graph=not OF_GRAPH.isdisjoint(used),
        progress=progress,
    )


def _answer(result: Result | StepFailedError) -> Answer | None:
    if isinstance(result, StepFailedError):
        return None
    found = result.outputs.get("answer", result.variables.get("answer"))
    return found if isinstance(found, Answer) else None


def _ranking(result: Result) -> list[Hit]:
    """Return the last ranking as document ids; in an index of data a passage is its document."""
    if result.ranking is None:
        return [Hit(p.document, p.score or 0.0) for p in _passages(result.variables)]
    top = [Hit(passage.document, passage.score or 0.0) for passage in result.ranking]
    return [*top, *result.ranking.tail]


def _read(result: Result, answer: Answer | None) -> Sequence[Passage]:
    """Return what was read with the pruner's decisions, passages it emptied included."""
    found = _passages(result.variables)
    return found or (answer.passages if answer is not None else ())


def _passages(variables: Mapping[str, Any]) -> Sequence[Passage]:
    """Return the variable `passages`; one that was pruned goes before it if it was not."""
    lists = [
        value
        for name, value in sorted(variables.items(), key=lambda item: item[0] != "passages")
        if isinstance(value, list | tuple) and value and isinstance(value[0], Passage)
    ]
    pruned = [value for value in lists if any(p.kept is not None for p in value)]
    return next(iter(pruned or lists), ())

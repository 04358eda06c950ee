"""Pipelines: blocks that are checked, bound to resources, and run."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from pipelines.catalogue.spec import Catalogue
from pipelines.catalogue.table import catalogue as own_catalogue
from pipelines.flow.blocks import Block, Definition, Nested, ResourceUse, Step, flow
from pipelines.flow.check import Checked, check
from pipelines.flow.diagnostics import InvalidPipelineError, Mistake, nearest
from pipelines.flow.events import Event, Finished
from pipelines.flow.naming import identified, named, rebuilt
from pipelines.flow.resources import Resources, how_to_bind
from pipelines.flow.result import Result, StepFailedError, UnboundResourceError
from pipelines.flow.types import parse
from pipelines.language_model import language_model
from rag.record_json import from_json
from rag.records import Answer, Query

if TYPE_CHECKING:
    from types import TracebackType

    from pipelines.flow.requests import Item
    from pipelines.flow.run import Executor
    from pipelines.flow.step_cache import StepCache
    from rag.tracing import Trace


class Pipeline:
    """A flow of operators; see `pipelines.flow.blocks` for its blocks.

    It is checked once, before anything is loaded. Resources are created when a step first needs
    them and shared by all runs; `close`, or leaving a `with` block, closes those that the pipeline
    created. Runs may come from several threads.
    """

    def __init__(
        self,
        name: str,
        steps: Sequence[Block | Callable[..., Any] | str],
        *,
        inputs: Mapping[str, str] | None = None,
        outputs: Sequence[str] = ("answer",),
        resources: Mapping[str, Any] | None = None,
        description: str = "",
        catalogue: Catalogue | None = None,
    ) -> None:
        """Put a pipeline together.

        Args:
            name: what traces and errors call it.
            steps: blocks; an annotated callable or a short name is a step.
            inputs: variable to type, as text; by default `{"query": "Query"}`.
            outputs: variables that a run returns.
            resources: by name: objects, or `ResourceUse` to create them.
            description: for a person.
            catalogue: operators that it may name; by default those that come with Dovetail.
        """
        uses = {
            key: use if isinstance(use, ResourceUse) else ResourceUse(use=use)
            for key, use in (resources or {}).items()
        }
        definition = Definition(
            name=name,
            steps=flow(steps),
            inputs=inputs or {"query": "Query"},
            outputs=tuple(outputs),
            resources=uses,
            description=description,
        )
        self._begin(named(definition), catalogue, {})

    @classmethod
    def of(
        cls,
        definition: Definition,
        *,
        catalogue: Catalogue | None = None,
        bound: Mapping[str, Any] | None = None,
        secrets: Iterable[str] = (),
    ) -> Self:
        """Return the pipeline of a definition, as the loader of YAML files makes them.

        Args:
            definition: its blocks, every step with an id.
            catalogue: operators that it may name.
            bound: resources by name.
            secrets: texts that traces mask.
        """
        made = cls.__new__(cls)
        cls._begin(made, definition, catalogue, dict(bound or {}), frozenset(secrets))
        return made

    def _begin(
        self,
        definition: Definition,
        catalogue: Catalogue | None,
        bound: dict[str, Any],
        secrets: frozenset[str] = frozenset(),
    ) -> None:
        self.definition = definition
        self._secrets = secrets
        self._catalogue = catalogue or own_catalogue()
        self._bound = bound
        self._lock = threading.RLock()
        self._running: Executor | None = None

    @property
    def name(self) -> str:
        """What traces and errors call it."""
        return self.definition.name

    # --- checking --------------------------------------------------------------------------

    @cached_property
    def checked(self) -> Checked:
        """What the checker knows of it."""
        return check(self.definition, self._catalogue, bound=self._bound)

    def check(self) -> list[Mistake]:
        """Return every mistake and note, in the order of the file; loads nothing."""
        return list(self.checked.mistakes)

    def require_valid(self) -> Self:
        """Return the pipeline itself.

        Raises:
            InvalidPipelineError: if it has mistakes.
        """
        if self.checked.errors:
            raise InvalidPipelineError(self.checked.errors)
        return self

    def bind(self, **resources: Any) -> Pipeline:
        """Return the same pipeline with resources given: objects, which stay open at its end.

        A `ResourceUse` is created when first needed, and closed with the pipeline; so is an `index`
        that is given as a path, and an `lm` that is given as a name.
        """
        resources = {key: _opened_late(key, given) for key, given in resources.items()}
        uses = {key: use for key, use in resources.items() if isinstance(use, ResourceUse)}
        objects = {key: given for key, given in resources.items() if key not in uses}
        definition = replace(self.definition, resources={**self.definition.resources, **uses})
        return self._changed(definition, {**self._bound, **objects})

    def with_options(self, step: str, /, **options: Any) -> Pipeline:
        """Return the same pipeline with options of a step changed; bound objects are shared.

        Args:
            step: id of the step, as `generate`.
            **options: as in `with`.

        Raises:
            ValueError: if there is no such step.
        """
        ids = [one.id for one in identified(self.definition.steps)]
        if step not in ids:
            hint = nearest(step, ids)
            raise ValueError(f"pipeline {self.name!r} has no step {step!r}; {hint}")

        def changed(one: Step | Nested) -> Step | Nested:
            if one.id != step or isinstance(one, Nested):
                return one
            return replace(one, options={**one.options, **options})

        blocks = rebuilt(self.definition.steps, changed)
        return self._changed(replace(self.definition, steps=blocks), self._bound)

    def with_definition(self, definition: Definition) -> Pipeline:
        """Return the pipeline of another definition, with the same catalogue and bound objects."""
        return self._changed(definition, self._bound)

    def _changed(self, definition: Definition, bound: dict[str, Any]) -> Pipeline:
        return Pipeline.of(
            definition, catalogue=self._catalogue, bound=bound, secrets=self._secrets
        )

    # --- running ---------------------------------------------------------------------------

    def run(self, *query: str | Query, trace: Trace | None = None, **inputs: Any) -> Result:
        """Run once.

        Args:
            *query: the input `query`, if the pipeline has one.
            trace: records what every step does; by default a new one.
            **inputs: the other inputs; a text stands for a `Query`, plain JSON for any record.

        Raises:
            InvalidPipelineError: if the pipeline has mistakes.
            UnboundResourceError: if a resource is open.
            StepFailedError: if a step fails.
            ValueError: for an input that is missing, unknown or of the wrong type.
        """
        with closing(self.stream(*query, trace=trace, events=False, **inputs)) as events:
            return _finished(next(events))

    def stream(
        self,
        *query: str | Query,
        trace: Trace | None = None,
        events: bool = True,
        **inputs: Any,
    ) -> Generator[Event, None, None]:
        """Run once and yield what happens, pieces of answers too; `Finished` comes last.

        Args:
            *query: as of `run`.
            trace: as of `run`.
            events: whether to yield more than `Finished`.
            **inputs: as of `run`.
        """
        from pipelines.flow.drive import drive

        executor = self._ready()
        item = self._item(self._given(query, inputs), trace, streaming=events)
        yield from drive(executor.requests([item]))
        yield Finished(self._result(item))

    async def arun(self, *query: str | Query, trace: Trace | None = None, **inputs: Any) -> Result:
        """Run once; asynchronous operators are awaited, the others run in a thread."""
        events = self.astream(*query, trace=trace, events=False, **inputs)
        async with aclosing(events):
            return _finished(await anext(events))

    async def astream(
        self,
        *query: str | Query,
        trace: Trace | None = None,
        events: bool = True,
        **inputs: Any,
    ) -> AsyncGenerator[Event, None]:
        """Run once and yield what happens; see `stream`."""
        from pipelines.flow.drive import adrive

        executor = self._ready()
        item = self._item(self._given(query, inputs), trace, streaming=events)
        async with aclosing(adrive(executor.requests([item]))) as happening:
            async for event in happening:
                yield event
        yield Finished(self._result(item))

    @overload
    def batch(
        self, inputs: Sequence[Any], *, on_error: Literal["raise"] = "raise"
    ) -> list[Result]: ...

    @overload
    def batch(
        self, inputs: Sequence[Any], *, on_error: Literal["return"]
    ) -> list[Result | StepFailedError]: ...

    def batch(
        self, inputs: Sequence[Any], *, on_error: Literal["raise", "return"] = "raise"
    ) -> Any:
        """Run for many items, step by step, so that encoders see full batches.

        Args:
            inputs: of each run: a text, a `Query`, or a mapping of all inputs.
            on_error: `return` puts the error in the place of a result; the other items go on.

        Returns:
            One result an item, in order.

        Raises:
            StepFailedError: the first item's that failed, after all have run, unless it is
                returned.
            ValueError: for an item whose input is missing, unknown or of the wrong type, before
                any runs; and as of `run`.
        """
        from pipelines.flow.drive import drive

        _require_known(on_error)
        executor = self._ready()
        items = self._items(inputs)
        for _ in drive(executor.requests(items)):
            raise AssertionError("a batch has no events")
        return self._results(items, on_error)

    async def abatch(
        self, inputs: Sequence[Any], *, on_error: Literal["raise", "return"] = "raise"
    ) -> list[Any]:
        """Run for many items; see `batch` and `arun`."""
        from pipelines.flow.drive import adrive

        _require_known(on_error)
        executor = self._ready()
        items = self._items(inputs)
        async for _ in adrive(executor.requests(items)):
            raise AssertionError("a batch has no events")
        return self._results(items, on_error)

    def operator(self, step: str) -> Any:
        """Return the operator of a step, which is made if no run has needed it yet.

        Raises:
            ValueError: if there is no such step.
        """
        if step not in self.checked.steps:
            hint = nearest(step, self.checked.steps)
            raise ValueError(f"pipeline {self.name!r} has no step {step!r}; {hint}")
        return self._ready().operator(step)

    def new_trace(self, *, content: bool = True) -> Trace:
        """Return an empty trace for a run, which masks what the pipeline has from the environment.

        Args:
            content: whether texts are kept: passages, prompts, answers, questions.
        """
        from rag.tracing import Trace

        return Trace(content=content, secrets=sorted(self._secrets))

    def close(self) -> None:
        """Close the resources that the pipeline created; it can run again and creates new ones."""
        with self._lock:
            running, self._running = self._running, None
            try:
                if running is not None:
                    running.close()
            finally:
                self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def notes(self) -> list[str]:
        """What a person should know about how resources were opened."""
        return self._resources.notes

    # --- showing ---------------------------------------------------------------------------

    def to_yaml(self) -> str:
        """Return the pipeline as a YAML file that loads as the same.

        Raises:
            ValueError: naming a step or resource that has no short name.
        """
        from pipelines.definition.dump import to_yaml

        return to_yaml(self.definition)

    def draw(self, form: Literal["text", "svg", "mermaid"] = "text") -> str:
        """Return a drawing of the pipeline."""
        from pipelines.drawing import draw

        return draw(self.definition, form, operators=self._catalogue.operators)

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, {len(self.definition.steps)} steps)"

    def _repr_html_(self) -> str:
        return self.draw("svg")

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {
            "text/plain": self.draw("text"),
            "text/html": self._repr_html_(),
            "text/vnd.mermaid": self.draw("mermaid"),
        }

    # --- inside ----------------------------------------------------------------------------

    @cached_property
    def _resources(self) -> Resources:
        return Resources(self.checked, self._bound)

    @cached_property
    def _types(self) -> dict[str, Any]:
        return {name: parse(kind) for name, kind in self.definition.inputs.items()}

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(repr(_nameable(self.definition)).encode()).hexdigest()

    def _ready(self) -> Executor:
        """Return the executor, once everything it needs is known to be there."""
        self.require_valid()
        with self._lock:
            if self._running is None:
                from pipelines.flow.run import Executor

                for name, users in self.checked.needed.items():
                    self._require_bound(name, users)
                self._running = Executor(self.checked, self._resources, self._cache())
            return self._running

    def _require_bound(self, name: str, users: Sequence[str]) -> None:
        if not self._resources.knows(name):
            steps = ", ".join(dict.fromkeys(users))
            raise UnboundResourceError(
                f"pipeline {self.name!r} cannot run: the resource {name!r} is not bound, and "
                f"{steps} cannot do without; give {how_to_bind(name)}"
            )

    def _cache(self) -> StepCache | None:
        if not any(bound.step.cache for bound in _all_steps(self.checked)):
            return None
        from pipelines.flow.step_cache import StepCache
        from rag.models.user_cache import user_cache

        return StepCache(user_cache() / "steps")

    def _given(self, query: Sequence[str | Query], inputs: Mapping[str, Any]) -> dict[str, Any]:
        if len(query) > 1 or (query and ("query" in inputs or "query" not in self._types)):
            raise ValueError(
                f"pipeline {self.name!r} takes {_signature(self.definition)}, got {len(query)} "
                f"by position and {', '.join(inputs) or 'nothing'} by name"
            )
        given = {**({"query": query[0]} if query else {}), **inputs}
        for name in given:
            if name not in self._types:
                hint = nearest(name, self._types)
                raise ValueError(
                    f"pipeline {self.name!r} has no input {name!r}"
                    f"{f'; {hint}' if hint else ''} (inputs: {_signature(self.definition)})"
                )
        missing = [name for name in self._types if name not in given]
        if missing:
            raise ValueError(
                f"pipeline {self.name!r} needs the input {missing[0]!r} "
                f"(inputs: {_signature(self.definition)})"
            )
        return {
            name: from_json(self._types[name], value, where=f"input {name!r}")
            for name, value in given.items()
        }

    def _item(self, given: dict[str, Any], trace: Trace | None, *, streaming: bool) -> Item:
        from pipelines.flow.requests import Item, Root

        trace = self._described(self.new_trace() if trace is None else trace, given)
        return Item(Root(trace, streaming, opened_ms=self._ready().opening_ms), given)

    def _items(self, inputs: Sequence[Any]) -> list[Item]:
        if isinstance(inputs, (str, Mapping, Query)):
            raise ValueError(  # noqa: TRY004 as every other wrong input
                f"inputs must be a list with one entry a run, got {type(inputs).__name__}"
            )
        found = []
        for number, one in enumerate(inputs):
            try:
                by_name = isinstance(one, Mapping)
                given = self._given((), one) if by_name else self._given((one,), {})
            except ValueError as error:
                raise ValueError(f"inputs[{number}]: {error}") from error
            found.append(given)
        return [self._item(given, None, streaming=False) for given in found]

    def _described(self, trace: Trace, given: Mapping[str, Any]) -> Trace:
        trace.about(
            pipeline=self.name,
            pipeline_sha=self._digest,
            overrides=list(self.definition.overrides),
            inputs={name: _plain(value) for name, value in given.items()},
        )
        return trace

    def _result(self, item: Item) -> Result:
        if item.error is not None:
            raise item.error
        root = item.root
        total_ms = (time.perf_counter() - root.began) * 1e3
        if self._running is not None:
            total_ms -= self._running.opening_ms - root.opened_ms
        spent = {
            stage: sum(root.module_ms.get(module, 0.0) for module in modules)
            for stage, modules in _STAGES.items()
        }
        outputs = {name: item.variables[name] for name in self.definition.outputs}
        for name, value in outputs.items():
            if isinstance(value, Answer):
                timings = {**spent, **value.timings_ms, "total": total_ms}
                rounded = {stage: round(ms, 3) for stage, ms in timings.items()}
                outputs[name] = replace(value, timings_ms=rounded)
        return Result(outputs, {**item.variables, **outputs}, root.trace, root.ranking)

    def _results(self, items: Sequence[Item], on_error: str) -> list[Any]:
        return [
            item.error if item.error is not None and on_error == "return" else self._result(item)
            for item in items
        ]


_STAGES = {"retrieve": ("retrieve", "rerank", "fuse"), "prune": ("prune", "select")}


def _opened_late(name: str, given: Any) -> Any:
    if name == "index" and isinstance(given, (str, Path)):
        return ResourceUse(use="index.folder", options={"path": Path(given)})
    if name == "lm" and isinstance(given, (str, Path)):
        return language_model(str(given))
    return given


def _plain(value: Any) -> Any:
    from rag.record_json import to_json

    return value.text if isinstance(value, Query) else to_json(value)


def _finished(event: Event) -> Result:
    assert isinstance(event, Finished), "without events there is but the end"
    return event.result


def _require_known(on_error: str) -> None:
    if on_error not in ("raise", "return"):
        raise ValueError(f"on_error must be 'raise' or 'return', got {on_error!r}")


def _nameable(value: Any) -> Any:
    """Return a part of a definition with names for what has an address: the same in every run."""
    if isinstance(value, Mapping):
        return {name: _nameable(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_nameable(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        compared = [one.name for one in fields(value) if one.compare]
        return [type(value).__qualname__, *(_nameable(getattr(value, name)) for name in compared)]
    if callable(value):
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}:{named.__qualname__}"
    return value if isinstance(value, (str, int, float, type(None))) else type(value).__qualname__


def _signature(definition: Definition) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in definition.inputs.items())


def _all_steps(checked: Checked) -> list[Any]:
    inner = [bound for nested in checked.nested.values() for bound in _all_steps(nested)]
    return [*checked.steps.values(), *inner]

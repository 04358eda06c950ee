"""Running one step for any number of items: its condition, its operator, its cache, its trace."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, Any

from pipelines.catalogue.describe import is_factory
from pipelines.catalogue.table import load
from pipelines.flow.checked import BoundStep, Checked
from pipelines.flow.conditions import Condition, Test, holds, judges, tests
from pipelines.flow.events import (
    Cited,
    Event,
    Judged,
    Pruned,
    Retrieved,
    Routed,
    StepFinished,
    StepStarted,
    Token,
)
from pipelines.flow.requests import (
    END,
    Answers,
    Call,
    Failed,
    Item,
    Make,
    Pull,
    Request,
    Requests,
    Verdicts,
    short,
)
from pipelines.flow.resources import Resources
from pipelines.flow.result import OptionsError
from rag.errors import DovetailError
from rag.ranking import Ranking
from rag.records import Answer, Judgement, Passage, Route

if TYPE_CHECKING:
    from pipelines.flow.step_cache import StepCache


@dataclass
class StepRunner:
    """Runs steps of one pipeline.

    Attributes:
        checked: the pipeline, without errors.
        resources: its models, indexes and stores.
        cache: where steps with `cache` keep results; None keeps none.
        opening_ms: time spent on making operators and opening their resources.
    """

    checked: Checked
    resources: Resources
    cache: StepCache | None = None
    opening_ms: float = 0.0
    _operators: dict[str, Any] = field(default_factory=dict)
    _lock: RLock = field(default_factory=RLock)

    def operator(self, bound: BoundStep) -> Any:
        """Return a step's operator, made when it is first needed.

        Raises:
            DovetailError: if a resource cannot be opened, or options do not go together.
        """
        id_ = bound.step.id
        if id_ not in self._operators:
            with self._lock:
                if id_ not in self._operators:
                    began = time.perf_counter()
                    self._operators[id_] = self._made(bound)
                    self.opening_ms += (time.perf_counter() - began) * 1e3
        return self._operators[id_]

    def step(self, bound: BoundStep, items: Sequence[Item]) -> Requests:
        """Call a step's operator for items, and set their output variable or their error."""
        if bound.step.when is not None:
            items = yield from self._wanting(bound, bound.step.when, items)
        if not items:
            return
        for item in items:
            if item.root.streaming:
                yield StepStarted(bound.step.id, item.path + bound.step.id)
        optional = bound.optional
        given = [_arguments(bound, item, optional) for item in items]
        began = time.perf_counter(), time.process_time()
        kept: dict[int, Any] = {}
        try:
            kept = self._kept(bound, given)
            missing = [place for place in range(len(items)) if place not in kept]
            operator = (yield from self._opened(bound)) if missing else None
            began = time.perf_counter(), time.process_time()
            asked = [given[place] for place in missing]
            answers = yield from self._answers(bound, operator, items, asked)
            outcomes = {**kept, **dict(zip(missing, answers, strict=True))}
        except DovetailError:
            raise
        except Exception as error:  # noqa: BLE001 a step's own error, whatever it is
            kept, outcomes = {}, dict.fromkeys(range(len(items)), Failed(error))
        done = _Done(bound, began, len(items))
        for place, item in enumerate(items):
            if place not in kept:
                self._keep(bound, item, given[place], outcomes[place])
            done.ends(item, given[place], outcomes[place], cached=place in kept)
            if item.root.streaming and item.error is None:
                yield from done.events(item, outcomes[place], cached=place in kept)

    def holding(
        self, condition: Condition, items: Sequence[Item], *, step: str, path: str = ""
    ) -> Verdicts:
        """Return for each item whether a condition holds; judges are asked for all at once.

        Args:
            condition: to look at.
            items: whose variables it reads; they get an error if it cannot be told.
            step: whose condition it is, for an error.
            path: appended to the item's, for an error.
        """
        verdicts: dict[tuple[int, str], bool] = {}
        for judge in judges(condition):
            bound = self.checked.steps[judge.id]
            going = [item for item in items if item.error is None]
            yield from self.step(bound, going)
            for item in going:
                if item.error is None:
                    verdicts[id(item), judge.id] = _passed(item, bound)
        return [self._holds(condition, item, verdicts, step, path) for item in items]

    # --- inside ----------------------------------------------------------------------------

    def _made(self, bound: BoundStep) -> Any:
        use = bound.step.use
        made_by = use
        if isinstance(use, str):
            plugins = self.checked.plugins
            made_by = plugins[use] if use in plugins else load(bound.spec.target)
        if not is_factory(made_by):  # type: ignore[arg-type]
            return made_by
        given = self.resources.arguments(bound.spec, bound.needs)
        try:
            return made_by(**given, **bound.options)  # type: ignore[operator]
        except ValueError as error:
            raise OptionsError(f"step {bound.step.id!r} ({bound.spec.name}): {error}") from error

    def _wanting(self, bound: BoundStep, condition: Condition, items: Sequence[Item]) -> Answers:
        """Return the items for which the step's condition holds; the others skip it."""
        id_ = bound.step.id
        wanted = yield from self.holding(condition, items, step=id_, path=id_)
        for item, runs in zip(items, wanted, strict=True):
            if not runs and item.error is None:
                _span(item, bound, time.perf_counter(), 0.0, skipped=True)
        return [item for item, runs in zip(items, wanted, strict=True) if runs]

    def _holds(
        self,
        condition: Condition,
        item: Item,
        verdicts: Mapping[tuple[int, str], bool],
        step: str,
        path: str,
    ) -> bool:
        if item.error is not None:
            return False
        try:
            return holds(
                condition,
                lambda name: _value_at(item.variables, name),
                lambda judge: verdicts[id(item), judge.id],
                self._wanted,
            )
        except (TypeError, AttributeError, KeyError) as error:
            read = ", ".join(dict.fromkeys(test.var for test in tests(condition)))
            item.fails(step, read, error, path=(item.path + path).rstrip("/"))
            return False

    def _wanted(self, test: Test) -> Any:
        return self.checked.values[id(test)]

    def _opened(self, bound: BoundStep) -> Generator[Request, Any, Any]:
        """Return a step's operator; the driver makes it, as that may take long."""
        if bound.step.id in self._operators:
            return self._operators[bound.step.id]
        operator = yield Make(lambda: self.operator(bound))
        if isinstance(operator, Failed):
            raise operator.error
        return operator

    def _answers(
        self,
        bound: BoundStep,
        operator: Any,
        items: Sequence[Item],
        asked: Sequence[Mapping[str, Any]],
    ) -> Answers:
        """Return the outcome of each call that the cache does not spare."""
        if not asked:
            return []
        spec = bound.spec
        if spec.streams and len(items) == 1 and items[0].root.streaming:
            try:
                return (yield from _streamed(bound, operator, asked[0], items[0]))
            except Exception as error:  # noqa: BLE001 a step's own error, whatever it is
                return [Failed(error)]
        answers = yield Call(operator, asked, spec.asynchronous, spec.batched, items[0].limit)
        return list(answers)

    def _kept(self, bound: BoundStep, given: Sequence[Mapping[str, Any]]) -> dict[int, Any]:
        """Return results from the step cache by the place of their item."""
        if self.cache is None or not bound.step.cache:
            return {}
        found = {}
        for place, arguments in enumerate(given):
            hit, value = self.cache.get(bound, self.resources, arguments)
            if hit:
                found[place] = value
        return found

    def _keep(self, bound: BoundStep, item: Item, given: Mapping[str, Any], outcome: Any) -> None:
        if self.cache is None or not bound.step.cache or isinstance(outcome, Failed):
            return
        try:
            self.cache.put(bound, self.resources, given, outcome)
        except (OSError, TypeError, ValueError) as error:  # the result is there all the same
            path, reason = item.path + bound.step.id, f"{type(error).__name__}: {error}"
            item.root.trace.event("not_cached", step=bound.step.id, path=path, reason=reason)


@dataclass(frozen=True, slots=True)
class _Done:
    """A call that has ended, for all its items."""

    bound: BoundStep
    began: tuple[float, float]
    batch: int
    ended: tuple[float, float] = field(
        default_factory=lambda: (time.perf_counter(), time.process_time())
    )

    @property
    def wall_ms(self) -> float:
        return (self.ended[0] - self.began[0]) * 1e3

    def ends(self, item: Item, given: Mapping[str, Any], outcome: Any, *, cached: bool) -> None:
        """Set an item's variable, or its error, and write both into its trace."""
        error = outcome.error if isinstance(outcome, Failed) else None
        cpu_ms = (self.ended[1] - self.began[1]) * 1e3
        timing = {"cpu_ms": cpu_ms, "cached": cached, "batch": self.batch}
        _span(item, self.bound, self.began[0], self.wall_ms, error=error, **timing)
        id_ = self.bound.step.id
        if error is not None:
            inputs = ", ".join(f"{name}={short(value)}" for name, value in given.items())
            item.fails(id_, inputs, error)
            return
        item.variables[self.bound.output] = outcome
        if isinstance(outcome, Ranking):
            item.root.ranking = outcome
        item.root.trace.output(outcome, step=id_, path=item.path + id_)

    def events(self, item: Item, value: Any, *, cached: bool) -> Iterator[Event]:
        id_, path = self.bound.step.id, item.path + self.bound.step.id
        if isinstance(value, Answer):
            for citation in value.citations:
                yield Cited(id_, path, citation)
        elif isinstance(value, Route):
            yield Routed(id_, path, value)
        elif isinstance(value, Judgement):
            yield Judged(id_, path, value)
        elif isinstance(value, list) and value and isinstance(value[0], Passage):
            decided = any(passage.kept is not None for passage in value)
            yield (Pruned if decided else Retrieved)(id_, path, value)
        yield StepFinished(id_, path, value, self.wall_ms, cached)


def _arguments(bound: BoundStep, item: Item, optional: frozenset[str]) -> dict[str, Any]:
    """Return what a step is called with; an optional port that has nothing is left out."""
    variables = item.variables
    return {
        port: variables[name]
        for port, name in bound.inputs.items()
        if variables[name] is not None or port not in optional
    }


def _streamed(bound: BoundStep, operator: Any, arguments: Mapping[str, Any], item: Item) -> Answers:
    pieces = iter(operator.stream(**arguments))
    last = None
    try:
        while (piece := (yield Pull(pieces))) is not END:
            if isinstance(piece, Failed):
                return [piece]
            if not isinstance(piece, str):
                last = piece
            elif piece:
                yield Token(piece, bound.step.id, item.path + bound.step.id)
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            with suppress(ValueError):  # a thread that cannot be stopped is still in it
                close()
    if last is None:
        return [Failed(ValueError(f"{bound.spec.name} streamed no result after its text"))]
    return [last]


def _passed(item: Item, judge: BoundStep) -> bool:
    verdict = item.variables[judge.output]
    passed = getattr(verdict, "passed", None)
    if not isinstance(passed, bool):
        error = TypeError(f"a judge gives a Judgement, got {type(verdict).__name__}")
        item.fails(judge.step.id, short(verdict), error)
    return passed is True


def _value_at(variables: Mapping[str, Any], path: str) -> Any:
    name, *fields = path.split(".")
    value = variables[name]
    for one in fields:
        value = getattr(value, one)
    return value


def _span(item: Item, bound: BoundStep, began: float, wall_ms: float, **more: Any) -> None:
    spent = item.root.module_ms
    spent[bound.spec.module] = spent.get(bound.spec.module, 0.0) + wall_ms
    error = more.pop("error", None)
    item.root.trace.add_span(
        bound.step.id,
        use=bound.spec.name,
        path=item.path + bound.step.id,
        began=began,
        wall_ms=wall_ms,
        error=None if error is None else f"{type(error).__name__}: {error}",
        **more,
    )

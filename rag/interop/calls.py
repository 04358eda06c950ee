"""One way to call what somebody else hands us: an operator, a plain function, or a pipeline."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, get_type_hints

from rag.interop.langchain_documents import as_passage
from rag.record_json import from_json
from rag.records import Query


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that a model just wrote.

    Attributes:
        text: the piece.
        source: which step of which branch wrote it; pieces of one source join to one text.
    """

    text: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a stream, with what the whole call returns."""

    output: Any


class Target(Protocol):
    """Something with named inputs and one output. Inputs are plain: a text may stand for a query.

    Calls of `run`, `batch` and `stream` raise `ValueError` for an input that is not one of `names`.
    """

    @property
    def name(self) -> str:
        """What the user called it, else its class."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its inputs."""

    def run(self, given: Any) -> Any:
        """Return the output for a text, or for a mapping of names to inputs."""

    async def arun(self, given: Any) -> Any:
        """Do as `run` does, without blocking the event loop."""

    def batch(self, given: Sequence[Any]) -> list[Any]:
        """Return one output an item, in order: what a loop would give."""

    async def abatch(self, given: Sequence[Any]) -> list[Any]:
        """Do as `batch` does, without blocking the event loop."""

    def stream(self, given: Any) -> Iterator[Piece | Done]:
        """Yield the pieces of text that models write, and the output last."""

    def astream(self, given: Any) -> AsyncIterator[Piece | Done]:
        """Do as `stream` does, without blocking the event loop."""


def target(called: Any) -> Target:
    """Return how to call an operator, a function or a pipeline.

    Raises:
        ValueError: if it is none of them.
    """
    if hasattr(called, "definition") and callable(getattr(called, "run", None)):
        return PipelineTarget(called)
    if callable(called):
        return OperatorTarget(called)
    raise ValueError(f"an operator or a pipeline must be callable, got {type(called).__name__}")


@dataclass(frozen=True)
class OperatorTarget:
    """An operator or a plain function; its inputs are the parameters of its call.

    Attributes:
        operator: called with keywords; its `acall`, `batch` and `stream` are used if it has them.
    """

    operator: Any

    @property
    def name(self) -> str:
        """Name of the function, or of the operator's class."""
        return str(getattr(self.operator, "__name__", type(self.operator).__name__))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(self._ports)

    @cached_property
    def _ports(self) -> dict[str, Any]:
        called = self.operator if inspect.isroutine(self.operator) else type(self.operator).__call__
        try:
            hints = get_type_hints(called)
        except NameError:  # named for type checkers only
            hints = {}
        guess = {"query": Query}
        names = inspect.signature(self.operator).parameters
        return {name: hints.get(name, guess.get(name, Any)) for name in names}

    def _inputs(self, given: Any) -> dict[str, Any]:
        named = _named(given, self.names, self.name)
        return {
            name: from_json(self._ports[name], value, where=name) for name, value in named.items()
        }

    def run(self, given: Any) -> Any:
        """Return what the operator returns; a coroutine is run to its end."""
        output = self.operator(**self._inputs(given))
        return asyncio.run(output) if inspect.iscoroutine(output) else output

    async def arun(self, given: Any) -> Any:
        """Await `acall` or an asynchronous call; run any other in a thread."""
        inputs = self._inputs(given)
        called = getattr(self.operator, "acall", self.operator)
        if self._is_async:
            return await called(**inputs)
        return await asyncio.to_thread(called, **inputs)

    @property
    def _is_async(self) -> bool:
        called = self.operator if inspect.isroutine(self.operator) else type(self.operator).__call__
        return hasattr(self.operator, "acall") or inspect.iscoroutinefunction(called)

    def batch(self, given: Sequence[Any]) -> list[Any]:
        """Call the operator's `batch` if every item fills the same ports, else loop."""
        inputs = [self._inputs(item) for item in given]
        if hasattr(self.operator, "batch") and len({frozenset(item) for item in inputs}) == 1:
            columns = {port: [item[port] for item in inputs] for port in inputs[0]}
            return list(self.operator.batch(**columns))
        return [self.run(item) for item in inputs]

    async def abatch(self, given: Sequence[Any]) -> list[Any]:
        """Await all at once, or run the whole batch in a thread."""
        if self._is_async:
            return await asyncio.gather(*(self.arun(item) for item in given))
        return await asyncio.to_thread(self.batch, given)

    def stream(self, given: Any) -> Iterator[Piece | Done]:
        """Pass on the operator's `stream`, whose last item is the output."""
        if not hasattr(self.operator, "stream"):
            yield Done(self.run(given))
            return
        for item in self.operator.stream(**self._inputs(given)):
            yield Piece(item) if isinstance(item, str) else Done(item)

    async def astream(self, given: Any) -> AsyncIterator[Piece | Done]:
        """Take each item of `stream` in a thread."""
        if self._is_async:
            yield Done(await self.arun(given))
            return
        items = self.stream(given)
        while (item := await asyncio.to_thread(next, items, None)) is not None:
            yield item


@dataclass(frozen=True)
class PipelineTarget:
    """A pipeline, known by its methods: `rag` does not import `pipelines`.

    Attributes:
        pipeline: has `name`, `definition.inputs`, `definition.outputs`, and `run`, `batch`,
            `stream` with their asynchronous twins.
    """

    pipeline: Any

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return str(self.pipeline.name)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the pipeline's inputs."""
        return tuple(self.pipeline.definition.inputs)

    def _inputs(self, given: Any) -> dict[str, Any]:
        return _named(given, self.names, self.name)

    def _output(self, result: Any) -> Any:
        outputs = result.outputs
        names = self.pipeline.definition.outputs
        return outputs[names[0]] if len(names) == 1 else dict(outputs)

    def run(self, given: Any) -> Any:
        """Return the only output, or a dict of all."""
        return self._output(self.pipeline.run(**self._inputs(given)))

    async def arun(self, given: Any) -> Any:
        """Await the pipeline."""
        return self._output(await self.pipeline.arun(**self._inputs(given)))

    def batch(self, given: Sequence[Any]) -> list[Any]:
        """Run step by step over all items."""
        results = self.pipeline.batch([self._inputs(item) for item in given])
        return [self._output(result) for result in results]

    async def abatch(self, given: Sequence[Any]) -> list[Any]:
        """Await the batch."""
        results = await self.pipeline.abatch([self._inputs(item) for item in given])
        return [self._output(result) for result in results]

    def stream(self, given: Any) -> Iterator[Piece | Done]:
        """Turn tokens into pieces and the end into the output; other events are left out."""
        for event in self.pipeline.stream(**self._inputs(given)):
            yield from self._said(event)

    async def astream(self, given: Any) -> AsyncIterator[Piece | Done]:
        """Turn events as `stream` does."""
        async for event in self.pipeline.astream(**self._inputs(given)):
            for said in self._said(event):
                yield said

    def _said(self, event: Any) -> Iterator[Piece | Done]:
        kind = type(event).__name__
        if kind == "Token":
            yield Piece(event.text, event.path)
        elif kind == "Finished":
            yield Done(self._output(event.result))


def _named(given: Any, names: tuple[str, ...], called: str) -> dict[str, Any]:
    """Return inputs by name: a lone text goes to `query` or the only input; documents turn ours."""
    if not isinstance(given, Mapping):
        if len(names) != 1 and "query" not in names:
            raise ValueError(
                f"{called} must be given an object with {', '.join(names)}, "
                f"got {type(given).__name__}"
            )
        given = {"query" if "query" in names else names[0]: given}
    renamed = {
        "passages" if name == "documents" and name not in names else name: value
        for name, value in given.items()
    }
    unknown = sorted(set(renamed) - set(names))
    if unknown:
        raise ValueError(
            f"{called} has no input {unknown[0]!r}; inputs are {', '.join(names) or 'none'}"
        )
    return {name: _ours(value) for name, value in renamed.items()}


def _ours(value: Any) -> Any:
    if hasattr(value, "page_content"):
        return as_passage(value)
    if isinstance(value, (list, tuple)):
        return [_ours(item) for item in value]
    return value

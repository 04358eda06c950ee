"""What the executor works on, and what it asks of whoever drives it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from pipelines.flow.events import Event
from pipelines.flow.result import StepFailedError
from rag.ranking import Ranking
from rag.records import Answer, Passage, Query

if TYPE_CHECKING:
    from rag.tracing import Trace


@dataclass(slots=True)
class Root:
    """One run: an item as it was given.

    Attributes:
        trace: of the run.
        streaming: whether events and pieces of answers are wanted.
        ranking: the last ranking that a step gave.
        began: `time.perf_counter()` of its begin.
        opened_ms: what opening operators and resources had taken by then.
        module_ms: time spent in operators of each module, as `retrieve`.
    """

    trace: Trace
    streaming: bool = False
    ranking: Ranking | None = None
    began: float = field(default_factory=time.perf_counter)
    opened_ms: float = 0.0
    module_ms: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Item:
    """The variables of a run at one place of the flow.

    Attributes:
        root: the run.
        variables: by name.
        path: of the blocks around it, with a slash at the end.
        limit: how many asynchronous calls may be under way at once.
        error: why it went no further, or None.
    """

    root: Root
    variables: dict[str, Any]
    path: str = ""
    limit: int = 8
    error: StepFailedError | None = None

    def inner(self, block: str, **variables: Any) -> Item:
        """Return an item inside a block."""
        return Item(self.root, {**self.variables, **variables}, f"{self.path}{block}/", self.limit)

    def fails(self, step: str, inputs: str, error: Exception, *, path: str | None = None) -> None:
        """Take note of why it goes no further: a step or a block raised an error."""
        where = f"{self.path}{step}" if path is None else path
        self.error = StepFailedError(step, where, inputs, error, self.root.trace)
        self.error.__cause__ = error

    def fails_as(self, inside: Sequence[Item]) -> None:
        """Take over the first error of items inside a block."""
        self.error = self.error or next((inner.error for inner in inside if inner.error), None)


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the driver: call an operator for some items; it answers with the outcomes.

    Attributes:
        operator: what to call.
        arguments: of each item, by port.
        asynchronous: whether it has to be awaited.
        batched: whether it has a `batch`.
        limit: how many asynchronous calls may be under way at once.
    """

    operator: Any
    arguments: Sequence[Mapping[str, Any]]
    asynchronous: bool
    batched: bool
    limit: int


@dataclass(frozen=True, slots=True)
class Pull:
    """A request to the driver: the next piece of a stream; it answers with it, or `END`."""

    pieces: Iterator[Any]


@dataclass(frozen=True, slots=True)
class Make:
    """A request to the driver: make an operator, which may take long; it answers with it."""

    make: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """The outcome of a request that raised."""

    error: Exception


END = object()
Request: TypeAlias = Call | Pull | Make | Event
Requests: TypeAlias = Generator[Request, Any, None]
Answers: TypeAlias = Generator[Request, Any, list[Any]]
Verdicts: TypeAlias = Generator[Request, Any, list[bool]]


def short(value: Any) -> str:
    """Return a value as one short line for an error or a trace."""
    if isinstance(value, (Query, Answer)):
        text = repr(value.text)
    elif isinstance(value, list) and value and isinstance(value[0], Passage):
        text = f"{len(value)} passages: {', '.join(p.id for p in value[:3])}"
    else:
        text = repr(value)
    return text if len(text) <= 120 else text[:117] + "…"

"""What a run tells while it goes on: typed events of `Pipeline.stream`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from rag.records import Citation, Judgement, Passage, Route

if TYPE_CHECKING:
    from pipelines.flow.result import Result


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step begins.

    Attributes:
        step: its id.
        path: where it is in the flow, such as `loop[2]/retrieve`.
    """

    step: str
    path: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step is done.

    Attributes:
        step: its id.
        path: where it is in the flow.
        value: what it gave.
        wall_ms: how long it took.
        cached: whether the value came from the step cache.
    """

    step: str
    path: str
    value: Any
    wall_ms: float
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Passages were found, fused or reordered."""

    step: str
    path: str
    passages: Sequence[Passage]


@dataclass(frozen=True, slots=True)
class Pruned:
    """A pruner decided which sentences stay."""

    step: str
    path: str
    passages: Sequence[Passage]


@dataclass(frozen=True, slots=True)
class Routed:
    """A router chose."""

    step: str
    path: str
    route: Route


@dataclass(frozen=True, slots=True)
class Judged:
    """A judge gave its verdict."""

    step: str
    path: str
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of an answer, as soon as it is decoded."""

    text: str
    step: str
    path: str


@dataclass(frozen=True, slots=True)
class Cited:
    """A sentence of an answer was attributed to a passage."""

    step: str
    path: str
    citation: Citation


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over; the last event."""

    result: Result


Event: TypeAlias = (
    StepStarted | StepFinished | Retrieved | Pruned | Routed | Judged | Token | Cited | Finished
)

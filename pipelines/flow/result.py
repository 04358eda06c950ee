"""What a run gives back, and how one fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rag.errors import DovetailError
from rag.ranking import Ranking
from rag.records import Answer

if TYPE_CHECKING:
    from rag.tracing import Trace


class StepFailedError(DovetailError):
    """A step raised an error while the pipeline ran.

    Attributes:
        step: its id.
        path: where it is in the flow, such as `loop[2]/retrieve`.
        inputs: a short text of what it was given.
        trace: everything up to there.
    """

    exit_status = 1

    def __init__(
        self, step: str, path: str, inputs: str, cause: BaseException, trace: Trace
    ) -> None:
        self.step = step
        self.path = path
        self.inputs = inputs
        self.trace = trace
        where = f" at {path}" if path != step else ""
        super().__init__(
            f"step {step!r}{where} failed: {type(cause).__name__}: {cause} (input: {inputs})"
        )


class OptionsError(DovetailError):
    """Options that an operator refuses together, which no check of one alone can tell."""


class UnboundResourceError(DovetailError):
    """A pipeline was run while a resource that it needs is open."""


@dataclass(frozen=True)
class Result:
    """Outputs of one run.

    Attributes:
        outputs: the pipeline's outputs by name.
        variables: every variable at the end.
        trace: what every step did.
        ranking: the last ranking of passages that a step gave, for evaluation.
    """

    outputs: Mapping[str, Any]
    variables: Mapping[str, Any] = field(repr=False)
    trace: Trace = field(repr=False)
    ranking: Ranking | None = field(default=None, repr=False)

    def __getitem__(self, name: str) -> Any:
        return self.outputs[name]

    @property
    def answer(self) -> Answer:
        """The output `answer`.

        Raises:
            KeyError: if the pipeline has none.
        """
        answer: Answer = self.outputs["answer"]
        return answer

    def _repr_html_(self) -> str:
        from rag.tracing.html import fragment

        return fragment(self.trace)

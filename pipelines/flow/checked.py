"""What the checker hands to the executor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.catalogue.spec import OperatorSpec, ResourceSpec
from pipelines.flow.blocks import Definition, Step
from pipelines.flow.diagnostics import Mistake, Place


@dataclass(frozen=True)
class BoundStep:
    """A step that was checked.

    Attributes:
        step: the block.
        spec: its operator.
        options: every option that is given, converted.
        needs: parameter to the name of the resource it is given.
        inputs: port to variable; optional ports that nothing is bound to are left out.
        output: the variable it writes.
    """

    step: Step
    spec: OperatorSpec
    options: Mapping[str, Any]
    needs: Mapping[str, str]
    inputs: Mapping[str, str]
    output: str

    @property
    def optional(self) -> frozenset[str]:
        """Ports that are not given a variable whose value is None."""
        return frozenset(port.name for port in self.spec.inputs if port.optional)


@dataclass(frozen=True)
class After:
    """What a route leaves behind.

    Attributes:
        kept: variables that every arm defines; they are what the arm that was taken made them.
        gone: variables that are not defined any more.
    """

    kept: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()


@dataclass
class Checked:
    """What is known of a pipeline once it was checked.

    Attributes:
        definition: the pipeline.
        mistakes: all of them, in the order of the file.
        steps: step id to bound step, judges, routers and merges included.
        resources: name to specification and converted options; live objects have none.
        nested: id of an inner pipeline's block to what is known of it.
        values: `id` of each comparison to its converted value.
        needed: resource to the ids of the steps that cannot do without it.
        following: `id` of each loop to the carried variables that no step in it writes: after a
            round they take the value of the variable that they name.
        after: `id` of each route to the variables that it leaves.
        plugins: short name to what makes it, for operators of plugins.
    """

    definition: Definition
    mistakes: list[Mistake] = field(default_factory=list)
    steps: dict[str, BoundStep] = field(default_factory=dict)
    resources: dict[str, tuple[ResourceSpec, Mapping[str, Any], Mapping[str, str]]] = field(
        default_factory=dict
    )
    nested: dict[str, Checked] = field(default_factory=dict)
    values: dict[int, Any] = field(default_factory=dict)
    needed: dict[str, list[str]] = field(default_factory=dict)
    following: dict[int, frozenset[str]] = field(default_factory=dict)
    after: dict[int, After] = field(default_factory=dict)
    plugins: Mapping[str, Any] = field(default_factory=dict)

    @property
    def errors(self) -> list[Mistake]:
        """Mistakes that keep the pipeline from running."""
        return [mistake for mistake in self.mistakes if mistake.level == "error"]

    def say(
        self,
        code: str,
        message: str,
        place: Place | None,
        hint: str = "",
        level: Literal["error", "note"] = "error",
    ) -> None:
        """Add a mistake."""
        self.mistakes.append(Mistake(code, message, place, hint, level))

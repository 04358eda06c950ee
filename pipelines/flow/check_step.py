"""The checker of steps and conditions: ports, outputs and comparisons against the variables."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.catalogue.spec import OperatorSpec, Port
from pipelines.definition.convert import convert
from pipelines.flow.blocks import Step
from pipelines.flow.checked import BoundStep, Checked
from pipelines.flow.conditions import Comparison, Condition, Test, judges, tests
from pipelines.flow.diagnostics import nearest
from pipelines.flow.scope import Scope
from pipelines.flow.settings import Settings
from pipelines.flow.types import field_names, field_of, fits, item_of, show, without_none
from rag.records import Judgement

Describe = Callable[[Any, str], OperatorSpec]


@dataclass(frozen=True)
class StepChecker:
    """Checks steps, merges and conditions, and binds them.

    Attributes:
        found: what is known of the pipeline; gets mistakes and bound steps.
        settings: checks options and resources.
        describe: tells about an operator that is given itself.
    """

    found: Checked
    settings: Settings
    describe: Describe | None = None

    def step(self, step: Step, scope: Scope) -> Any:
        """Check a step and define its output; return the output's type, or None if unknown."""
        if step.when is not None:
            self.condition(step.when, scope)
        spec = self._spec(step)
        if spec is None:
            output = step.output or self._likely_output(step)
            if output:
                scope.writes(output, Any)
            return None
        options, named = self.settings.of(spec, step)
        self._known_ports(step, spec)
        inputs = self._inputs(step, spec, spec.inputs, scope)
        output = self._output(step, spec, scope)
        needs = self.settings.needs(spec, named, step.id)
        self.found.steps[step.id] = BoundStep(step, spec, options, needs, inputs, output)
        if step.cache:
            self._cacheable(step, spec, options)
        return spec.output.kind

    def _likely_output(self, step: Step) -> str:
        """Return what an operator that is unknown was probably meant to write, or nothing.

        So a misspelt name is one mistake, not another one at every step that reads its output.
        """
        operators = self.settings.catalogue.operators
        meant = difflib.get_close_matches(str(step.use), operators, n=1)
        return operators[meant[0]].output.name if meant else ""

    def merge(self, name: str, step: Step, kind: Any, scope: Scope) -> None:
        """Check a merge step, which reads the arms' values of one variable as a list."""
        spec = self._spec(step)
        if spec is None:
            scope.writes(name, kind)
            return
        self._only_merges(name, step)
        wanted = list[kind]
        port = next((port for port in spec.inputs if fits(wanted, port.kind)), None)
        if port is None:
            takes = ", ".join(f"{port.name}: {show(port.kind)}" for port in spec.inputs)
            message = (
                f"{spec.name} cannot merge {name!r}: no input takes {show(wanted)} "
                f"(inputs: {takes})"
            )
            self.found.say("wrong-type", message, step.place("use"))
            scope.writes(name, kind)
            return
        options, named = self.settings.of(spec, step)
        self._known_ports(step, spec)
        around = scope.inner({name: wanted})
        others = [other for other in spec.inputs if other is not port]
        inputs = {port.name: name, **self._inputs(step, spec, others, around)}
        scope.reads_of(around, [name])
        needs = self.settings.needs(spec, named, step.id)
        self.found.steps[step.id] = BoundStep(step, spec, options, needs, inputs, name)
        if step.cache:
            self._cacheable(step, spec, options)
        scope.writes(name, spec.output.kind)

    def bound(self, step: Step, name: str, port: Port, scope: Scope) -> str | None:
        """Return the variable that a port of `name` reads, or None if there is none."""
        named = step.inputs.get(port.name)
        variable = named or port.name
        if variable not in scope.types:
            self._unbound(step, name, port, scope)
            return None
        scope.reads(variable)
        kind = scope.types[variable]
        if not fits(without_none(kind) if port.optional else kind, port.kind):
            self.found.say(
                "wrong-type",
                f"{name}.{port.name} wants {show(port.kind)}, but {variable!r} is {show(kind)}",
                step.place(f"in.{port.name}", "in", "use"),
                _binding_hint(port, scope.types),
            )
        return variable

    def condition(self, condition: Condition, scope: Scope) -> None:
        """Check a condition, and its judges as the steps that they are."""
        for judge in judges(condition):
            kind = self.step(judge, scope)
            if kind is not None and not fits(kind, Judgement):
                name = self.found.steps[judge.id].spec.name
                message = f"{name} returns {show(kind)}, not Judgement, so it cannot judge"
                self.found.say("wrong-type", message, judge.place("use"))
        for test in tests(condition):
            self._test(test, scope)

    # --- operators -------------------------------------------------------------------------

    def _spec(self, step: Step) -> OperatorSpec | None:
        if isinstance(step.use, str):
            return self._named_spec(step, step.use)
        from pipelines.catalogue.describe import describe

        try:
            spec = (self.describe or describe)(step.use, step.id)
        except ValueError as error:
            self.found.say("no-operator", str(error), step.at)
            return None
        untyped = [port.name for port in (*spec.inputs, spec.output) if port.kind is Any]
        if untyped:
            what = ", ".join(name or "what it returns" for name in untyped)
            message = f"step {step.id!r} has no annotation for {what}"
            self.found.say("untyped", message, step.at, "it is not checked", "note")
        return spec

    def _named_spec(self, step: Step, use: str) -> OperatorSpec | None:
        operators = self.settings.catalogue.operators
        spec = operators.get(use)
        if spec is None:
            place = step.place("use")
            self.found.say(
                "unknown-operator", f"no operator {use!r}", place, nearest(use, operators)
            )
            return None
        self.settings.installed(spec, step.place("use"))
        return spec

    # --- ports -----------------------------------------------------------------------------

    def _known_ports(self, step: Step, spec: OperatorSpec) -> None:
        ports = [port.name for port in spec.inputs]
        for name in step.inputs:
            if name not in ports:
                self.found.say(
                    "unknown-port",
                    f"{spec.name} has no input {name!r}",
                    step.place(f"in.{name}", "in"),
                    nearest(name, ports) or f"inputs: {', '.join(ports)}",
                )

    def _inputs(
        self, step: Step, spec: OperatorSpec, ports: Iterable[Port], scope: Scope
    ) -> dict[str, str]:
        found = {port.name: self.bound(step, spec.name, port, scope) for port in ports}
        return {port: variable for port, variable in found.items() if variable is not None}

    def _unbound(self, step: Step, name: str, port: Port, scope: Scope) -> None:
        named = step.inputs.get(port.name)
        if named is not None:
            self.found.say(
                "unknown-variable",
                f"{name}.{port.name} reads {named!r}, which no step before it defines",
                step.place(f"in.{port.name}", "in"),
                nearest(named, scope.types),
            )
        elif not port.optional:
            self.found.say(
                "missing-input",
                f"{name} needs {port.name} ({show(port.kind)}), which no step before it defines",
                step.place("use"),
                _binding_hint(port, scope.types),
            )

    def _output(self, step: Step, spec: OperatorSpec, scope: Scope) -> str:
        output = step.output or spec.output.name
        if not output:
            self.found.say(
                "unnamed-output",
                f"{spec.name} returns {show(spec.output.kind)}, which has no usual name",
                step.place("out", "use"),
                "name it with out",
            )
            return ""
        if step.when is None:
            scope.writes(output, spec.output.kind)
            return output
        before = scope.types.get(output)
        if before is None or not fits(spec.output.kind, before):
            was = "not defined before it" if before is None else f"{show(before)} before it"
            self.found.say(
                "maybe-undefined",
                f"step {step.id!r} has a condition, so {output!r} may stay as it was, "
                f"but it is {was}",
                step.place("when"),
                "define it before, or use a route",
            )
        scope.writes(output, spec.output.kind if before is None else before, certain=False)
        return output

    def _only_merges(self, name: str, step: Step) -> None:
        if step.when is not None:
            message = f"merge of {name!r} always runs, so it has no condition"
            self.found.say("misplaced-key", message, step.place("when"))
        if step.output not in (None, name):
            message = f"merge of {name!r} writes {name!r}, so it has no other output"
            self.found.say("misplaced-key", message, step.place("out"))

    def _cacheable(self, step: Step, spec: OperatorSpec, options: Mapping[str, Any]) -> None:
        place = step.place("cache")
        if not spec.target:
            message = f"step {step.id!r} is not in the catalogue, so its results cannot be cached"
            self.found.say("uncacheable", message, place)
        given = {**{option.name: option.default for option in spec.options}, **options}
        if given.get("temperature") and "seed" not in options:
            message = f"step {step.id!r} samples, so it is cached only with a seed"
            self.found.say("uncacheable", message, place, "give seed")

    # --- conditions ------------------------------------------------------------------------

    def _test(self, test: Test, scope: Scope) -> None:
        name, *path = test.var.split(".")
        if name not in scope.types:
            message = f"the condition reads {name!r}, which no step before it defines"
            self.found.say("unknown-variable", message, test.at, nearest(name, scope.types))
            return
        scope.reads(name)
        kind = scope.types[name]
        for part in path:
            inside = field_of(kind, part)
            if inside is None:
                message = f"{show(kind)} has no field {part!r}"
                hint = nearest(part, field_names(kind))
                self.found.say("unknown-field", message, test.at, hint)
                return
            kind = inside
        wanted = _wanted(test, kind)
        if isinstance(wanted, str):
            self.found.say("wrong-type", f"{test.var!r} is {show(kind)}: {wanted}", test.at)
            return
        what = f"{test.var} {test.comparison}"
        value, mistakes = convert(wanted, test.value, what, test.value_at or test.at)
        self.found.mistakes.extend(mistakes)
        self.found.values[id(test)] = value


def _wanted(test: Test, kind: Any) -> Any:
    """Return the type that a comparison's value must have, or what is wrong with comparing."""
    if kind is Any:
        return _WANTED_OF_ANY[test.comparison]
    return _WANTED[test.comparison](kind)


def _number(kind: Any) -> Any:
    return float if fits(kind, float) else "only a number is above or below"


def _part(kind: Any) -> Any:
    if kind is str:
        return str
    item = item_of(kind)
    return "only a list or a text contains something" if item is None else item


def _emptiness(kind: Any) -> Any:
    filled = without_none(kind)
    holds_some = filled is str or item_of(filled) is not None
    return bool if holds_some else "only a list or a text is empty"


def _flag(kind: Any) -> Any:
    passes = kind is bool or field_of(kind, "passed") is not None
    return bool if passes else "only a flag or a judgement is true by itself; compare it"


_WANTED: Mapping[Comparison, Callable[[Any], Any]] = {
    "equals": lambda kind: kind,
    "in": list.__class_getitem__,
    "above": _number,
    "below": _number,
    "contains": _part,
    "empty": _emptiness,
    "true": _flag,
}


_WANTED_OF_ANY: Mapping[Comparison, Any] = {
    "equals": Any,
    "in": list[Any],
    "above": float,
    "below": float,
    "contains": Any,
    "empty": bool,
    "true": bool,
}


def _binding_hint(port: Port, types: Mapping[str, Any]) -> str:
    """Return which variables would do, else which there are."""
    fitting = [name for name, kind in types.items() if kind is not Any and fits(kind, port.kind)]
    if fitting:
        return f"bind one that fits: in: {{{port.name}: {fitting[-1]}}}"
    return f"variables here: {', '.join(f'{name}: {show(kind)}' for name, kind in types.items())}"

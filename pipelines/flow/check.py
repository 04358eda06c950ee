"""The checker: names, types, options and bindings of a whole pipeline, before anything is loaded.

It goes through the blocks once with the variables that are defined and their types, collects every
mistake, and binds each step to what the executor needs to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union

from pipelines.catalogue.spec import Catalogue, Port
from pipelines.definition.convert import convert
from pipelines.flow import blocks
from pipelines.flow.blocks import Block, Definition, Nested, Source, Step
from pipelines.flow.check_step import Describe, StepChecker
from pipelines.flow.checked import BoundStep, Checked
from pipelines.flow.diagnostics import in_order, nearest
from pipelines.flow.naming import repeated
from pipelines.flow.scope import Scope
from pipelines.flow.settings import UNBOUND, Settings
from pipelines.flow.types import fits, item_of, parse, show
from rag.bounds import Bounds
from rag.records import Judgement
from rag.records import Route as RouteRecord
from rag.routing.policies import POLICIES

__all__ = ["UNBOUND", "BoundStep", "Checked", "check"]

_ROUTED = RouteRecord | Judgement
_VERDICTS = ("yes", "no")
_RESERVED = ("trace", "events")


def check(
    definition: Definition,
    catalogue: Catalogue,
    *,
    bound: Iterable[str] = (),
    describe: Describe | None = None,
) -> Checked:
    """Check a pipeline.

    Args:
        definition: its blocks, every step with an id.
        catalogue: operators and resources that it may name.
        bound: resources that whoever runs it will give.
        describe: tells about an operator that is given itself; by default
            `pipelines.catalogue.describe`.

    Returns:
        Everything that is known; `errors` is empty if it can run.
    """
    return _Checker(definition, catalogue, frozenset(bound), describe).run()


class _Checker:
    """One pass over one definition.

    Attributes:
        found: what is known so far.
        types: of the variables at the end, once it has run.
    """

    def __init__(
        self,
        definition: Definition,
        catalogue: Catalogue,
        bound: frozenset[str],
        describe: Describe | None,
        *,
        trying: bool = False,
    ) -> None:
        self.found = Checked(definition, plugins=catalogue.plugins)
        self.types: dict[str, Any] = {}
        self._settings = Settings(self.found, catalogue, bound)
        self._steps = StepChecker(self.found, self._settings, describe)
        self._trying = trying

    def run(self) -> Checked:
        definition = self.found.definition
        self.found.mistakes.extend(repeated(definition))
        self._settings.declared()
        scope = Scope({name: self._input(name, of) for name, of in definition.inputs.items()})
        if not definition.steps:
            message = f"pipeline {definition.name!r} has no steps"
            self.found.say("no-steps", message, definition.place("steps"))
        self._blocks(definition.steps, scope)
        for name in definition.outputs:
            if name not in scope.types:
                self.found.say(
                    "unknown-variable",
                    f"the output {name!r} is no variable at the end",
                    definition.place(f"outputs.{name}", "outputs"),
                    nearest(name, scope.types),
                )
        self.types = scope.types
        self.found.mistakes = in_order(self.found.mistakes)
        return self.found

    def _input(self, name: str, kind: str) -> Any:
        place = self.found.definition.place(f"inputs.{name}", "inputs")
        if name in _RESERVED:
            self.found.say("reserved-name", f"an input cannot be called {name!r}", place)
        try:
            return parse(kind)
        except ValueError as error:
            self.found.say("unknown-type", f"input {name!r}: {error}", place)
            return Any

    def _blocks(self, steps: Sequence[Block], scope: Scope) -> None:
        for block in steps:
            if isinstance(block, Step):
                self._steps.step(block, scope)
            elif isinstance(block, blocks.Route):
                self._route(block, scope)
            elif isinstance(block, blocks.Branch):
                self._branch(block, scope)
            elif isinstance(block, blocks.Map):
                self._map(block, scope)
            elif isinstance(block, blocks.Loop):
                self._loop(block, scope)
            elif isinstance(block, blocks.Recurse):
                self._recurse(block, scope)
            else:
                self._nested(block, scope)

    # --- route and branch ------------------------------------------------------------------

    def _route(self, block: blocks.Route, scope: Scope) -> None:
        self._router(block, scope)
        self._policy(block)
        arms = self._arms(block.arms, scope)
        ends = [*arms.values()]
        if block.otherwise is not None:
            ends += self._arms({"else": block.otherwise}, scope).values()
        self._merges(block, block.merge, arms, scope)
        end = scope.joins if block.policy == "single" else scope.drops
        self.found.after[id(block)] = end(ends, except_for=block.merge)

    def _arms(self, arms: Mapping[str, Sequence[Block]], scope: Scope) -> dict[str, Scope]:
        scopes = {}
        for label, steps in arms.items():
            scopes[label] = scope.inner()
            self._blocks(steps, scopes[label])
            scope.reads_of(scopes[label])
        return scopes

    def _policy(self, block: blocks.Route) -> None:
        say = self.found.say
        if block.policy not in POLICIES:
            message = f"policy wants one of {', '.join(POLICIES)}, got {block.policy!r}"
            say("wrong-type", message, block.place("policy"))
        elif block.policy == "single" and block.merge:
            message = "policy single takes one arm, so merge does nothing"
            say("unused-merge", message, block.place("merge"))
        elif block.policy != "single" and not block.merge:
            message = f"policy {block.policy} can take several arms, so it needs merge"
            say("missing-merge", message, block.place("policy"))
        self._number(block, "route", "threshold", float, Bounds(0, 1))

    def _router(self, block: blocks.Route, scope: Scope) -> None:
        if not block.arms:
            self.found.say("no-arms", "route needs at least one arm", block.place("arms"))
        if isinstance(block.by, str):
            self._route_by_variable(block, block.by, scope)
            return
        kind = self._steps.step(block.by, scope)
        if kind is not None and not fits(kind, _ROUTED):
            name = self.found.steps[block.by.id].spec.name
            message = f"{name} returns {show(kind)}, not Route or Judgement, so it cannot route"
            self.found.say("wrong-type", message, block.by.place("use"))
            return
        self._check_labels(block, _VERDICTS if kind is Judgement else self._labels(block.by))

    def _route_by_variable(self, block: blocks.Route, name: str, scope: Scope) -> None:
        kind = scope.types.get(name)
        if kind is None:
            message = f"route is by {name!r}, which no step before it defines"
            hint = nearest(name, scope.types)
            self.found.say("unknown-variable", message, block.place("by"), hint)
            return
        scope.reads(name)
        if not fits(kind, _ROUTED):
            message = f"route is by {name!r}, which is {show(kind)}, not Route or Judgement"
            self.found.say("wrong-type", message, block.place("by"))
        self._check_labels(block, _VERDICTS if kind is Judgement else [])

    def _check_labels(self, block: blocks.Route, labels: Sequence[str]) -> None:
        for label in block.arms if labels else ():
            if label not in labels:
                self.found.say(
                    "unknown-label",
                    f"arm {label!r} is no label of its router",
                    block.place(f"arms.{label}", "arms"),
                    nearest(label, labels),
                )
        for label in labels if block.otherwise is None else ():
            if label not in block.arms:
                message = f"the router can answer {label!r}, which has no arm"
                self.found.say("missing-arm", message, block.place("arms"), "add it, or else")

    def _labels(self, router: Step) -> list[str]:
        """Return the labels that a router's options name; none if they do not."""
        bound = self.found.steps.get(router.id)
        options = bound.options if bound is not None else {}
        found: list[str] = []
        for name in ("rules", "routes", "labels"):
            found += list(options.get(name, ()))
        default = options.get("default")
        return [*found, default] if found and default and default not in found else found

    def _branch(self, block: blocks.Branch, scope: Scope) -> None:
        if not block.arms:
            self.found.say("no-arms", "branch needs at least one arm", block.place("arms"))
        if not block.merge:
            message = "branch needs merge: nothing of its arms survives"
            self.found.say("missing-merge", message, block.place("merge"))
        self._merges(block, block.merge, self._arms(block.arms, scope), scope)

    def _merges(
        self,
        block: blocks.Route | blocks.Branch,
        merges: Mapping[str, Step],
        arms: Mapping[str, Scope],
        scope: Scope,
    ) -> None:
        for name, step in merges.items():
            kind = self._merged(block, name, arms)
            if kind is None:
                scope.writes(name, Any)
            else:
                self._steps.merge(name, step, kind, scope)

    def _merged(
        self, block: blocks.Route | blocks.Branch, name: str, arms: Mapping[str, Scope]
    ) -> Any:
        """Return the type of a variable in all arms; None, and a mistake, if it has none."""
        place = block.place(f"merge.{name}", "merge")
        without = [label for label, arm in arms.items() if name not in arm.types]
        if without:
            known = sorted({n for arm in arms.values() for n in arm.written} - {name})
            message = f"merge of {name!r}: arm {without[0]!r} does not define it"
            self.found.say("unknown-variable", message, place, nearest(name, known))
            return None
        kinds = [arm.types[name] for arm in arms.values()] or [Any]
        if any(kind != kinds[0] for kind in kinds):
            shown = " and ".join(dict.fromkeys(map(show, kinds)))
            message = f"merge of {name!r}: it is {shown} in different arms"
            self.found.say("wrong-type", message, place)
            return None
        return kinds[0]

    # --- map, loop and recurse -------------------------------------------------------------

    def _map(self, block: blocks.Map, scope: Scope) -> None:
        kind = self._over(block, block.over, "over", scope)
        item = Any if kind is Any else item_of(kind)
        if item is None:
            message = f"over {block.over!r} wants a list, but it is {show(kind)}"
            self.found.say("wrong-type", message, block.place("over"))
            item = Any
        self._number(block, "map", "max_parallel", int, Bounds(low=1))
        inner = scope.inner({block.item: item})
        self._blocks(block.steps, inner)
        self._must_read(block, inner, block.item, "map", "as")
        self._collect(block, inner, scope)

    def _over(self, block: Source, over: str, key: str, scope: Scope) -> Any:
        if over not in scope.types:
            message = f"{key} {over!r} is no variable here"
            hint = nearest(over, scope.types)
            self.found.say("unknown-variable", message, block.place(key), hint)
            return Any
        scope.reads(over)
        return scope.types[over]

    def _number(self, block: Source, what: str, key: str, kind: type, bounds: Bounds) -> None:
        value, place = getattr(block, key), block.place(key)
        _, mistakes = convert(kind, value, f"{what}.{key}", place, bounds=bounds)
        self.found.mistakes.extend(mistakes)

    def _must_read(self, block: Source, inner: Scope, name: str, what: str, key: str) -> None:
        if name in inner.read:
            return
        read = ", ".join(sorted(inner.read)) or "nothing"
        message = f"{what} binds {name!r} but no step reads it (steps read: {read})"
        self.found.say("unread", message, block.place(f"{key}.{name}", key))

    def _collect(self, block: blocks.Map | blocks.Recurse, inner: Scope, scope: Scope) -> None:
        scope.reads_of(inner, [block.item])
        if not block.collect:
            message = "nothing is collected, so nothing of it survives"
            self.found.say("missing-key", message, block.at, "give collect and into")
        for name, into in block.collect.items():
            if name not in inner.types:
                message = f"collect {name!r} is no variable inside"
                place = block.place(f"collect.{name}", "collect")
                self.found.say("unknown-variable", message, place, nearest(name, inner.types))
            scope.writes(into, list[inner.types.get(name, Any)])  # type: ignore[misc]

    def _loop(self, block: blocks.Loop, scope: Scope) -> None:
        self._number(block, "loop", "times", int, Bounds(low=1))
        began = self._begins(block, scope)
        inner = scope.inner(began)
        self._round(block, inner)
        for name, start in block.carry.items():
            self._carried(block, name, start, began[name], inner)
        self.found.following[id(block)] = frozenset(set(block.carry) - inner.written)
        scope.reads_of(inner, block.carry)
        for name, kind in inner.types.items():
            if name in inner.written or name in began:
                scope.writes(name, kind)
        for name in inner.forgotten:
            scope.forgets(name)

    def _round(self, block: blocks.Loop, inner: Scope) -> None:
        self._blocks(block.steps, inner)
        if block.until is not None:
            self._steps.condition(block.until, inner)

    def _begins(self, block: blocks.Loop, scope: Scope) -> dict[str, Any]:
        """Return the types of the carried variables.

        One that begins as a variable which only the loop defines is None in the first round.
        """
        began = {n: scope.types[start] for n, start in block.carry.items() if start in scope.types}
        for start in block.carry.values():
            if start in scope.types:
                scope.reads(start)
        later = {n: start for n, start in block.carry.items() if start not in scope.types}
        if not later or self._trying:
            return {**began, **dict.fromkeys(later, Any)}
        ends = self._tried(block, scope.inner({**began, **dict.fromkeys(later, Any)}))
        for name, start in later.items():
            if start in ends.written and name not in ends.written:
                began[name] = _or_none(ends.types.get(start, Any))
                continue
            message = f"carry {name!r} begins as {start!r}, which no step before the loop defines"
            place = block.place(f"carry.{name}", "carry")
            self.found.say("unknown-variable", message, place, nearest(start, scope.types))
            began[name] = Any
        return began

    def _tried(self, block: blocks.Loop, inner: Scope) -> Scope:
        """Return the variables after a round, without a word about mistakes."""
        settings, steps = self._settings, self._steps
        trial = _Checker(
            self.found.definition,
            settings.catalogue,
            settings.bound,
            steps.describe,
            trying=True,
        )
        trial._round(block, inner)
        return inner

    def _carried(self, block: blocks.Loop, name: str, start: str, began: Any, inner: Scope) -> None:
        self._must_read(block, inner, name, "carry", "carry")
        place = block.place(f"carry.{name}", "carry")
        if name not in inner.written and start not in inner.written:
            message = (
                f"carry {name!r} never changes: no step in the loop writes {name!r} or {start!r}"
            )
            self.found.say("never-changes", message, place)
            return
        ends = inner.types.get(name if name in inner.written else start)
        if ends is None:
            message = f"carry {name!r} may be undefined at the end of a round"
            self.found.say("maybe-undefined", message, place)
        elif not fits(ends, began):
            message = f"carry {name!r} begins as {show(began)} and becomes {show(ends)}"
            self.found.say("wrong-type", message, place)

    def _recurse(self, block: blocks.Recurse, scope: Scope) -> None:
        self._number(block, "recurse", "max_depth", int, Bounds(low=0))
        self._number(block, "recurse", "max_nodes", int, Bounds(low=1))
        kind = self._over(block, block.seed, "seed", scope)
        item = item_of(kind) or kind
        inner = scope.inner({block.item: item})
        self._blocks(block.steps, inner)
        self._must_read(block, inner, block.item, "recurse", "as")
        children, wanted = inner.types.get(block.children), list.__class_getitem__(item)
        if children is None:
            message = f"children {block.children!r} is no variable inside"
            hint = nearest(block.children, inner.types)
            self.found.say("unknown-variable", message, block.place("children"), hint)
        elif not fits(children, wanted):
            message = (
                f"children {block.children!r} must be {show(wanted)}, but it is {show(children)}"
            )
            self.found.say("wrong-type", message, block.place("children"))
        self._collect(block, inner, scope)

    # --- nested pipelines ------------------------------------------------------------------

    def _nested(self, block: Nested, scope: Scope) -> None:
        checker = self._inside(block)
        definition = block.definition
        for name in block.inputs:
            if name not in definition.inputs:
                message = f"pipeline {definition.name!r} has no input {name!r}"
                hint = nearest(name, definition.inputs)
                self.found.say("unknown-port", message, block.place(f"in.{name}", "in"), hint)
        reader = Step(use="", inputs=block.inputs, at=block.at, places=block.places)
        for name, kind in definition.inputs.items():
            self._steps.bound(reader, definition.name, Port(name, _parsed(kind)), scope)
        for name in block.outputs:
            if name not in definition.outputs:
                message = f"pipeline {definition.name!r} has no output {name!r}"
                hint = nearest(name, definition.outputs)
                place = block.place(f"out.{name}", "out")
                self.found.say("unknown-variable", message, place, hint)
        for name in definition.outputs:
            scope.writes(block.outputs.get(name, name), checker.types.get(name, Any))

    def _inside(self, block: Nested) -> _Checker:
        """Check the inner pipeline; what it needs and does not declare the outer one needs."""
        settings = self._settings
        given = frozenset({*settings.bound, *self.found.definition.resources})
        checker = _Checker(
            block.definition,
            settings.catalogue,
            given,
            self._steps.describe,
            trying=self._trying,
        )
        inner = checker.run()
        self.found.nested[block.id] = inner
        self.found.mistakes.extend(inner.mistakes)
        for name, users in inner.needed.items():
            if name not in block.definition.resources:
                for user in users:
                    settings.needed(name, f"{block.id}/{user}")
        return checker


def _or_none(kind: Any) -> Any:
    return Any if kind is Any else Union[kind, None]  # noqa: UP007


def _parsed(text: str) -> Any:
    try:
        return parse(text)
    except ValueError:
        return Any

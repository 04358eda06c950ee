"""Names of steps: what `--set`, the trace and `extends` call them.

A step without an id has its module's name, `retrieve` for `retrieve.hybrid`; the next one without
has `retrieve_2`. They are counted in the order of running, and names that are written come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from pipelines.flow.blocks import (
    Block,
    Branch,
    Definition,
    Loop,
    Map,
    Nested,
    Recurse,
    Route,
    Step,
)
from pipelines.flow.conditions import AllOf, AnyOf, Condition, Judged, Negation
from pipelines.flow.diagnostics import Mistake

Named: TypeAlias = Step | Nested
_Change: TypeAlias = Callable[[Named], Any]


def named(definition: Definition) -> Definition:
    """Return the pipeline with an id for every step and every nested pipeline.

    Ids that are there stay, so a second call changes nothing. Inside a nested pipeline ids are
    counted anew.
    """
    found = list(identified(definition.steps))
    names = iter(assigned([(one.id, base_name(one)) for one in found]))

    def give(one: Named) -> Named:
        name = next(names)
        if isinstance(one, Nested):
            return replace(one, id=name, definition=named(one.definition))
        return replace(one, id=name)

    return replace(definition, steps=rebuilt(definition.steps, give))


def assigned(wanted: Sequence[tuple[str, str]]) -> list[str]:
    """Return a name for each pair of a written id, or an empty text, and a base name."""
    taken = {written for written, _ in wanted}
    names = []
    for written, base in wanted:
        name, number = written or base, 1
        while not written and name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        names.append(name)
    return names


def base_name(one: Named) -> str:
    """Return the name that a step would have if it were the only one."""
    if isinstance(one, Nested):
        return "pipeline"
    if isinstance(one.use, str):
        return module_of(one.use)
    called = getattr(one.use, "func", one.use)  # of functools.partial
    name = getattr(called, "__name__", type(called).__name__).lower().strip("_")
    return name if name.isidentifier() else "step"


def module_of(short_name: str) -> str:
    """Return the part of a short name before the dot; `step` for an empty one."""
    return short_name.partition(".")[0] or "step"


def repeated(definition: Definition) -> list[Mistake]:
    """Return a mistake for every written id that an earlier step has already."""
    once: Counter[str] = Counter()
    mistakes = []
    for one in identified(definition.steps):
        once[one.id] += 1
        if one.id and once[one.id] > 1:
            message = f"two steps have the id {one.id!r}"
            mistakes.append(Mistake("duplicate-id", message, one.place("id")))
    return mistakes


def identified(blocks: Iterable[Block]) -> Iterator[Named]:
    """Yield steps, nested pipelines, routers, judges and merges, in the order of running."""
    found: list[Named] = []

    def keep(one: Named) -> Named:
        found.append(one)
        return one

    rebuilt(blocks, keep)
    yield from found


def rebuilt(blocks: Iterable[Block], change: _Change) -> tuple[Block, ...]:
    """Return blocks with every step and nested pipeline changed, in the order of running."""
    return tuple(_block(block, change) for block in blocks)


def _block(block: Block, change: _Change) -> Block:
    if isinstance(block, Step):
        return _step(block, change)
    if isinstance(block, Nested):
        return change(block)  # type: ignore[no-any-return]
    if isinstance(block, Route):
        return _route(block, change)
    if isinstance(block, Branch):
        arms = _arms(block.arms, change)
        return replace(block, arms=arms, merge=_merge(block.merge, change))
    if isinstance(block, Loop):
        steps = rebuilt(block.steps, change)
        return replace(block, steps=steps, until=_condition(block.until, change))
    assert isinstance(block, (Map, Recurse))
    return replace(block, steps=rebuilt(block.steps, change))


def _step(step: Step, change: _Change) -> Step:
    return change(replace(step, when=_condition(step.when, change)))  # type: ignore[no-any-return]


def _route(route: Route, change: _Change) -> Route:
    by = route.by if isinstance(route.by, str) else _step(route.by, change)
    arms = _arms(route.arms, change)
    otherwise = None if route.otherwise is None else rebuilt(route.otherwise, change)
    merge = _merge(route.merge, change)
    return replace(route, by=by, arms=arms, otherwise=otherwise, merge=merge)


def _arms(
    arms: Mapping[str, tuple[Block, ...]], change: _Change
) -> Mapping[str, tuple[Block, ...]]:
    return {label: rebuilt(steps, change) for label, steps in arms.items()}


def _merge(merge: Mapping[str, Step], change: _Change) -> Mapping[str, Step]:
    return {variable: _step(step, change) for variable, step in merge.items()}


def _condition(of: Condition | None, change: _Change) -> Any:
    if isinstance(of, Judged):
        return Judged(_step(of.judge, change))
    if isinstance(of, (AllOf, AnyOf)):
        return type(of)(tuple(_condition(part, change) for part in of.parts))
    if isinstance(of, Negation):
        return Negation(_condition(of.part, change))
    return of

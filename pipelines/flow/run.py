"""The executor: one pass over the blocks for any number of items, step by step.

The blocks are executed by a generator that does nothing itself: it yields calls of operators and
events. A driver makes the calls, in this thread or awaited, and hands the events on; so `run`,
`batch`, `stream` and their asynchronous forms share every line of it. Items of a batch stay
together through a step, so that encoders see full batches; a route splits them per arm, a loop lets
go of those that are done, and a map makes one batch of all its items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, Any

from pipelines.flow import blocks
from pipelines.flow.blocks import Block, Nested, Step
from pipelines.flow.checked import Checked
from pipelines.flow.requests import Item, Requests, Verdicts, short
from pipelines.flow.resources import Resources
from pipelines.flow.routing import as_route, chosen
from pipelines.flow.run_step import StepRunner
from rag.records import Judgement, Query, Route

if TYPE_CHECKING:
    from pipelines.flow.conditions import Condition
    from pipelines.flow.step_cache import StepCache


@dataclass
class Executor:
    """Executes a checked pipeline.

    Attributes:
        checked: the pipeline, without errors.
        resources: its models, indexes and stores.
        cache: where steps with `cache` keep results; None keeps none.
    """

    checked: Checked
    resources: Resources
    cache: StepCache | None = None
    _inner: dict[str, Executor] = field(default_factory=dict)
    _lock: RLock = field(default_factory=RLock)
    _runner: StepRunner = field(init=False)

    def __post_init__(self) -> None:
        self._runner = StepRunner(self.checked, self.resources, self.cache)

    @property
    def opening_ms(self) -> float:
        """Time spent on making operators and opening their resources, so far."""
        inner = list(self._inner.values())
        return self._runner.opening_ms + sum(one.opening_ms for one in inner)

    def requests(self, items: Sequence[Item]) -> Requests:
        """Execute the pipeline for items, whose variables and errors are set on the way."""
        yield from self._blocks(self.checked.definition.steps, items)

    def operator(self, step: str) -> Any:
        """Return the operator of a step by its id, made when it is first needed."""
        return self._runner.operator(self.checked.steps[step])

    def close(self) -> None:
        """Close the resources that inner pipelines declare themselves, the last one first."""
        while self._inner:
            _, inner = self._inner.popitem()
            try:
                inner.close()
            finally:
                inner.resources.close()

    # --- blocks ----------------------------------------------------------------------------

    def _blocks(self, steps: Sequence[Block], items: Sequence[Item]) -> Requests:
        for block in steps:
            items = [item for item in items if item.error is None]
            if not items:
                return
            if isinstance(block, Step):
                yield from self._step(block, items)
            elif isinstance(block, blocks.Route):
                yield from self._route(block, items)
            elif isinstance(block, blocks.Branch):
                yield from self._branch(block, items)
            elif isinstance(block, blocks.Map):
                yield from self._map(block, items)
            elif isinstance(block, blocks.Loop):
                yield from self._loop(block, items)
            elif isinstance(block, blocks.Recurse):
                yield from self._recurse(block, items)
            else:
                yield from self._nested(block, items)

    def _step(self, step: Step, items: Sequence[Item]) -> Requests:
        yield from self._runner.step(self.checked.steps[step.id], items)

    def _route(self, block: blocks.Route, items: Sequence[Item]) -> Requests:
        variable = block.by
        if isinstance(block.by, Step):
            yield from self._step(block.by, items)
            variable = self.checked.steps[block.by.id].output
        taken: dict[int, list[Item]] = {}
        inside: dict[str | None, list[Item]] = {label: [] for label in (*block.arms, None)}
        for item in items:
            if item.error is None:
                labels = _labels(block, item, str(variable))
                arms = {label: item.inner(f"route[{label or 'else'}]") for label in labels}
                taken[id(item)] = list(arms.values())
                for label, inner in arms.items():
                    inside[label].append(inner)
        for label, of_arm in inside.items():
            steps = block.otherwise if label is None else block.arms[label]
            yield from self._blocks(steps or (), of_arm)
        going = [item for item in items if item.error is None]
        for item in going:
            self._survive(block, item, taken[id(item)])
        yield from self._merges(block.merge, going, taken)

    def _survive(self, block: blocks.Route, item: Item, arms: Sequence[Item]) -> None:
        """Keep what the checker says is defined after a route, whichever arms were taken."""
        item.fails_as(arms)
        after = self.checked.after[id(block)]
        for name in after.gone:
            item.variables.pop(name, None)
        if item.error is None:
            item.variables.update({name: arms[0].variables[name] for name in after.kept})

    def _branch(self, block: blocks.Branch, items: Sequence[Item]) -> Requests:
        taken = {id(item): [item.inner(f"branch[{name}]") for name in block.arms] for item in items}
        for place, steps in enumerate(block.arms.values()):
            yield from self._blocks(steps, [taken[id(item)][place] for item in items])
        for item in items:
            item.fails_as(taken[id(item)])
        yield from self._merges(block.merge, items, taken)

    def _merges(
        self,
        merges: Mapping[str, Step],
        items: Sequence[Item],
        taken: Mapping[int, Sequence[Item]],
    ) -> Requests:
        """Give each merge step what the arms of an item made of its variable, as a list."""
        for name, step in merges.items():
            going = [item for item in items if item.error is None]
            inside = []
            for item in going:
                values = [arm.variables[name] for arm in taken[id(item)]]
                variables = {**item.variables, name: values}
                inside.append(Item(item.root, variables, item.path, item.limit))
            yield from self._step(step, inside)
            for item, merged in zip(going, inside, strict=True):
                item.fails_as([merged])
                item.variables[name] = merged.variables[name]

    def _map(self, block: blocks.Map, items: Sequence[Item]) -> Requests:
        inside: dict[int, list[Item]] = {}
        for item in items:
            values = _listed(item, "map", item.variables[block.over])
            inside[id(item)] = [
                item.inner(f"map[{place}]", **{block.item: value})
                for place, value in enumerate(values)
            ]
        flat = [inner for item in items for inner in inside[id(item)]]
        for inner in flat:
            inner.limit = min(inner.limit, block.max_parallel)
        yield from self._blocks(block.steps, flat)
        for item in items:
            _collect(block.collect, item, inside[id(item)])

    def _loop(self, block: blocks.Loop, items: Sequence[Item]) -> Requests:
        follow = self.checked.following[id(block)]
        going = list(items)
        outside = {id(item): item.variables for item in items}
        state = {
            id(item): {name: item.variables.get(start) for name, start in block.carry.items()}
            for item in items
        }
        for turn in range(1, block.times + 1):
            inside = []
            for item in going:
                item.variables = outside[id(item)]
                inside.append(item.inner(f"loop[{turn}]", **state[id(item)]))
                _record_carry(inside[-1], block.carry)
            yield from self._blocks(block.steps, inside)
            done = yield from self._ending(block.until, inside)
            for item, inner in zip(going, inside, strict=True):
                item.fails_as([inner])
                item.variables = inner.variables
                state[id(item)] = {
                    name: inner.variables.get(start if name in follow else name)
                    for name, start in block.carry.items()
                }
            ends = zip(going, done, strict=True)
            going = [item for item, stops in ends if item.error is None and not stops]

    def _ending(self, until: Condition | None, inside: Sequence[Item]) -> Verdicts:
        if until is None:
            return [False] * len(inside)
        return (yield from self._runner.holding(until, inside, step="loop"))

    def _recurse(self, block: blocks.Recurse, items: Sequence[Item]) -> Requests:
        trees = [_Tree(item, block) for item in items]
        for depth in range(block.max_depth + 1):
            for tree in trees:
                tree.descend(depth)
            yield from self._blocks(block.steps, [node for tree in trees for node in tree.fresh])
            for tree in trees:
                tree.spread()
        for tree in trees:
            _collect(block.collect, tree.item, tree.nodes)

    def _nested(self, block: Nested, items: Sequence[Item]) -> Requests:
        definition = block.definition
        inside = []
        for item in items:
            inner = item.inner(block.id)
            inner.variables = {
                name: item.variables[block.inputs.get(name, name)] for name in definition.inputs
            }
            inside.append(inner)
        yield from self._of(block).requests(inside)
        for item, inner in zip(items, inside, strict=True):
            item.fails_as([inner])
            if item.error is None:
                for name in definition.outputs:
                    item.variables[block.outputs.get(name, name)] = inner.variables[name]

    def _of(self, block: Nested) -> Executor:
        """Return the executor of an inner pipeline; all runs share it."""
        with self._lock:
            if block.id not in self._inner:
                checked = self.checked.nested[block.id]
                resources = Resources(checked, {}, outer=self.resources)
                self._inner[block.id] = Executor(checked, resources, self.cache)
            return self._inner[block.id]


@dataclass
class _Tree:
    """The work of one item in a recursion.

    Attributes:
        item: the item.
        block: says how deep and how many.
        nodes: all of them, in the order of visiting.
        fresh: those of the last level.
    """

    item: Item
    block: blocks.Recurse
    nodes: list[Item] = field(default_factory=list)
    fresh: list[Item] = field(default_factory=list)
    _seen: set[Any] = field(default_factory=set)
    _level: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        seed = self.item.variables[self.block.seed]
        self._level = list(seed) if isinstance(seed, (list, tuple)) else [seed]

    def descend(self, depth: int) -> None:
        """Make the nodes of the next level: each value once in the whole tree."""
        self.fresh = []
        for value in self._level if self.item.error is None else ():
            key = _key(value)
            if key not in self._seen and len(self.nodes) < self.block.max_nodes:
                self._seen.add(key)
                place = f"recurse[{depth}.{len(self.fresh)}]"
                node = self.item.inner(place, **{self.block.item: value})
                self.nodes.append(node)
                self.fresh.append(node)

    def spread(self) -> None:
        """Gather the children of the level that has run."""
        self.item.fails_as(self.fresh)
        self._level = []
        for node in self.fresh:
            if node.error is None:
                self._level += _listed(node, "children", node.variables[self.block.children])
        self.item.fails_as(self.fresh)


def _labels(block: blocks.Route, item: Item, variable: str) -> list[str | None]:
    """Return the arms that an item takes, None for `otherwise`; empty, and an error, if none."""
    decision = item.variables[variable]
    if not isinstance(decision, (Route, Judgement)):
        got = type(decision).__name__
        item.fails("route", variable, TypeError(f"{variable} must be a Route, got {got}"))
        return []
    route = as_route(decision)
    labels: list[str | None] = [*chosen(route, block)]
    if labels or block.otherwise is not None:
        return labels or [None]
    message = (
        f"the route is {', '.join(route.labels) or 'none'}, which has no arm; arms are "
        f"{', '.join(block.arms)}, and there is no else"
    )
    item.fails("route", variable, ValueError(message))
    return []


def _listed(item: Item, what: str, values: Any) -> Sequence[Any]:
    """Return a value that has to be a list; empty, and an error, if it is none."""
    if isinstance(values, Sequence) and not isinstance(values, str):
        return values
    item.fails(what, short(values), TypeError(f"it needs a list, got {type(values).__name__}"))
    return ()


def _collect(collect: Mapping[str, str], item: Item, inside: Sequence[Item]) -> None:
    item.fails_as(inside)
    if item.error is None:
        for name, into in collect.items():
            item.variables[into] = [inner.variables[name] for inner in inside]


def _key(value: Any) -> Any:
    """Return what makes two nodes the same: a query's words, else the value."""
    if isinstance(value, Query):
        return " ".join(value.text.casefold().split())
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value


def _record_carry(item: Item, carry: Mapping[str, str]) -> None:
    if carry:
        values = {name: short(item.variables[name]) for name in carry}
        item.root.trace.event("carry", step="loop", path=item.path.rstrip("/"), values=values)

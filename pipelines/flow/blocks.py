"""The grammar of flows: step, route, branch, map, loop, recurse, pipeline, as plain data.

The functions build blocks in Python, the loader builds the same ones from YAML. Variables are named
and typed; a step reads those that are named like its ports unless `inputs` says otherwise. Source
of the shapes: Modular RAG, arXiv:2407.21059.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from pipelines.flow.conditions import Condition, condition
from pipelines.flow.diagnostics import Place
from rag.routing.policies import Policy

if TYPE_CHECKING:
    from pipelines.flow.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a block was written.

    Attributes:
        at: where the block begins; None in Python.
        places: where its keys stand, by name.
    """

    at: Place | None = field(default=None, compare=False, repr=False)
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)

    def place(self, *keys: str) -> Place | None:
        """Return where the first of these keys stands that is written at all, else the block."""
        return next((self.places[key] for key in keys if key in self.places), self.at)


@dataclass(frozen=True, kw_only=True)
class Step(Source):
    """One operator.

    Attributes:
        use: short name in the catalogue, or the operator itself.
        id: unique in the pipeline; empty until the pipeline names it after its module.
        options: option name to value; values of a YAML file are still nodes.
        inputs: port to the variable it reads, where the names differ.
        output: the variable it writes; None names it by its type.
        when: run only if this holds; else what the output variable held before stays.
        cache: keep results by content, and take them from there.
    """

    use: str | Callable[..., Any]
    id: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None
    when: Condition | None = None
    cache: bool = False


@dataclass(frozen=True, kw_only=True)
class Route(Source):
    """One arm, or some, chosen by a router.

    Attributes:
        by: a router step, or the variable that holds a route.
        arms: label to steps, in the order in which several run.
        policy: `single` runs the first label; `threshold` all whose probability is at least
            `threshold`; `top_p` the most probable until their sum reaches it; `all` all labels;
            `unsure` the first if its probability reaches `threshold`, else the two best.
        threshold: for `threshold`, `top_p` and `unsure`.
        otherwise: steps for no label, or one without an arm; None makes that an error at run time.
        merge: variable to the step that merges what several arms gave it; needed if policy is not
            `single`.
    """

    by: Step | str
    arms: Mapping[str, tuple[Block, ...]]
    policy: Policy = "single"
    threshold: float = 0.5
    otherwise: tuple[Block, ...] | None = None
    merge: Mapping[str, Step] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Branch(Source):
    """Different sub-flows over the same variables, merged in declared order.

    Attributes:
        arms: name to steps.
        merge: variable to the step that merges the arms' values of it; only these survive.
    """

    arms: Mapping[str, tuple[Block, ...]]
    merge: Mapping[str, Step]


@dataclass(frozen=True, kw_only=True)
class Map(Source):
    """The same sub-flow for every item of a list.

    Attributes:
        over: variable that holds the list.
        item: name of the variable that holds one of them inside.
        steps: the sub-flow.
        collect: variable inside to the list variable that it becomes outside, in the items' order.
        max_parallel: items whose asynchronous operators run at the same time.
    """

    over: str
    item: str
    steps: tuple[Block, ...]
    collect: Mapping[str, str]
    max_parallel: int = 8


@dataclass(frozen=True, kw_only=True)
class Loop(Source):
    """The same sub-flow again and again.

    Attributes:
        times: the most rounds, at least 1.
        steps: the sub-flow; every round begins with the variables outside and the carried ones.
        carry: loop state: variable inside to the variable outside that it begins as.
        until: ends the loop after a round in which it holds.
    """

    times: int
    steps: tuple[Block, ...]
    carry: Mapping[str, str] = field(default_factory=dict)
    until: Condition | None = None


@dataclass(frozen=True, kw_only=True)
class Recurse(Source):
    """A tree of work: every node may give children, breadth first, each value once.

    Attributes:
        seed: variable that holds the root, or a list of roots.
        item: name of the variable that holds the node inside.
        steps: the sub-flow for one node.
        children: variable inside that holds the node's children.
        max_depth: levels below the roots, at least 0.
        max_nodes: nodes in all, at least 1.
        collect: variable inside to the list variable that it becomes outside, in visiting order.
    """

    seed: str
    item: str
    steps: tuple[Block, ...]
    children: str
    max_depth: int
    max_nodes: int
    collect: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Nested(Source):
    """A pipeline as one block of another.

    Attributes:
        definition: the inner pipeline.
        id: name of the block.
        inputs: inner input to outer variable, where the names differ.
        outputs: inner output to outer variable, where the names differ.
        source: `{"name": ...}` or `{"file": ...}` as written, for writing it again.
    """

    definition: Definition
    id: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict, compare=False)


Block: TypeAlias = Step | Route | Branch | Map | Loop | Recurse | Nested


@dataclass(frozen=True, kw_only=True)
class ResourceUse(Source):
    """A model, index or store, declared once and shared by the steps.

    Attributes:
        use: short name in the catalogue, or the object itself.
        options: as of a step.
    """

    use: Any
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Definition(Source):
    """A whole pipeline, not yet checked.

    Attributes:
        name: of the pipeline.
        steps: its blocks.
        description: for a person.
        inputs: variable to type, as text, that a run is given.
        outputs: variables that a run returns.
        resources: name to resource; `index` and `lm` may stay unbound until it runs.
        variables: the `vars` of the file, as they were used.
        overrides: what `--set` changed, for the trace.
    """

    name: str
    steps: tuple[Block, ...]
    description: str = ""
    inputs: Mapping[str, str] = field(default_factory=lambda: {"query": "Query"})
    outputs: tuple[str, ...] = ("answer",)
    resources: Mapping[str, ResourceUse] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = field(default=(), compare=False)


Flow: TypeAlias = "Sequence[Block | Callable[..., Any] | str] | Block | Callable[..., Any] | str"


def step(
    use: str | Callable[..., Any],
    /,
    *,
    id: str = "",  # noqa: A002
    inputs: Mapping[str, str] | None = None,
    out: str | None = None,
    when: Mapping[str, Any] | None = None,
    cache: bool = False,
    **options: Any,
) -> Step:
    """Return a step.

    Args:
        use: a short name such as `retrieve.hybrid`, or any annotated callable.
        id: names it for `--set` and the trace; by default its module's name.
        inputs: port to variable, where the names differ.
        out: the variable it writes; by default named after its type.
        when: a condition, see `pipelines.flow.conditions`.
        cache: keep results by content.
        **options: of the operator; only with a short name.
    """
    return Step(
        use=use,
        id=id,
        options=options,
        inputs=inputs or {},
        output=out,
        when=None if when is None else condition(when),
        cache=cache,
    )


def route(
    by: Step | str | Callable[..., Any],
    arms: Mapping[str, Flow],
    *,
    policy: Policy = "single",
    threshold: float = 0.5,
    otherwise: Flow | None = None,
    merge: Mapping[str, Step | str | Callable[..., Any]] | None = None,
) -> Route:
    """Return a route; `by` is a router, its short name (with a dot), or a variable."""
    chooser = by if isinstance(by, str) and "." not in by else _as_step(by)
    return Route(
        by=chooser,
        arms={label: flow(of) for label, of in arms.items()},
        policy=policy,
        threshold=threshold,
        otherwise=None if otherwise is None else flow(otherwise),
        merge={name: _as_step(of) for name, of in (merge or {}).items()},
    )


def branch(
    arms: Mapping[str, Flow], *, merge: Mapping[str, Step | str | Callable[..., Any]]
) -> Branch:
    """Return a branch; see `Branch`."""
    return Branch(
        arms={name: flow(of) for name, of in arms.items()},
        merge={name: _as_step(of) for name, of in merge.items()},
    )


def map(  # noqa: A001
    over: str, item: str, steps: Flow, *, collect: Mapping[str, str], max_parallel: int = 8
) -> Map:
    """Return a map; see `Map`."""
    return Map(over=over, item=item, steps=flow(steps), collect=collect, max_parallel=max_parallel)


def loop(
    times: int,
    steps: Flow,
    *,
    carry: Mapping[str, str] | None = None,
    until: Mapping[str, Any] | Step | Callable[..., Any] | None = None,
) -> Loop:
    """Return a loop; `until` is a condition or a judge."""
    ends = until if until is None or isinstance(until, Mapping) else {"judge": _as_step(until)}
    return Loop(
        times=times,
        steps=flow(steps),
        carry=carry or {},
        until=None if ends is None else condition(ends),
    )


def recurse(
    seed: str,
    item: str,
    steps: Flow,
    *,
    children: str,
    max_depth: int,
    max_nodes: int,
    collect: Mapping[str, str],
) -> Recurse:
    """Return a recursion; see `Recurse`."""
    return Recurse(
        seed=seed,
        item=item,
        steps=flow(steps),
        children=children,
        max_depth=max_depth,
        max_nodes=max_nodes,
        collect=collect,
    )


def nested(
    pipeline: Pipeline | Definition,
    *,
    id: str = "",  # noqa: A002
    inputs: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
) -> Nested:
    """Return a pipeline as one block of another.

    What is bound to the pipeline is not taken over: the outer one gives what it does not declare.

    Args:
        pipeline: the inner one.
        id: names the block; `pipeline` by default.
        inputs: inner input to outer variable, where the names differ.
        outputs: inner output to outer variable, where the names differ.
    """
    definition = pipeline if isinstance(pipeline, Definition) else pipeline.definition
    return Nested(definition=definition, id=id, inputs=inputs or {}, outputs=outputs or {})


def flow(steps: Flow) -> tuple[Block, ...]:
    """Return a sequence of blocks; a callable or a short name alone is a step."""
    if isinstance(steps, str) or not isinstance(steps, Sequence):
        steps = [steps]
    return tuple(one if isinstance(one, Source) else _as_step(one) for one in steps)


def _as_step(use: Step | str | Callable[..., Any]) -> Step:
    return use if isinstance(use, Step) else Step(use=use)

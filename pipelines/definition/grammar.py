"""Nodes to blocks: every key and shape is looked at, every mistake is kept, nothing is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.definition.convert import convert
from pipelines.definition.keys import (
    BLOCKS,
    COMPARED,
    missing_keys,
    unknown_keys,
)
from pipelines.definition.nodes import Fields, Items, Node, Scalar, shape, unresolved
from pipelines.definition.steps import block_of
from pipelines.flow.blocks import (
    Block,
    Branch,
    Definition,
    Loop,
    Map,
    Nested,
    Recurse,
    ResourceUse,
    Route,
    Step,
)
from pipelines.flow.conditions import AllOf, AnyOf, Comparison, Condition, Judged, Negation, Test
from pipelines.flow.diagnostics import Mistake, Place
from rag.bounds import Bounds
from rag.routing.policies import Policy

_SHORT_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_READ = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_RESERVED = ("vars", "resources")

Inner = Callable[[str, Scalar, Mapping[str, Node]], Definition | None]


@dataclass
class Grammar:
    """Builds blocks of one file.

    Attributes:
        nested: gets `file` or `name`, its value, and variables; returns the pipeline named.
        mistakes: in the order found.
        whole: whether every block that is written could be built.
    """

    nested: Inner
    mistakes: list[Mistake] = field(default_factory=list)
    whole: bool = True

    def definition(self, root: Fields, name: str, variables: Mapping[str, Node]) -> Definition:
        """Return a whole pipeline.

        Args:
            root: the file, composed and without references.
            name: if the file has none.
            variables: its variables, resolved.
        """
        self._needs("pipeline", root)
        self._version(root)
        resources = self._map(root, "resources", "pipeline")
        outputs = self._outputs(root)
        return Definition(
            name=self._value(str, root, "name", "pipeline", name),
            description=self._value(str, root, "description", "pipeline", ""),
            steps=self._steps(root, "steps", "pipeline"),
            inputs=self._inputs(root),
            outputs=outputs,
            resources={
                key: use
                for key, value in resources.values.items()
                if (use := self._resource(value, key)) is not None
            },
            variables=variables,
            at=root.place,
            places={
                **_places(root, "inputs", "resources"),
                **_item_places(root, "outputs"),
            },
        )

    # --- parts of a pipeline ---------------------------------------------------------------

    def _version(self, root: Fields) -> None:
        version = self._value(int, root, "version", "pipeline", 1)
        if version != 1:
            place = root.values["version"].place
            self._note("wrong-version", f"version {version} is unknown; this is version 1", place)

    def _inputs(self, root: Fields) -> Mapping[str, str]:
        if "inputs" not in root.values:
            return {"query": "Query"}
        return self._names(root, "inputs", "pipeline", values=str)

    def _outputs(self, root: Fields) -> tuple[str, ...]:
        names = self._value(tuple[str, ...], root, "outputs", "pipeline", ("answer",))
        places = _item_places(root, "outputs")
        for name in names:
            if name is not None:
                self._variable(name, "pipeline.outputs", places.get(f"outputs.{name}", root.place))
        return tuple(name for name in names if name is not None)

    def _resource(self, node: Node, name: str) -> ResourceUse | None:
        fields = self._fields(node, f"resources.{name}")
        if fields is None:
            return None
        self.mistakes.extend(unknown_keys("resource", fields))
        use = self._use(fields, "resource")
        if use is None:
            return None
        options = self._map(fields, "with", use).values
        return ResourceUse(
            use=use, options=options, at=fields.place, places=_places(fields, "with")
        )

    # --- blocks ----------------------------------------------------------------------------

    def _steps(self, fields: Fields, key: str, what: str) -> tuple[Block, ...]:
        node = fields.values.get(key)
        return () if node is None else self._blocks(node, f"{what}.{key}")

    def _blocks(self, node: Node, what: str) -> tuple[Block, ...]:
        if not isinstance(node, Items):
            self._misshapen(node, f"{what} wants a list")
            return ()
        found = [self._block(item) for item in node.items]
        return tuple(block for block in found if block is not None)

    def _block(self, node: Node) -> Block | None:
        kind = block_of(node)
        if kind is not None:
            assert isinstance(node, Fields)
            body = self._fields(node.values[kind], kind)
            return None if body is None else self._of_kind(kind, body)
        beside = [key for key in BLOCKS if isinstance(node, Fields) and key in node.values]
        if beside and isinstance(node, Fields):
            other = next(key for key in node.values if key != beside[0])
            message = f"{beside[0]} is the only key of its entry, but {other} stands beside it"
            hint = f"indent what belongs to {beside[0]}"
            self._lost("wrong-shape", message, node.key_places[other], hint)
            return None
        return self._step(node)

    def _of_kind(self, kind: str, body: Fields) -> Block | None:
        if kind == "pipeline":
            return self._pipeline(body)
        self.mistakes.extend(unknown_keys(kind, body))
        if not self._needs(kind, body):
            self._also_wrong(kind, body)
            return None
        builders: Mapping[str, Callable[[Fields], Block | None]] = {
            "route": self._route,
            "branch": self._branch,
            "map": self._over,
            "loop": self._loop,
            "recurse": self._recurse,
        }
        return builders[kind](body)

    def _also_wrong(self, kind: str, body: Fields) -> None:
        """Look at the blocks inside one that cannot be built."""
        self._steps(body, "steps", kind)
        self._arms(body, kind)
        self._merge(body, kind)

    def _step(self, node: Node) -> Step | None:
        if isinstance(node, Scalar):
            node = Fields({"use": node}, {"use": node.place}, node.place)
        fields = self._fields(node, "a step")
        if fields is None:
            return None
        unknown = unknown_keys("step", fields)
        self.mistakes.extend(unknown)
        if len(unknown) == len(fields.values) == 1:
            self.whole = False
            return None
        use = self._use(fields, "step")
        if use is None:
            return None
        return Step(
            use=use,
            id=self._id(fields, use),
            options=self._map(fields, "with", use).values,
            inputs=self._names(fields, "in", use),
            output=self._output(fields, use),
            when=self._condition_of(fields, "when"),
            cache=self._value(bool, fields, "cache", use, False),
            at=fields.place,
            places=_places(fields, "with", "in", "out"),
        )

    def _output(self, fields: Fields, what: str) -> str | None:
        node = fields.values.get("out")
        if not isinstance(node, Fields):
            return self._variable_of(fields, "out", what)
        names = self._names(fields, "out", what)
        if len(names) != 1:
            message = f"{what}.out wants one variable, got {len(names)}"
            self._note("wrong-shape", message, node.place)
        return next(iter(names.values()), None)

    def _route(self, body: Fields) -> Route | None:
        by = self._chooser(body.values["by"])
        arms = self._arms(body, "route")
        otherwise = self._steps(body, "else", "route") if "else" in body.values else None
        merge = self._merge(body, "route")
        policy = self._value(Policy, body, "policy", "route", "single")
        threshold = self._value(
            float, body, "threshold", "route", 0.5, bounds=Bounds(low=0.0, high=1.0)
        )
        if by is None:
            return None
        return Route(
            by=by,
            arms=arms,
            policy=policy,
            threshold=threshold,
            otherwise=otherwise,
            merge=merge,
            at=body.place,
            places=_places(body, "arms", "merge"),
        )

    def _chooser(self, node: Node) -> Step | str | None:
        if isinstance(node, Scalar) and _VARIABLE.fullmatch(node.text):
            return node.text
        return self._step(node)

    def _branch(self, body: Fields) -> Branch:
        return Branch(
            arms=self._arms(body, "branch"),
            merge=self._merge(body, "branch"),
            at=body.place,
            places=_places(body, "arms", "merge"),
        )

    def _over(self, body: Fields) -> Map | None:
        over = self._variable_of(body, "over", "map")
        item = self._variable_of(body, "as", "map")
        steps = self._steps(body, "steps", "map")
        collect = self._collect(body, "map")
        parallel = self._value(int, body, "max_parallel", "map", 8)
        if over is None or item is None:
            return None
        return Map(
            over=over,
            item=item,
            steps=steps,
            collect=collect,
            max_parallel=parallel,
            at=body.place,
            places=_places(body, "collect"),
        )

    def _loop(self, body: Fields) -> Loop:
        return Loop(
            times=self._value(int, body, "times", "loop", 1),
            steps=self._steps(body, "steps", "loop"),
            carry=self._names(body, "carry", "loop"),
            until=self._condition_of(body, "until"),
            at=body.place,
            places=_places(body, "carry"),
        )

    def _recurse(self, body: Fields) -> Recurse | None:
        seed = self._variable_of(body, "seed", "recurse")
        children = self._variable_of(body, "children", "recurse")
        item = self._variable_of(body, "as", "recurse") if "as" in body.values else "node"
        steps = self._steps(body, "steps", "recurse")
        collect = self._collect(body, "recurse")
        depth = self._value(int, body, "max_depth", "recurse", 1)
        nodes = self._value(int, body, "max_nodes", "recurse", 1)
        if seed is None or children is None or item is None:
            return None
        return Recurse(
            seed=seed,
            item=item,
            steps=steps,
            children=children,
            max_depth=depth,
            max_nodes=nodes,
            collect=collect,
            at=body.place,
            places=_places(body, "collect"),
        )

    def _pipeline(self, body: Fields) -> Nested | None:
        self.mistakes.extend(unknown_keys("nested", body, called="pipeline"))
        named = [key for key in ("file", "name") if key in body.values]
        if len(named) != 1:
            got = "both" if named else "neither"
            self._lost("missing-key", f"pipeline needs file or name, got {got}", body.place)
            return None
        target = body.values[named[0]]
        if not isinstance(target, Scalar):
            message = f"pipeline.{named[0]} wants str, got {shape(target)}"
            self._lost("wrong-type", message, target.place)
            return None
        variables = self._map(body, "with", "pipeline").values
        inputs = self._names(body, "in", "pipeline")
        inner = self.nested(named[0], target, variables)
        outputs = self._nested_outputs(body, inner)
        if inner is None:
            self.whole = False
            return None
        source = {named[0]: target, **({"with": variables} if variables else {})}
        return Nested(
            definition=inner,
            id=self._id(body, "pipeline"),
            inputs=inputs,
            outputs=outputs,
            source=source,
            at=body.place,
            places=_places(body, "in", "out", "with"),
        )

    def _nested_outputs(self, body: Fields, inner: Definition | None) -> Mapping[str, str]:
        node = body.values.get("out")
        if not isinstance(node, Scalar):
            return self._names(body, "out", "pipeline")
        name = self._variable_of(body, "out", "pipeline")
        if inner is None or name is None:
            return {}
        if len(inner.outputs) == 1:
            return {inner.outputs[0]: name}
        message = f"pipeline.out wants a map, for {inner.name} has {len(inner.outputs)} outputs"
        hint = f"outputs: {', '.join(inner.outputs)}"
        self._note("wrong-shape", message, node.place, hint)
        return {}

    # --- parts of blocks -------------------------------------------------------------------

    def _arms(self, body: Fields, what: str) -> Mapping[str, tuple[Block, ...]]:
        arms = self._map(body, "arms", what).values
        return {label: self._blocks(arm, f"{what}.arms.{label}") for label, arm in arms.items()}

    def _merge(self, body: Fields, what: str) -> Mapping[str, Step]:
        merge = self._map(body, "merge", what)
        for name in merge.values:
            self._variable(name, f"{what}.merge", merge.key_places[name])
        found = {name: self._step(step) for name, step in merge.values.items()}
        return {name: step for name, step in found.items() if step is not None}

    def _collect(self, body: Fields, what: str) -> Mapping[str, str]:
        if isinstance(body.values["collect"], Fields):
            if "into" in body.values:
                message = f"{what}.into goes with one collected variable, not with a map"
                self._note("wrong-shape", message, body.key_places["into"])
            return self._names(body, "collect", what)
        inside = self._variable_of(body, "collect", what)
        if "into" not in body.values:
            message = f"{what} needs into: it names the list of all {inside or 'collected'}"
            hint = f"or collect: {{{inside or 'NAME'}: LIST}}"
            self._lost("missing-key", message, body.key_places["collect"], hint)
            return {}
        into = self._variable_of(body, "into", what)
        return {} if inside is None or into is None else {inside: into}

    def _condition_of(self, fields: Fields, key: str) -> Condition | None:
        return self._condition(fields.values[key], key) if key in fields.values else None

    def _condition(self, node: Node, what: str) -> Condition | None:
        fields = self._fields(node, what)
        if fields is None:
            return None
        self.mistakes.extend(unknown_keys("condition", fields, called=what))
        kinds = [key for key in ("var", "all", "any", "not", "judge") if key in fields.values]
        compared = [key for key in COMPARED if key in fields.values]
        if len(kinds) != 1 or len(compared) > 1 or (compared and kinds != ["var"]):
            message = (
                f"{what} wants var with at most one of {', '.join(COMPARED)}, "
                f"or one of all, any, not, judge; got {', '.join(fields.values) or 'nothing'}"
            )
            self._lost("bad-condition", message, fields.place)
            return None
        return self._of_condition(kinds[0], fields, what, compared)

    def _of_condition(
        self, kind: str, fields: Fields, what: str, compared: list[str]
    ) -> Condition | None:
        node = fields.values[kind]
        if kind == "var":
            return self._test(fields, what, compared)
        if kind == "judge":
            judge = self._step(node)
            return None if judge is None else Judged(judge)
        if kind == "not":
            part = self._condition(node, what)
            return None if part is None else Negation(part)
        if not isinstance(node, Items) or not node.items:
            message = f"{what}.{kind} wants a list of conditions, got {_amount(node)}"
            self._lost("wrong-shape", message, node.place)
            return None
        parts = [self._condition(item, what) for item in node.items]
        known = tuple(part for part in parts if part is not None)
        return AllOf(known) if kind == "all" else AnyOf(known)

    def _test(self, fields: Fields, what: str, compared: list[str]) -> Test | None:
        node = fields.values["var"]
        text = self._value(str, fields, "var", what, None)
        if text is None or not _READ.fullmatch(text):
            if text is not None:
                message = f"{what}.var wants a variable such as judgement.score, got {text!r}"
                self._note("bad-name", message, node.place)
            self.whole = False
            return None
        if not compared:
            return Test(text, "true", at=node.place)
        comparison: Comparison = compared[0]  # type: ignore[assignment]
        value = fields.values[comparison]
        return Test(text, comparison, value, at=node.place, value_at=value.place)

    # --- values ----------------------------------------------------------------------------

    def _use(self, fields: Fields, what: str) -> str | None:
        if not self._needs(what, fields):
            return None
        use = self._value(str, fields, "use", what, None)
        if use is not None and _SHORT_NAME.fullmatch(use):
            return str(use)
        self.whole = False
        if use is not None:
            dotted = use.count(".") > 1 or ":" in use
            message = f"{what}.use wants a short name such as retrieve.hybrid, got {use!r}"
            hint = "no dotted imports; own operators come by --plugin FILE" if dotted else ""
            code = "dotted-import" if dotted else "bad-name"
            self._note(code, message, fields.values["use"].place, hint)
        return None

    def _id(self, fields: Fields, what: str) -> str:
        text: str = self._value(str, fields, "id", what, "")
        if "id" not in fields.values or not text:
            return ""
        if not _ID.fullmatch(text) or text in _RESERVED:
            message = f"{what}.id wants letters, digits, - and _, got {text!r}"
            hint = f"{text} is what --set calls something else" if text in _RESERVED else ""
            self._note("bad-name", message, fields.values["id"].place, hint)
            return ""
        return text

    def _names(
        self, fields: Fields, key: str, what: str, *, values: type[str] | None = None
    ) -> Mapping[str, str]:
        """Return a map of names to variables, or to any text."""
        inside = self._map(fields, key, what)
        found = {}
        for name, node in inside.values.items():
            self._variable(name, f"{what}.{key}", inside.key_places[name])
            text, mistakes = convert(str, node, f"{what}.{key}.{name}")
            self.mistakes.extend(mistakes)
            if text is not None:
                found[name] = text
                if values is None:
                    self._variable(text, f"{what}.{key}.{name}", node.place)
        return found

    def _variable_of(self, fields: Fields, key: str, what: str) -> str | None:
        """Return the variable that a key names; None, and a mistake, if it is no name."""
        if key not in fields.values:
            return None
        text = self._value(str, fields, key, what, None)
        node = fields.values[key]
        if text is not None and self._variable(text, f"{what}.{key}", node.place):
            return str(text)
        self.whole = False
        return None

    def _variable(self, name: str, what: str, place: Place) -> bool:
        if _VARIABLE.fullmatch(name):
            return True
        message = f"{what} wants a variable such as passages, got {name!r}"
        self._note("bad-name", message, place)
        return False

    def _value(
        self,
        kind: Any,
        fields: Fields,
        key: str,
        what: str,
        default: Any,
        *,
        bounds: Bounds | None = None,
    ) -> Any:
        if key not in fields.values:
            return default
        value, mistakes = convert(kind, fields.values[key], f"{what}.{key}", bounds=bounds)
        self.mistakes.extend(mistakes)
        return default if mistakes or unresolved(fields.values[key]) else value

    def _map(self, fields: Fields, key: str, what: str) -> Fields:
        node = fields.values.get(key)
        if isinstance(node, Fields):
            return node
        if node is not None:
            self._misshapen(node, f"{what}.{key} wants a map")
        return Fields({}, {}, fields.place)

    def _fields(self, node: Node, what: str) -> Fields | None:
        if isinstance(node, Fields):
            return node
        self._misshapen(node, f"{what} wants a map")
        return None

    def _needs(self, part: str, fields: Fields) -> bool:
        mistakes = missing_keys(part, fields)
        self.mistakes.extend(mistakes)
        self.whole = self.whole and not mistakes
        return not mistakes

    def _misshapen(self, node: Node, wanted: str) -> None:
        self.whole = False
        if not unresolved(node):
            self._note("wrong-shape", f"{wanted}, got {shape(node)}", node.place)

    def _lost(self, code: str, message: str, place: Place, hint: str = "") -> None:
        self.whole = False
        self._note(code, message, place, hint)

    def _note(self, code: str, message: str, place: Place, hint: str = "") -> None:
        self.mistakes.append(Mistake(code, message, place, hint))


def _amount(node: Node) -> str:
    return "none" if isinstance(node, Items) else shape(node)


def _places(fields: Fields, *maps: str) -> dict[str, Place]:
    """Return where keys stand, and as `with.top_k` where those inside some of them do."""
    places = dict(fields.key_places)
    for key in maps:
        inside = fields.values.get(key)
        if isinstance(inside, Fields):
            for name, place in inside.key_places.items():
                places[f"{key}.{name}"] = place
    return places


def _item_places(fields: Fields, key: str) -> dict[str, Place]:
    inside = fields.values.get(key)
    items = inside.items if isinstance(inside, Items) else ()
    return {f"{key}.{item.text}": item.place for item in items if isinstance(item, Scalar)}

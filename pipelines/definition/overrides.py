"""Overrides, `--set retrieve.top_k=20`: a value for a step, a resource or a variable.

The first name is the id of a step, the name of a resource, `vars` or `resources`; the second a key
of the step such as `use`, or else one of its options, so that `with` may be left out. The value is
YAML: text, number, `[a, b]`, `{k: 1}`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pipelines.definition.compose import merged_resource
from pipelines.definition.document import read_text
from pipelines.definition.interpolate import Interpolation
from pipelines.definition.keys import KEYS
from pipelines.definition.nodes import Fields, Items, Node, Scalar
from pipelines.definition.steps import merged, patched, step_names
from pipelines.flow.diagnostics import Mistake, Place, nearest

_PATH = re.compile(r"[^\s.=]+(\.[^\s.=]+)+")
_FILE = "--set"


@dataclass(frozen=True)
class Override:
    """One `--set`, read.

    Attributes:
        path: names before the equals sign.
        value: what is after it.
        place: where it begins: file `--set`, the number of the override as line.
    """

    path: tuple[str, ...]
    value: Node
    place: Place

    @property
    def head(self) -> str:
        """The id, the resource or `vars`."""
        return self.path[0]

    def nested(self, *path: str) -> Fields:
        """Return the value inside maps with these keys."""
        node = self.value
        for key in reversed(path):
            node = Fields({key: node}, {key: self.place}, self.place)
        assert isinstance(node, Fields)
        return node


@dataclass
class Overrides:
    """All `--set` of one run.

    Attributes:
        given: those that could be read.
        mistakes: what is wrong with them.
    """

    given: list[Override] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)

    def on_variables(self, root: Fields) -> Fields:
        """Return a pipeline with other `vars`; only those that are there can be set."""
        for one in self._for("vars"):
            variables = root.values.get("vars")
            known = list(variables.values) if isinstance(variables, Fields) else []
            if one.path[1] not in known:
                hint = nearest(one.path[1], known)
                self._unknown("unknown-var", f"there is no vars.{one.path[1]}", one, hint)
                continue
            root = merged(root, one.nested(*one.path))
        return root

    def on_resources(self, root: Fields, values: Interpolation) -> Fields:
        """Return a pipeline with other resources; one that is not there begins with its `use`."""
        for one in self.given:
            resources = root.values.get("resources")
            known = resources.values if isinstance(resources, Fields) else {}
            path = self._resource_path(one, known, root)
            if path is None:
                continue
            name, *inside = path
            patch = _resolved(one, values).nested(*_long(inside, KEYS["resource"].names))
            before = known.get(name)
            if isinstance(before, Fields):
                patch = merged_resource(before, patch)
            elif inside[0] != "use":
                hint = nearest(name, known) or f"--set resources.{name}.use=... declares it"
                self._unknown("unknown-id", f"there is no resource {name!r}", one, hint)
                continue
            root = _with_resource(root, name, patch, one.place)
        return root

    def on_steps(self, root: Fields, values: Interpolation) -> Fields:
        """Return a pipeline with other steps; their ids are those of the pipeline as it is."""
        for one in self.given:
            steps = root.values.get("steps")
            names = step_names(steps) if isinstance(steps, Items) else []
            if steps is not None and one.head in names:
                keys = KEYS["step"].names
                patch = _resolved(one, values).nested(*_long(one.path[1:], keys))
                root = root.having("steps", patched(steps, {one.head: patch}))
            elif one.head not in ("vars", "resources", *_resources(root)):
                known = [*dict.fromkeys(names), *_resources(root), "vars", "resources"]
                hint = nearest(one.head, known)
                self._unknown("unknown-id", f"no step has the id {one.head!r}", one, hint)
        return root

    def _for(self, head: str) -> list[Override]:
        return [one for one in self.given if one.head == head]

    def _resource_path(
        self, one: Override, known: dict[str, Node], root: Fields
    ) -> Sequence[str] | None:
        if one.head == "resources":
            if len(one.path) > 2:
                return one.path[1:]
            self._unknown("bad-override", _WANTED.format(".".join(one.path)), one, _EXAMPLE)
            return None
        steps = root.values.get("steps")
        is_step = isinstance(steps, Items) and one.head in step_names(steps)
        return one.path if one.head in known and not is_step else None

    def _unknown(self, code: str, message: str, one: Override, hint: str) -> None:
        self.mistakes.append(Mistake(code, message, one.place, hint))


_WANTED = "--set wants NAME.OPTION=VALUE, got {!r}"
_EXAMPLE = "for example --set retrieve.top_k=20"


def read_overrides(texts: Sequence[str]) -> Overrides:
    """Return overrides and what is wrong with their grammar."""
    found = Overrides()
    for number, text in enumerate(texts, 1):
        place = Place(_FILE, number, 1)
        path, equals, value = text.partition("=")
        if not equals:
            message = f"no '=' in --set {text!r}"
            found.mistakes.append(Mistake("bad-override", message, place, _EXAMPLE))
        elif not _PATH.fullmatch(path):
            message = _WANTED.format(text)
            found.mistakes.append(Mistake("bad-override", message, place, _EXAMPLE))
        else:
            node, mistakes = _value(value, number, len(path) + 1)
            found.mistakes.extend(mistakes)
            if node is not None:
                found.given.append(Override(tuple(path.split(".")), node, place))
    return found


def _value(text: str, number: int, before: int) -> tuple[Node | None, list[Mistake]]:
    def at(line: int, column: int) -> Place:
        return Place(_FILE, number, column + before if line == 1 else column)

    if not text.strip():
        return Scalar("", quoted=False, place=at(1, 1)), []
    node, mistakes = read_text(text, _FILE, at=at)
    return node, [replace(one, message=f"--set value: {one.message}") for one in mistakes]


def _long(path: Sequence[str], keys: Sequence[str]) -> Sequence[str]:
    return path if path[0] in keys else ("with", *path)


def _resolved(one: Override, values: Interpolation) -> Override:
    return replace(one, value=values.resolved(one.value))


def _resources(root: Fields) -> list[str]:
    resources = root.values.get("resources")
    return list(resources.values) if isinstance(resources, Fields) else []


def _with_resource(root: Fields, name: str, resource: Fields, place: Place) -> Fields:
    resources = root.values.get("resources")
    if not isinstance(resources, Fields):
        resources = Fields({}, {}, place)
    return root.having("resources", resources.having(name, resource, place))

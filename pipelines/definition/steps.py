"""Where steps stand in a file that is still nodes: what `include`, `extends` and `--set` work on.

Steps are met in the order in which `pipelines.flow.naming` counts them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipelines.definition.keys import BLOCKS
from pipelines.definition.nodes import Fields, Items, Node, Scalar
from pipelines.flow.naming import assigned, module_of


def _same_list(items: Items) -> Items:
    return items


@dataclass(frozen=True)
class Rewriting:
    """Changes the steps of a file; whatever has another shape is left for the grammar to refuse.

    Attributes:
        step: gets a step, or the body of a nested pipeline, and the name it has if alone.
        blocks: gets every list of blocks before what is in it.
    """

    step: Callable[[Node, str], Node]
    blocks: Callable[[Items], Items] = _same_list

    def of(self, node: Node) -> Node:
        """Return a list of blocks, changed; any other node as it is."""
        if not isinstance(node, Items):
            return node
        node = self.blocks(node)
        return replace(node, items=tuple(self._entry(entry) for entry in node.items))

    def _entry(self, entry: Node) -> Node:
        kind = block_of(entry)
        if kind is None:
            return self._step(entry)
        assert isinstance(entry, Fields)
        body = entry.values[kind]
        if not isinstance(body, Fields):
            return entry
        return entry.having(kind, self._body(kind, body))

    def _body(self, kind: str, body: Fields) -> Fields:
        if kind == "pipeline":
            changed = self.step(body, "pipeline")
            assert isinstance(changed, Fields)
            return changed
        by = body.values.get("by")
        if isinstance(by, Fields) or (isinstance(by, Scalar) and "." in by.text):
            body = body.having("by", self._step(by))
        body = self._each(body, "arms", self.of)
        for key in ("else", "steps"):
            if key in body.values:
                body = body.having(key, self.of(body.values[key]))
        body = self._each(body, "merge", self._step)
        if "until" in body.values:
            body = body.having("until", self._condition(body.values["until"]))
        return body

    def _each(self, body: Fields, key: str, change: Callable[[Node], Node]) -> Fields:
        inside = body.values.get(key)
        if not isinstance(inside, Fields):
            return body
        values = {name: change(node) for name, node in inside.values.items()}
        return body.having(key, replace(inside, values=values))

    def _step(self, node: Node) -> Node:
        if isinstance(node, Items):
            return node
        if isinstance(node, Fields) and "when" in node.values:
            node = node.having("when", self._condition(node.values["when"]))
        return self.step(node, _base(node))

    def _condition(self, node: Node) -> Node:
        if isinstance(node, Items):
            return replace(node, items=tuple(self._condition(part) for part in node.items))
        if not isinstance(node, Fields):
            return node
        if "judge" in node.values:
            return node.having("judge", self._step(node.values["judge"]))
        for key in ("all", "any", "not"):
            if key in node.values:
                node = node.having(key, self._condition(node.values[key]))
        return node


def block_of(entry: Node) -> str | None:
    """Return which block an entry of a list is; None for a step."""
    if isinstance(entry, Fields) and len(entry.values) == 1:
        (key,) = entry.values
        return key if key in BLOCKS else None
    return None


def step_names(steps: Node) -> list[str]:
    """Return the name of every step, in order, as `named` would give it."""
    wanted: list[tuple[str, str]] = []

    def note(node: Node, base: str) -> Node:
        wanted.append((_written_id(node), base))
        return node

    Rewriting(note).of(steps)
    return assigned(wanted)


def patched(steps: Node, patches: dict[str, Fields]) -> Node:
    """Return steps with some of them merged with what is given by their name."""
    names = iter(step_names(steps))

    def patch(node: Node, _: str) -> Node:
        name = next(names)
        return merged_step(node, patches[name], name) if name in patches else node

    return Rewriting(patch).of(steps)


def merged_step(step: Node, patch: Fields, name: str) -> Fields:
    """Return a step with the keys of another: maps merge, all else replaces.

    Another operator begins without the options of the one before; the name stays.
    """
    fields = as_fields(step)
    if _text(patch, "use") not in (None, _text(fields, "use")):
        fields = fields.without("with")
    if "use" in patch.values:
        fields = fields.having("id", Scalar(name, quoted=False, place=patch.place))
    return merged(fields, patch)


def merged(base: Fields, patch: Fields) -> Fields:
    """Return a map with the keys of another: maps merge, all else replaces."""
    for key, value in patch.values.items():
        before = base.values.get(key)
        if isinstance(before, Fields) and isinstance(value, Fields):
            inside = merged(before, value)
            base = base.having(key, replace(inside, place=value.place), patch.key_places[key])
        else:
            base = base.having(key, value, patch.key_places[key])
    return base


def as_fields(step: Node) -> Fields:
    """Return a step in its long form."""
    if isinstance(step, Fields):
        return step
    return Fields({"use": step}, {"use": step.place}, step.place)


def _base(node: Node) -> str:
    use = node.text if isinstance(node, Scalar) else _text(node, "use")
    return module_of(use or "")


def _written_id(node: Node) -> str:
    return _text(node, "id") or ""


def _text(node: Node, key: str) -> str | None:
    value = node.values.get(key) if isinstance(node, Fields) else None
    return value.text if isinstance(value, Scalar) else None

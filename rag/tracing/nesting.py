"""A trace's flat records as nested steps, for every view of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rag.tracing.trace import Trace


@dataclass
class Node:
    """A step that ran, or a block that steps ran in.

    Attributes:
        name: last part of its path.
        path: where it ran; empty for the run itself.
        span: its record; None for a block, and for a step that never ended.
        events: what happened in it.
        children: steps and blocks inside, in the order in which they began.
        began_ms: since the run began.
        ended_ms: likewise; of a block, when the last of its steps ended.
    """

    name: str
    path: str
    span: Mapping[str, Any] | None = None
    events: list[Mapping[str, Any]] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    began_ms: float = 0.0
    ended_ms: float = 0.0

    @property
    def wall_ms(self) -> float:
        """Time between begin and end."""
        return self.ended_ms - self.began_ms

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Node]]:
        """Yield every node below this one with its depth from 0, each before its children."""
        for child in self.children:
            yield depth, child
            yield from child.walk(depth + 1)


def nested(trace: Trace) -> Node:
    """Return the run as a tree; its root ends when the last thing in it did."""
    root = Node("run", "")
    nodes: dict[str, list[Node]] = {"": [root]}
    last = root
    homes: list[tuple[Node, Mapping[str, Any]]] = []
    for record in trace.records[1:]:
        if record["kind"] == "span":
            last = _placed(record, nodes)
        elif "path" not in record:
            homes.append((last, record))
    placed = [r for r in trace.records[1:] if r["kind"] == "event" and "path" in r]
    homes += [(_home(record, nodes), record) for record in placed]
    for node, event in homes:
        node.events.append(event)
    for node in (root, *(node for _, node in root.walk())):
        node.events.sort(key=lambda record: record["at_ms"])
    _bound(root)
    root.began_ms = 0.0
    root.ended_ms = max([root.ended_ms, *(record["at_ms"] for record in trace.records)])
    return root


def _placed(record: Mapping[str, Any], nodes: dict[str, list[Node]]) -> Node:
    """Return the node of a span; a path that ran already gets another node."""
    path = record.get("path") or record["name"]
    node = _at(path, nodes)
    if node.span is not None:
        node = _added(path, nodes)
    node.span = record
    # Before spans had paths, `at_ms` was their end.
    end = record["at_ms"] + (record["wall_ms"] if "path" in record else 0.0)
    node.began_ms, node.ended_ms = max(0.0, end - record["wall_ms"]), end
    return node


def _home(record: Mapping[str, Any], nodes: dict[str, list[Node]]) -> Node:
    """Return the last node of an event's path that had begun by then."""
    _at(record["path"], nodes)
    candidates = nodes[record["path"]]
    begun = [node for node in candidates if node.span and node.began_ms <= record["at_ms"]]
    return (begun or candidates)[-1]


def _at(path: str, nodes: dict[str, list[Node]]) -> Node:
    return nodes[path][-1] if path in nodes else _added(path, nodes)


def _added(path: str, nodes: dict[str, list[Node]]) -> Node:
    outer, _, name = path.rpartition("/")
    node = Node(name or path, path)
    _at(outer, nodes).children.append(node)
    nodes.setdefault(path, []).append(node)
    return node


def _bound(node: Node) -> None:
    """Give blocks the times of what is inside them, and order children by begin."""
    for child in node.children:
        _bound(child)
    if node.span is None:
        times = [event["at_ms"] for event in node.events]
        node.began_ms = min([*(child.began_ms for child in node.children), *times], default=0.0)
        node.ended_ms = max([*(child.ended_ms for child in node.children), *times], default=0.0)
    node.children.sort(key=lambda child: child.began_ms)


def events(root: Node, name: str) -> Iterator[tuple[Node, Mapping[str, Any]]]:
    """Yield the events of a name with their nodes, in the order in which they happened."""
    found = [
        (node, event)
        for node in (root, *(node for _, node in root.walk()))
        for event in node.events
        if event["name"] == name
    ]
    yield from sorted(found, key=lambda one: one[1]["at_ms"])


@dataclass(frozen=True)
class Seen:
    """What a trace tells of one passage.

    Attributes:
        id: of the passage.
        text: its text; empty if the trace keeps no content.
        document: its document's id, where told.
        title: its title, where told.
        start: where its text begins in the document's text.
        hits: nodes and rows of the retrievals that found it.
        decisions: nodes and events of the prunings that decided on it.
    """

    id: str
    text: str
    document: str
    title: str
    start: int
    hits: tuple[tuple[Node, Mapping[str, Any]], ...] = ()
    decisions: tuple[tuple[Node, Mapping[str, Any]], ...] = ()


def passages(root: Node) -> list[Seen]:
    """Return the passages of a run, in the order in which they were first seen.

    Events of another shape than `events_of` gives are passed over: an operator may write its own.
    """
    told: dict[str, dict[str, Any]] = {}
    hits: dict[str, list[tuple[Node, Mapping[str, Any]]]] = {}
    decisions: dict[str, list[tuple[Node, Mapping[str, Any]]]] = {}
    for node, event in events(root, "retrieved"):
        for row in _objects(event.get("passages")):
            if isinstance(row.get("id"), str):
                _learn(told.setdefault(row["id"], {}), row)
                hits.setdefault(row["id"], []).append((node, row))
    for node, event in events(root, "pruned"):
        id_ = event.get("passage")
        if isinstance(id_, str) and sentences_of(event):
            _learn(told.setdefault(id_, {}), event)
            decisions.setdefault(id_, []).append((node, event))
    return [
        Seen(
            id=id_,
            text=facts.get("text", ""),
            document=facts.get("document", ""),
            title=facts.get("title", ""),
            start=facts.get("start", 0),
            hits=tuple(hits.get(id_, ())),
            decisions=tuple(decisions.get(id_, ())),
        )
        for id_, facts in told.items()
    ]


def sentences_of(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the sentences of a `pruned` event that have the shape of one."""
    return [s for s in _objects(event.get("sentences")) if is_span(s.get("span"))]


def is_span(value: Any) -> bool:
    """Return whether a value is `[start, end]`."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(end, int) for end in value)
        and 0 <= value[0] <= value[1]
    )


def _objects(value: Any) -> list[Mapping[str, Any]]:
    items = value if isinstance(value, (list, tuple)) else ()
    return [item for item in items if isinstance(item, Mapping)]


def _learn(facts: dict[str, Any], row: Mapping[str, Any]) -> None:
    for key in ("text", "document", "title"):
        if isinstance(row.get(key), str):
            facts[key] = row[key]
    if is_span(row.get("span")):
        facts["start"] = row["span"][0]

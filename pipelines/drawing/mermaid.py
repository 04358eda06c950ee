"""A pipeline as Mermaid text, a flowchart with a sub-graph for every block."""

from collections.abc import Sequence

from pipelines.drawing.shapes import Lane, Picture, Shape

Ends = list[tuple[str, str]]
"""Nodes that the next one follows, each with the label of the arrow."""


def drawn(picture: Picture) -> str:
    """Return the flowchart; labels are quoted and their special characters written as codes."""
    chart = _Chart()
    chart.add(f'given(["{_escaped(picture.inputs or "nothing")}"])')
    ends = chart.sequence(picture.shapes, [("given", "")])
    chart.add(f'returned(["{_escaped(picture.outputs or "nothing")}"])')
    chart.follow(ends, "returned")
    return "\n".join(["flowchart TD", f"  %% {_comment(picture.name)}", *chart.lines])


class _Chart:
    """Collects lines and numbers nodes."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._depth = 1
        self._count = 0

    def add(self, line: str) -> None:
        self.lines.append("  " * self._depth + line)

    def follow(self, ends: Ends, node: str) -> None:
        for end, label in ends:
            shown = f'|"{_escaped(label)}"|' if label else ""
            self.add(f"{end} -->{shown} {node}")

    def sequence(self, shapes: Sequence[Shape], ends: Ends) -> Ends:
        for shape in shapes:
            ends = self._shape(shape, ends)
        return ends

    def _shape(self, shape: Shape, ends: Ends) -> Ends:
        if shape.kind == "step":
            node = self._node(shape)
            self.follow(ends, node)
            return [(node, shape.gives)]
        self._count += 1
        group = f"g{self._count}"
        self.add(f'subgraph {group}["{_lines(shape)}"]')
        self._depth += 1
        ends = self.sequence(shape.before, ends)
        if not shape.before and any(lane.label for lane in shape.lanes):
            ends = self._fork(shape.kind, ends)
        first = self._count + 1
        out: Ends = []
        for lane in shape.lanes:
            out += self._lane(lane, ends)
        if shape.kind in ("loop", "recurse") and self._count >= first:
            again = "again" if shape.kind == "loop" else "children"
            for end, _ in out:
                self.add(f'{end} -.->|"{again}"| {self._first(first)}')
        out = self.sequence(shape.after, out)
        self._depth -= 1
        self.add("end")
        return out

    def _fork(self, kind: str, ends: Ends) -> Ends:
        """Add a node that all arms leave from, and return it."""
        self._count += 1
        node = f"s{self._count}"
        self.add(f'{node}{{"{kind}"}}')
        self.follow(ends, node)
        return [(node, "")]

    def _lane(self, lane: Lane, ends: Ends) -> Ends:
        labelled = [(end, lane.label or label) for end, label in ends]
        return self.sequence(lane.shapes, labelled)

    def _first(self, number: int) -> str:
        """Return the node or group of that number."""
        known = any(line.strip().startswith(f"subgraph g{number}[") for line in self.lines)
        return f"g{number}" if known else f"s{number}"

    def _node(self, shape: Shape) -> str:
        self._count += 1
        node = f"s{self._count}"
        self.add(f'{node}["{_lines(shape)}"]')
        return node


def _lines(shape: Shape) -> str:
    return "<br/>".join(_escaped(line) for line in (shape.title, *shape.details))


def _escaped(text: str) -> str:
    """Return a text whose characters that mean something to Mermaid or HTML are codes."""
    return "".join(
        char if char.isalnum() or char in " .,_-=:/←→…" else f"#{ord(char)};"
        for char in text
        if char.isprintable()
    )


def _comment(text: str) -> str:
    return "".join(char for char in text if char.isprintable() and char not in "{}%")

"""A pipeline as one SVG image: nested boxes, arrows with the variables that pass along them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.drawing.shapes import Picture, Shape
from pipelines.drawing.svg_text import escaped, text_at, text_width

_STYLE = """\
.dovetail-flow { --ground: #fbfbfa; --step: #ffffff; --line: #9aa3af; --text: #1d1f21;
  --quiet: #5b6067; --accent: #2f5fb3; --block: #eef1f6; }
@media (prefers-color-scheme: dark) { .dovetail-flow { --ground: #16181b;
  --step: #23272d; --line: #67707d;
  --text: #e4e5e7; --quiet: #a2a8b0; --accent: #8fb4f5; --block: #1c2026; } }
.dovetail-flow text { font-family: system-ui, "Segoe UI", "Noto Sans", "Liberation Sans",
  "DejaVu Sans", sans-serif; font-size: 13px; fill: var(--text); white-space: pre; }
.dovetail-flow .title { font-weight: 600; }
.dovetail-flow .middle { text-anchor: middle; }
.dovetail-flow .detail { font-size: 11.5px; fill: var(--quiet); }
.dovetail-flow .variable { font-size: 11.5px; fill: var(--accent); }
.dovetail-flow .ground { fill: var(--ground); }
.dovetail-flow .step { fill: var(--step); stroke: var(--line); }
.dovetail-flow .block { fill: var(--block); stroke: var(--line); fill-opacity: .75; }
.dovetail-flow .lane { fill: none; stroke: var(--line); stroke-dasharray: 3 3; }
.dovetail-flow .end { fill: none; stroke: var(--accent); }
.dovetail-flow .arrow { fill: none; stroke: var(--quiet); }
.dovetail-flow .head { fill: var(--quiet); }
"""
_PAD = 12.0
_GAP = 30.0
_LINE = 17.0
_BACK = 26.0
_LEAST = 90.0


@dataclass
class _Box:
    """Something with a size, drawn at a place that is given later."""

    width: float
    height: float
    kind: str
    title: str = ""
    details: tuple[str, ...] = ()
    gives: str = ""
    inside: list[_Row] = field(default_factory=list)
    back: str = ""


@dataclass
class _Row:
    """Columns side by side inside a box."""

    columns: list[_Column]
    width: float
    height: float


@dataclass
class _Column:
    """Boxes from top to bottom with arrows between them, in a lane that may have a label."""

    boxes: list[_Box]
    label: str
    width: float
    height: float


def drawn(picture: Picture) -> str:
    """Return the image; every text in it is escaped, and it refers to nothing outside."""
    given = _end(picture.inputs or "nothing", "")
    returned = _end(picture.outputs or "nothing", "")
    column = _column([given, *(_box(shape) for shape in picture.shapes), returned], "")
    heading = text_width(picture.name, 13) * 1.1
    width = max(column.width, heading) + 2 * _PAD
    height = column.height + 2 * _PAD + _LINE + 6
    parts = [f'<rect class="ground" width="{width:.0f}" height="{height:.0f}"/>']
    parts.append(text_at(_PAD, _PAD + 12, picture.name, "title"))
    parts += _draw_column(column, (width - column.width) / 2, _PAD + _LINE + 6)
    label = escaped(f"pipeline {picture.name}")
    head = (
        f'<svg class="dovetail-flow" xmlns="http://www.w3.org/2000/svg" '
        f'width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{label}">'
    )
    return "\n".join([head, f"<style>{_STYLE}</style>", *parts, "</svg>"]) + "\n"


def _end(text: str, gives: str) -> _Box:
    width = max(_LEAST, text_width(text, 13) + 2 * _PAD)
    return _Box(width, _LINE + _PAD, "end", text, gives=gives)


def _box(shape: Shape) -> _Box:
    widest = max(
        text_width(shape.title, 13) * 1.1,
        *(text_width(detail, 11.5) for detail in shape.details),
        _LEAST - 2 * _PAD,
    )
    rows = _rows(shape)
    below = sum(row.height for row in rows) + _GAP * (len(rows) - 1) + _PAD if rows else 0.0
    height = _LINE * (1 + len(shape.details)) + _PAD + below
    back = {"loop": "again", "recurse": "children"}.get(shape.kind, "") if rows else ""
    inner = max((row.width for row in rows), default=0.0)
    room = max(_BACK, text_width(back, 11.5) + 18) if back else 0.0
    width = max(widest, inner + 2 * room) + 2 * _PAD
    kind = "step" if shape.kind == "step" else "block"
    return _Box(width, height, kind, shape.title, shape.details, shape.gives, rows, back)


def _rows(shape: Shape) -> list[_Row]:
    rows = [_row([_column([_box(one) for one in shape.before], "")])] if shape.before else []
    lanes = [
        _column([_box(one) for one in lane.shapes], lane.label)
        for lane in shape.lanes
        if lane.shapes or lane.label
    ]
    rows += [_row(lanes)] if lanes else []
    rows += [_row([_column([_box(one) for one in shape.after], "")])] if shape.after else []
    return rows


def _row(columns: list[_Column]) -> _Row:
    width = sum(column.width for column in columns) + _PAD * (len(columns) - 1)
    return _Row(columns, width, max(column.height for column in columns))


def _column(boxes: list[_Box], label: str) -> _Column:
    label_width = text_width(label, 13) * 1.1 if label else 0.0
    # A variable stands to the right of its arrow, which is in the middle.
    arrows = max((2 * text_width(box.gives, 11.5) + 20 for box in boxes[:-1]), default=0.0)
    width = max([label_width, arrows, *(box.width for box in boxes)])
    height = sum(box.height for box in boxes) + _GAP * max(0, len(boxes) - 1)
    if label:
        return _Column(boxes, label, width + 2 * _PAD, height + _LINE + 2 * _PAD)
    return _Column(boxes, label, width, height)


def _draw_column(column: _Column, x: float, y: float) -> list[str]:
    parts = []
    if column.label:
        parts.append(_rect("lane", x, y, column.width, column.height))
        parts.append(text_at(x + _PAD, y + _PAD + 8, column.label, "variable"))
        y += _LINE + _PAD
    middle = x + column.width / 2
    for box in column.boxes:
        parts += _draw_box(box, middle - box.width / 2, y)
        y += box.height
        if box is not column.boxes[-1]:
            parts.append(_arrow(middle, y, y + _GAP))
            if box.gives:
                parts.append(text_at(middle + 7, y + _GAP / 2 + 3, box.gives, "variable"))
            y += _GAP
    return parts


def _draw_box(box: _Box, x: float, y: float) -> list[str]:
    radius = box.height / 2 if box.kind == "end" else 7
    parts = [_rect(box.kind, x, y, box.width, box.height, radius)]
    if box.kind == "end":
        parts.append(text_at(x + box.width / 2, y + box.height / 2 + 4.5, box.title, "middle"))
        return parts
    parts.append(text_at(x + _PAD, y + _PAD + 7, box.title, "title"))
    for place, detail in enumerate(box.details, 1):
        parts.append(text_at(x + _PAD, y + _PAD + 7 + place * _LINE, detail, "detail"))
    top = y + _LINE * (1 + len(box.details)) + _PAD
    if box.back:
        parts += _draw_back(box, x, top, y + box.height - _PAD)
    leaving: list[tuple[float, float]] = []
    for row in box.inside:
        left = x + (box.width - row.width) / 2
        ends = []
        for column in row.columns:
            middle = left + column.width / 2
            parts += [_fan(*begin, middle, top) for begin in leaving]
            parts += _draw_column(column, left, top)
            ends.append((middle, top + column.height))
            left += column.width + _PAD
        leaving = ends
        top += row.height + _GAP
    return parts


def _draw_back(box: _Box, x: float, top: float, bottom: float) -> list[str]:
    """Return the arrow from the last box inside back to the first."""
    column = box.inside[-1].columns[-1]
    middle = x + box.width / 2
    right = middle + column.width / 2 + 10
    boxes = column.boxes
    begin_y, end_y = bottom - boxes[-1].height / 2, top + boxes[0].height / 2
    if len(boxes) == 1:
        begin_y, end_y = begin_y + boxes[0].height / 4, end_y - boxes[0].height / 4
    begin_x, end_x = middle + boxes[-1].width / 2, middle + boxes[0].width / 2
    path = f"M{begin_x:.1f} {begin_y:.1f}H{right:.1f}V{end_y:.1f}H{end_x + 6:.1f}"
    head = f"M{end_x:.1f} {end_y:.1f}l7 -4v8z"
    return [
        f'<path class="arrow" d="{path}"/>',
        f'<path class="head" d="{head}"/>',
        text_at(right + 4, (begin_y + end_y) / 2 + 4, box.back, "variable"),
    ]


def _arrow(x: float, top: float, bottom: float) -> str:
    line = f'<path class="arrow" d="M{x:.1f} {top:.1f}V{bottom - 6:.1f}"/>'
    return f'{line}<path class="head" d="M{x:.1f} {bottom:.1f}l-4 -7h8z"/>'


def _fan(x: float, y: float, to_x: float, to_y: float) -> str:
    """Return an arrow from a router to an arm, or from an arm to a merge."""
    turn = to_y - _GAP / 2
    line = f'<path class="arrow" d="M{x:.1f} {y:.1f}V{turn:.1f}H{to_x:.1f}V{to_y - 6:.1f}"/>'
    return f'{line}<path class="head" d="M{to_x:.1f} {to_y:.1f}l-4 -7h8z"/>'


def _rect(kind: str, x: float, y: float, width: float, height: float, radius: float = 7) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" rx="{radius:.1f}"/>'
    )

"""A picture of a page on quality: F1 against the tokens that are computed before the first one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from quality_values import Measured

from pipelines.drawing.svg_text import escaped, text_width

WIDTH, HEIGHT = 470.0, 420.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 16.0, 44.0, 52.0
SIZE, ROW = 11.0, 14.0
TICKS = (10, 30, 100, 300, 1000)
DRAWN = (
    "sequential",
    "parallel",
    "ape",
    "ape, serial",
    "block",
    "into_top_1",
    "into_top_2",
    "into_top_3",
)
STYLE = """
svg { background: #ffffff; font-family: system-ui, sans-serif; font-size: 11px; fill: #24292f }
.title { font-size: 14px; font-weight: 600 }
.axis, .line { stroke: #d0d7de; stroke-width: 1 }
.whole { fill: #0969da; stroke: #0969da }
.pruned { fill: #ffffff; stroke: #bc4c00; stroke-width: 2 }
.of-pruned { fill: #bc4c00 }
.of-whole { fill: #0969da }
"""


@dataclass(frozen=True)
class Point:
    """A setting in the picture.

    Attributes:
        label: its name.
        kind: `whole` or `pruned`.
        x: of its mark.
        y: of its mark, downwards.
    """

    label: str
    kind: str
    x: float
    y: float


@dataclass(frozen=True)
class Family:
    """Settings that are drawn alike.

    Attributes:
        title: of all of them.
        kind: `whole` or `pruned`.
        names: of the settings, by label.
    """

    title: str
    kind: str
    names: Mapping[str, str]


QUALITY = (
    Family("whole passages", "whole", {name: name for name in DRAWN}),
    Family("what the pruner keeps", "pruned", {name: f"{name}, pruned" for name in DRAWN}),
)
"""The families of the quality page."""


def chart(sets: Mapping[str, Measured], families: Sequence[Family] = QUALITY) -> str:
    """Return an SVG image with a panel a data set, of settings that all questions were asked.

    The x axis is logarithmic.
    """
    width = WIDTH * len(sets)
    panels = [
        f'<g transform="translate({place * WIDTH:.0f} 0)">{panel}</g>\n'
        for place, panel in enumerate("".join(_panel(*item, families)) for item in sets.items())
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {HEIGHT:.0f}"'
    said = "F1 against the tokens computed before the first token of the answer"
    return (
        f'{head} width="{width:.0f}" height="{HEIGHT:.0f}" role="img">\n'
        f"<title>{said}</title>\n<style>{STYLE}</style>\n{''.join(panels)}</svg>\n"
    )


def _panel(data: str, one: Measured, families: Sequence[Family]) -> Iterator[str]:
    names = [
        (label, family.kind, full)
        for family in families
        for label, full in family.names.items()
        if one.count(full) == len(one.ids)
    ]
    values = {full: (one.mean(full, "computed"), one.mean(full, "f1")) for *_, full in names}
    highest = max((f1 or 0.0 for _, f1 in values.values()), default=0.0)
    top = 0.05 * max(1, math.ceil(highest / 0.05 + 0.2))
    low, high = math.log(TICKS[0]), math.log(2 * TICKS[-1])

    def across(computed: float) -> float:
        return LEFT + (math.log(computed) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def down(f1: float) -> float:
        return HEIGHT - BOTTOM - f1 / top * (HEIGHT - TOP - BOTTOM)

    yield drawn_text(LEFT, 22, f"{data}, 5 passages", "title")
    for place, family in enumerate(families):
        yield drawn_text(LEFT + 100 * place, 37, family.title, f"of-{family.kind}")
    for step in range(round(top / 0.05) + 1):
        y = down(0.05 * step)
        yield drawn_line(LEFT, y, WIDTH - RIGHT, y, "axis")
        yield drawn_text(LEFT - 6, y + 4, f"{0.05 * step:.2f}", anchor="end")
    for tick in TICKS:
        x = across(tick)
        yield drawn_line(x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 4, "axis")
        yield drawn_text(x, HEIGHT - BOTTOM + 17, f"{tick:,}", anchor="middle")
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield drawn_text(middle, HEIGHT - 14, "tokens computed before the first token", anchor="middle")
    yield f'<text transform="translate(14 {HEIGHT / 2:.0f}) rotate(-90)">F1</text>'
    points = [
        Point(name, kind, across(computed), down(f1))
        for name, kind, full in names
        for computed, f1 in (values[full],)
        if computed is not None and f1 is not None
    ]
    yield from _labels(points)
    for point in points:
        yield f'<circle class="{point.kind}" cx="{point.x:.1f}" cy="{point.y:.1f}" r="4"/>'


def _labels(points: Sequence[Point]) -> Iterator[str]:
    """Yield a label beside each mark, moved up or down where others are in its way."""
    placed: list[tuple[float, float, float, float]] = [
        (point.x - 5, point.y - 5, point.x + 5, point.y + 5) for point in points
    ]
    for point in sorted(points, key=lambda point: point.y):
        wide = text_width(point.label, SIZE)
        right = point.x + 9 + wide <= WIDTH - 4
        steps = [sign * step for step in range(0, 90, 3) for sign in (1, -1)]
        for shift in steps:
            gap = 9 if abs(shift) < 6 else 18
            x = point.x + gap if right else point.x - gap - wide
            y = point.y + shift
            box = (x, y - ROW / 2, x + wide, y + ROW / 2)
            if not any(_meet(box, other) for other in placed):
                break
        placed.append(box)
        if abs(shift) >= 6:
            yield drawn_line(point.x, point.y, x - 2 if right else x + wide + 2, y, "line")
        yield drawn_text(x, y + 4, point.label, f"of-{point.kind}")


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def drawn_line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a line between two points."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def drawn_text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    """Return a text at a place, which is its `anchor`: `start`, `middle` or `end`."""
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escaped(text)}</text>'

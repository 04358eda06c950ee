"""A chart of lines as SVG: one panel or several side by side, both axes shares from 0 to 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.drawing.svg_text import escaped, text_width

WIDTH, HEIGHT = 400.0, 380.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 16.0, 40.0, 52.0
_SIZE, _ROW = 11.0, 15.0
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
COLOURS = (
    "#0969da",
    "#bc4c00",
    "#1a7f37",
    "#8250df",
    "#cf222e",
    "#9a6700",
    "#1b7c83",
    "#bf3989",
    "#57606a",
    "#24292f",
    "#6fdd8b",
    "#b6a04c",
)
_STYLE = """
svg { background: #ffffff; font-family: system-ui, sans-serif; font-size: 11px; fill: #24292f }
.title { font-size: 14px; font-weight: 600 }
.axis { stroke: #d0d7de; stroke-width: 1 }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round }
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One set of axes.

    Attributes:
        title: above it.
        lines: points (x, y) in [0, 1] by name; a name has the same colour in every panel.
        marks: points to mark with a circle, by the name of the line that they belong to.
    """

    title: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    marks: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def line_chart(
    panels: Sequence[Panel], *, title: str, across: str, up: str, columns: int = 3
) -> str:
    """Return an SVG image of the panels, with a legend below where there are several lines.

    Args:
        panels: at least one.
        title: what the image shows, for those who cannot see it.
        across: name of the horizontal axis.
        up: name of the vertical one.
        columns: panels in a row, at least 1.

    Raises:
        ValueError: if there is no panel, or no column.
    """
    if not panels:
        raise ValueError("panels must be at least one, got none")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    width = WIDTH * min(columns, len(panels))
    top = HEIGHT * (1 + (len(panels) - 1) // columns)
    legend, below = _legend(names, colours, width, top) if len(names) > 1 else ("", 0.0)
    height = top + below
    drawn = "".join(
        f'<g transform="translate({place % columns * WIDTH:.0f} {place // columns * HEIGHT:.0f})">'
        f"{''.join(_panel(panel, colours, across, up))}</g>\n"
        for place, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}"'
        f' width="{width:.0f}" height="{height:.0f}" role="img">\n'
        f"<title>{escaped(title)}</title>\n<style>{_STYLE}</style>\n{drawn}{legend}</svg>\n"
    )


def _panel(panel: Panel, colours: Mapping[str, str], across: str, up: str) -> Iterator[str]:
    yield _text(_LEFT, 22, panel.title, kind="title")
    for tick in _TICKS:
        x, y = _at(tick, tick)
        yield f'<line class="axis" x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"/>'
        yield _text(_LEFT - 6, y + 4, f"{tick:g}", anchor="end")
        yield _text(x, HEIGHT - _BOTTOM + 17, f"{tick:g}", anchor="middle")
    yield _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 18, across, anchor="middle")
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    yield (
        f'<text transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escaped(up)}</text>"
    )
    for name, points in panel.lines.items():
        told = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_at(*point) for point in points))
        yield f'<polyline points="{told}" stroke="{colours[name]}"/>'
    for name, point in panel.marks.items():
        x, y = _at(*point)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colours[name]}"/>'


def _legend(
    names: Sequence[str], colours: Mapping[str, str], width: float, top: float
) -> tuple[str, float]:
    """Return the legend below the panels, and how high it is."""
    drawn, x, row = [], _LEFT, 0
    for name in names:
        wide = 24 + text_width(name, _SIZE) + 18
        if x + wide > width - _RIGHT and x > _LEFT:
            x, row = _LEFT, row + 1
        y = top + row * _ROW
        drawn.append(
            f'<polyline points="{x:.1f},{y:.1f} {x + 18:.1f},{y:.1f}" stroke="{colours[name]}"/>'
        )
        drawn.append(_text(x + 24, y + 4, name))
        x += wide
    return "".join(drawn) + "\n", (row + 1) * _ROW


def _at(x: float, y: float) -> tuple[float, float]:
    return (
        _LEFT + x * (WIDTH - _LEFT - _RIGHT),
        HEIGHT - _BOTTOM - y * (HEIGHT - _TOP - _BOTTOM),
    )


def _text(x: float, y: float, text: str, *, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escaped(text)}</text>'

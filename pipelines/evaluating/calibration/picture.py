"""Calibration as an SVG image: time to the first token against loss, with the front joined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from pipelines.drawing.svg_text import escaped, fitted, text_at, text_width
from pipelines.evaluating.calibration.choice import NATS
from pipelines.evaluating.calibration.report import CalibrationReport
from pipelines.evaluating.calibration.settings import EXACT, EXACT_MODES

_WIDTH: Final = 800.0
_HEIGHT: Final = 500.0
_LEFT: Final = 66.0
_RIGHT: Final = 24.0
_TOP: Final = 66.0
_BOTTOM: Final = 62.0
_LABEL: Final = 11.5
STYLE: Final = """\
.dovetail-front { --ground: #fbfbfa; --line: #d8dbe0; --text: #1d1f21; --quiet: #5b6067;
  --cached: #2f5fb3; --exact: #5b6067; --chosen: #b45f06; --limit: #1f7a4d; }
@media (prefers-color-scheme: dark) { .dovetail-front { --ground: #16181b; --line: #3a4048;
  --text: #e4e5e7; --quiet: #a2a8b0; --cached: #8fb4f5; --exact: #a2a8b0; --chosen: #f0a35e;
  --limit: #7fd3a5; } }
.dovetail-front text { font-family: system-ui, "Segoe UI", "Noto Sans", "Liberation Sans",
  "DejaVu Sans", sans-serif; font-size: 12px; fill: var(--text); white-space: pre; }
.dovetail-front .heading { font-size: 15px; font-weight: 600; }
.dovetail-front .detail, .dovetail-front .label { font-size: 11.5px; fill: var(--quiet); }
.dovetail-front .label { paint-order: stroke; stroke: var(--ground); stroke-width: 3px; }
.dovetail-front .label.front { fill: var(--text); }
.dovetail-front .label.chosen { fill: var(--chosen); font-weight: 600; }
.dovetail-front .tick { font-size: 11.5px; fill: var(--quiet); text-anchor: middle; }
.dovetail-front .left { text-anchor: end; }
.dovetail-front .limit-name { font-size: 11.5px; fill: var(--limit); }
.dovetail-front .ground { fill: var(--ground); }
.dovetail-front .grid { stroke: var(--line); stroke-width: 1; }
.dovetail-front .limit { stroke: var(--limit); stroke-dasharray: 6 4; stroke-width: 1.5; }
.dovetail-front .joined { fill: none; stroke: var(--cached); stroke-width: 1.5;
  stroke-opacity: .55; }
.dovetail-front .leader { stroke: var(--quiet); stroke-width: .8; stroke-opacity: .6; }
.dovetail-front .mark { fill: var(--ground); stroke: var(--cached); stroke-width: 2; }
.dovetail-front .mark.front { fill: var(--cached); }
.dovetail-front .mark.exact { stroke: var(--exact); }
.dovetail-front .mark.exact.front { fill: var(--exact); }
.dovetail-front .ring { fill: none; stroke: var(--chosen); stroke-width: 2.5; }
"""


class _Mark(NamedTuple):
    """A setting in the picture."""

    x: float
    y: float
    name: str
    kind: str
    about: str
    front: bool


class _Box(NamedTuple):
    """A rectangle that is taken."""

    x: float
    y: float
    width: float
    height: float

    def over(self, other: _Box) -> float:
        """Return the area that both cover."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        down = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(0.0, across) * max(0.0, down)


class _Scales(NamedTuple):
    """From milliseconds and nats to places."""

    low_ms: float
    high_ms: float
    low: float
    high: float

    def x(self, ms: float) -> float:
        """Return where a time stands, on a logarithmic axis."""
        share = math.log(ms / self.low_ms) / math.log(self.high_ms / self.low_ms)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, loss: float) -> float:
        """Return where a loss stands; less is lower."""
        share = (loss - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def front_svg(report: CalibrationReport) -> str:
    """Return the image of the results on held-out questions, 800 by 500.

    Every text in it is escaped, and it refers to nothing outside. Settings that nothing beats in
    both are filled and joined, the chosen one has a ring; whoever hovers over a point reads more.
    """
    shown = [one.compared for one in report.results]
    exact = next(one for one in shown if one.name == EXACT.name)
    limit = exact.loss + NATS
    scales = _scales(
        [one.ttft_ms for one in shown], [one.loss for one in shown], limit, report.budget_ms
    )
    marks = [
        _Mark(
            scales.x(one.compared.ttft_ms),
            scales.y(one.compared.loss),
            one.compared.name,
            "exact" if one.compared.mode in EXACT_MODES else "cached",
            f"{one.compared.name}: {one.compared.ttft_ms:.1f} ms, {_loss(report)} "
            f"{one.compared.loss:.3f}"
            + ("" if one.compared.f1 is None else f", F1 {one.compared.f1:.3f}"),
            one.on_front,
        )
        for one in report.results
    ]
    parts = [f'<rect class="ground" width="{_WIDTH:.0f}" height="{_HEIGHT:.0f}"/>']
    heading = f"Time to the first token against loss, {report.model}"
    parts.append(text_at(16, 28, fitted(heading, 15.5, _WIDTH - 32), "heading"))
    about = (
        f"{report.held_out} questions held out; low and left is better; ringed: chosen; filled and "
        "joined: nothing is both faster and closer"
    )
    parts.append(text_at(16, 48, fitted(about, _LABEL, _WIDTH - 32), "detail"))
    parts += _axes(scales, report)
    parts += _limits(scales, limit, report.budget_ms)
    joined = [mark for mark in marks if mark.front]
    if len(joined) > 1:
        path = "L".join(f"{mark.x:.1f} {mark.y:.1f}" for mark in joined)
        parts.append(f'<path class="joined" d="M{path}"/>')
    parts += _labels(marks, report.chosen)
    for mark in marks:
        parts += _drawn(mark, chosen=mark.name == report.chosen)
    head = (
        f'<svg class="dovetail-front" xmlns="http://www.w3.org/2000/svg" width="{_WIDTH:.0f}" '
        f'height="{_HEIGHT:.0f}" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" '
        f'aria-label="{escaped(heading)}">'
    )
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>"]) + "\n"


def _loss(report: CalibrationReport) -> str:
    return "NLL of the accepted answer" if report.labelled else "KL from sequential"


def _scales(
    times: Sequence[float], losses: Sequence[float], limit: float, budget_ms: float | None
) -> _Scales:
    """Return scales with room on every side."""
    times = [max(time, 1e-3) for time in (*times, *([budget_ms] if budget_ms else []))]
    low_ms, high_ms = min(times) / 1.25, max(times) * 1.35
    least, most = min(losses), max(*losses, limit)
    room = max(most - least, 1e-6) * 0.1
    # A divergence has a zero, and the picture begins there.
    low = 0.0 if least >= 0 and least < 0.25 * most else least - room
    return _Scales(low_ms, high_ms, low, most + room)


def _axes(scales: _Scales, report: CalibrationReport) -> list[str]:
    below, parts = _HEIGHT - _BOTTOM, []
    for loss in _steps(scales.low, scales.high):
        y = scales.y(loss)
        parts.append(
            f'<path class="grid" d="M{_LEFT:.0f} {y:.1f}H{_WIDTH - _RIGHT:.0f}"/>'
            f"{text_at(_LEFT - 8, y + 4, f'{loss:g}', 'tick left')}"
        )
    for ms in _decades(scales.low_ms, scales.high_ms):
        x = scales.x(ms)
        parts.append(
            f'<path class="grid" d="M{x:.1f} {_TOP:.0f}V{below:.0f}"/>'
            f"{text_at(x, below + 17, f'{ms:g}', 'tick')}"
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        text_at(middle, _HEIGHT - 20, "median time to the first token, ms (logarithmic)", "tick")
    )
    turned = (_TOP + below) / 2
    parts.append(
        f'<text class="tick" transform="translate(18 {turned:.1f}) rotate(-90)">'
        f"{escaped(f'{_loss(report)}, nats a token')}</text>"
    )
    return parts


def _limits(scales: _Scales, limit: float, budget_ms: float | None) -> list[str]:
    y, below = scales.y(limit), _HEIGHT - _BOTTOM
    name = f"sequential + {NATS:g}"
    at = _WIDTH - _RIGHT - text_width(name, _LABEL)
    parts = [
        f'<path class="limit" d="M{_LEFT:.0f} {y:.1f}H{_WIDTH - _RIGHT:.0f}"/>',
        text_at(at, y - 5, name, "limit-name"),
    ]
    if budget_ms is not None:
        x = scales.x(budget_ms)
        parts.append(f'<path class="limit" d="M{x:.1f} {_TOP:.0f}V{below:.0f}"/>')
        parts.append(text_at(x + 5, _TOP + 12, f"budget {budget_ms:g} ms", "limit-name"))
    return parts


def _labels(marks: Sequence[_Mark], chosen: str) -> list[str]:
    """Return the names, each beside its point where it covers least of what is there already."""
    taken = [_Box(mark.x - 9, mark.y - 9, 18, 18) for mark in marks]
    taken += _along([mark for mark in marks if mark.front])
    parts = []
    order = sorted(marks, key=lambda mark: (mark.name != chosen, not mark.front, mark.x))
    for mark in order:
        name = fitted(mark.name, _LABEL, 230)
        width = text_width(name, _LABEL)
        places = [
            _Box(mark.x + side, mark.y + down - 11, width, 14)
            for down in (4, -12, 20, -28, 36, -44, 52)
            for side in (14, -14 - width, -width / 2)
            if abs(down - 4) > 12 or side != -width / 2
        ]
        inside = [
            box
            for box in places
            if box.x >= _LEFT
            and box.x + box.width <= _WIDTH - 6
            and _TOP - 10 <= box.y <= _HEIGHT - _BOTTOM - 14
        ] or places
        box = min(inside, key=lambda one: sum(one.over(other) for other in taken))
        taken.append(box)
        kind = "label chosen" if mark.name == chosen else "label front" if mark.front else "label"
        if abs(box.y + 11 - mark.y) > 16:
            end = min(max(mark.x, box.x), box.x + box.width)
            edge = box.y + (14 if box.y < mark.y else 0)
            parts.append(
                f'<path class="leader" d="M{mark.x:.1f} {mark.y:.1f}L{end:.1f} {edge:.1f}"/>'
            )
        parts.append(text_at(box.x, box.y + 11, name, kind))
    return parts


def _along(joined: Sequence[_Mark]) -> list[_Box]:
    """Return small boxes along the line of the front."""
    return [
        _Box(a.x + share * (b.x - a.x) - 2, a.y + share * (b.y - a.y) - 2, 4, 4)
        for a, b in pairwise(joined)
        for share in (step / 40 for step in range(41))
    ]


def _drawn(mark: _Mark, *, chosen: bool) -> list[str]:
    kind = f"mark {mark.kind}" + (" front" if mark.front else "")
    circle = f'<circle class="{kind}" cx="{mark.x:.1f}" cy="{mark.y:.1f}" r="5"/>'
    ring = f'<circle class="ring" cx="{mark.x:.1f}" cy="{mark.y:.1f}" r="9"/>' if chosen else ""
    return [f"<g><title>{escaped(mark.about)}</title>{circle}{ring}</g>"]


def _steps(low: float, high: float) -> list[float]:
    """Return round numbers in a range, about five."""
    raw = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * times for times in (1, 2, 5, 10) if size * times >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(row * step, 10) for row in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return round numbers in a range, for a logarithmic axis."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    few = [times * 10.0**power for power in powers for times in (1, 2, 5)]
    inside = [ms for ms in few if low <= ms <= high]
    if len(inside) >= 3:
        return inside
    many = [times * 10.0**power for power in powers for times in range(1, 10)]
    return [ms for ms in many if low <= ms <= high] or inside

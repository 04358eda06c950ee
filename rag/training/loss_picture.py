"""Picture of a training: its loss and what the validation part said, as one SVG image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from xml.sax.saxutils import escape

from rag.training.journal import of_steps

_WIDTH: Final = 800.0
_HEIGHT: Final = 400.0
_LEFT: Final = 56.0
_RIGHT: Final = 56.0
_TOP: Final = 64.0
_BOTTOM: Final = 46.0
_POINTS = 120  # of a smoothed curve
_STYLE: Final = """\
.dovetail-loss {{ --ground: #fbfbfa; --line: #d8dbe0; --text: #1d1f21; --quiet: #5b6067;
  {light} }}
@media (prefers-color-scheme: dark) {{ .dovetail-loss {{ --ground: #16181b; --line: #3a4048;
  --text: #e4e5e7; --quiet: #a2a8b0; {dark} }} }}
.dovetail-loss text {{ font-family: system-ui, "Segoe UI", "Noto Sans", "Liberation Sans",
  "DejaVu Sans", sans-serif; font-size: 11.5px; fill: var(--quiet); }}
.dovetail-loss .heading {{ font-size: 15px; font-weight: 600; fill: var(--text); }}
.dovetail-loss .ground {{ fill: var(--ground); }}
.dovetail-loss .grid {{ stroke: var(--line); stroke-width: 1; }}
.dovetail-loss .middle {{ text-anchor: middle; }}
.dovetail-loss .end {{ text-anchor: end; }}
{curves}
"""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of the picture.

    Attributes:
        name: of the value in the journal; letters, digits, `_` and `-`.
        label: in the legend; empty for none.
        light: colour on light ground.
        dark: colour on dark ground.
        width: of the line.
        dashed: whether it is.
        smooth: whether neighbouring steps are drawn as their mean.
        share: whether it stands on the right axis, as a share in percent, instead of the left one.
    """

    name: str
    label: str
    light: str
    dark: str
    width: float = 2.0
    dashed: bool = False
    smooth: bool = False
    share: bool = False


PRUNER: Final = (
    Curve("loss", "training loss (left)", "#5b6067", "#a2a8b0", width=1.2, smooth=True),
    Curve(
        "compression",
        "validation: characters pruned at 95 % recall (right)",
        "#2f5fb3",
        "#8fb4f5",
        share=True,
    ),
    Curve("auc", "validation: AUC (right)", "#b45f06", "#f0a35e", dashed=True, share=True),
)
"""What the training of a pruner shows."""


class _Scale(NamedTuple):
    """From values to places along one direction."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return where a value stands."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return self.start + share * (self.end - self.start)


def loss_svg(
    records: Sequence[Mapping[str, Any]],
    title: str,
    curves: Sequence[Curve] = PRUNER,
    note: str = "",
) -> str:
    """Return the image of a journal, 800 by 400; it refers to nothing outside.

    Args:
        records: as `read_journal` returned them.
        title: of the picture, in one line.
        curves: what is drawn, in the order of the legend.
        note: ends the legend.
    """
    values = {one.name: of_steps(records, one.name) for one in curves}
    values |= {one.name: smoothed(values[one.name], _POINTS) for one in curves if one.smooth}
    last = max((step for found in values.values() for step, _ in found), default=1)
    below = _HEIGHT - _BOTTOM
    across = _Scale(0, max(last, 1), _LEFT, _WIDTH - _RIGHT)
    left = [value for one in curves if not one.share for _, value in values[one.name]]
    high = max(left, default=1.0) * 1.05
    down = _Scale(0.0, high, below, _TOP)
    shares = _Scale(0.0, 1.0, below, _TOP)
    parts = [
        f'<rect class="ground" width="{_WIDTH:.0f}" height="{_HEIGHT:.0f}"/>',
        _text(16, 26, title, "heading"),
        *_legend(curves, note),
    ]
    on_right = any(one.share for one in curves)
    for fifth in range(6):
        y = shares.at(fifth / 5)
        parts += [
            f'<path class="grid" d="M{_LEFT:.0f} {y:.1f}H{_WIDTH - _RIGHT:.0f}"/>',
            _text(_LEFT - 8, y + 4, f"{high * fifth / 5:.2g}", "end"),
            *([_text(_WIDTH - _RIGHT + 8, y + 4, f"{20 * fifth} %", "")] if on_right else []),
            _text(across.at(last * fifth / 5), below + 18, f"{last * fifth / 5:.0f}", "middle"),
        ]
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, "step", "middle"))
    for one in curves:
        parts += _line(values[one.name], across, shares if one.share else down, one.name)
    head = (
        f'<svg class="dovetail-loss" xmlns="http://www.w3.org/2000/svg" width="{_WIDTH:.0f}" '
        f'height="{_HEIGHT:.0f}" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" '
        f'aria-label="{escape(title, {chr(34): "&quot;"})}">'
    )
    return "\n".join([head, f"<style>{_style(curves)}</style>", *parts, "</svg>"]) + "\n"


def _style(curves: Sequence[Curve]) -> str:
    rules = []
    for one in curves:
        stroke = f"stroke: var(--{one.name}); stroke-width: {one.width:g};"
        stroke += " stroke-dasharray: 5 3;" if one.dashed else ""
        rules += [
            f".dovetail-loss path.{one.name} {{ fill: none; {stroke} }}",
            f".dovetail-loss text.{one.name} {{ fill: var(--{one.name}); }}",
        ]
    return _STYLE.format(
        light=" ".join(f"--{one.name}: {one.light};" for one in curves),
        dark=" ".join(f"--{one.name}: {one.dark};" for one in curves),
        curves="\n".join(rules),
    )


def _legend(curves: Sequence[Curve], note: str) -> list[str]:
    parts, x = [], 16.0
    for label, kind in [*((one.label, one.name) for one in curves), (note, "")]:
        if label:
            parts.append(_text(x, 46, label, kind))
            x += round(5.2 * len(label)) + 30  # about the width of the text, and a gap
    return parts


def smoothed(values: Sequence[tuple[int, float]], points: int) -> list[tuple[int, float]]:
    """Return at most `points` means of neighbours, each at the last step of its own.

    Args:
        values: (step, value), in order.
        points: at least 1.
    """
    size = -(-len(values) // points) or 1
    runs = [values[at : at + size] for at in range(0, len(values), size)]
    return [(run[-1][0], sum(value for _, value in run) / len(run)) for run in runs]


def _line(values: Sequence[tuple[int, float]], across: _Scale, up: _Scale, kind: str) -> list[str]:
    if not values:
        return []
    places = "L".join(f"{across.at(step):.1f} {up.at(value):.1f}" for step, value in values)
    return [f'<path class="{kind}" d="M{places}"/>']


def _text(x: float, y: float, text: str, kind: str) -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'

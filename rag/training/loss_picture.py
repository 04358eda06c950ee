"""Picture of a training: its loss and what the validation part said, as one SVG image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from xml.sax.saxutils import escape

from rag.training.journal import of_steps

_WIDTH: Final = 800.0
_HEIGHT: Final = 400.0
_LEFT: Final = 56.0
_RIGHT: Final = 56.0
_TOP: Final = 64.0
_BOTTOM: Final = 46.0
_POINTS = 120  # of the smoothed loss
STYLE: Final = """\
.dovetail-loss { --ground: #fbfbfa; --line: #d8dbe0; --text: #1d1f21; --quiet: #5b6067;
  --loss: #5b6067; --compression: #2f5fb3; --auc: #b45f06; }
@media (prefers-color-scheme: dark) { .dovetail-loss { --ground: #16181b; --line: #3a4048;
  --text: #e4e5e7; --quiet: #a2a8b0; --loss: #a2a8b0; --compression: #8fb4f5; --auc: #f0a35e; } }
.dovetail-loss text { font-family: system-ui, "Segoe UI", "Noto Sans", "Liberation Sans",
  "DejaVu Sans", sans-serif; font-size: 11.5px; fill: var(--quiet); }
.dovetail-loss .heading { font-size: 15px; font-weight: 600; fill: var(--text); }
.dovetail-loss .ground { fill: var(--ground); }
.dovetail-loss .grid { stroke: var(--line); stroke-width: 1; }
.dovetail-loss .middle { text-anchor: middle; }
.dovetail-loss .end { text-anchor: end; }
.dovetail-loss path.loss, .dovetail-loss path.compression, .dovetail-loss path.auc { fill: none;
  stroke-width: 2; }
.dovetail-loss path.loss { stroke: var(--loss); stroke-width: 1.2; }
.dovetail-loss path.compression { stroke: var(--compression); }
.dovetail-loss path.auc { stroke: var(--auc); stroke-dasharray: 5 3; }
.dovetail-loss text.loss { fill: var(--loss); }
.dovetail-loss text.compression { fill: var(--compression); }
.dovetail-loss text.auc { fill: var(--auc); }
"""


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


def loss_svg(records: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return the image of a journal, 800 by 400; it refers to nothing outside.

    The loss is the mean of neighbouring steps, on the left axis; AUC and compression at 95 % recall
    on the validation part stand on the right axis, in percent.

    Args:
        records: as `read_journal` returned them.
        title: of the picture, in one line.
    """
    loss = smoothed(of_steps(records, "loss"), _POINTS)
    looks = {name: of_steps(records, name) for name in ("compression", "auc")}
    last = max((step for step, _ in (*loss, *looks["auc"])), default=1)
    below = _HEIGHT - _BOTTOM
    across = _Scale(0, max(last, 1), _LEFT, _WIDTH - _RIGHT)
    high = max((value for _, value in loss), default=1.0) * 1.05
    down = _Scale(0.0, high, below, _TOP)
    shares = _Scale(0.0, 1.0, below, _TOP)
    parts = [
        f'<rect class="ground" width="{_WIDTH:.0f}" height="{_HEIGHT:.0f}"/>',
        _text(16, 26, title, "heading"),
        _text(16, 46, "training loss (left)", "loss"),
        _text(150, 46, "validation: characters pruned at 95 % recall (right)", "compression"),
        _text(450, 46, "validation: AUC (right)", "auc"),
    ]
    for fifth in range(6):
        y = shares.at(fifth / 5)
        parts += [
            f'<path class="grid" d="M{_LEFT:.0f} {y:.1f}H{_WIDTH - _RIGHT:.0f}"/>',
            _text(_LEFT - 8, y + 4, f"{high * fifth / 5:.2g}", "end"),
            _text(_WIDTH - _RIGHT + 8, y + 4, f"{20 * fifth} %", ""),
            _text(across.at(last * fifth / 5), below + 18, f"{last * fifth / 5:.0f}", "middle"),
        ]
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, "step", "middle"))
    parts += _line(loss, across, down, "loss")
    for name, found in looks.items():
        parts += _line(found, across, shares, name)
    head = (
        f'<svg class="dovetail-loss" xmlns="http://www.w3.org/2000/svg" width="{_WIDTH:.0f}" '
        f'height="{_HEIGHT:.0f}" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" '
        f'aria-label="{escape(title, {chr(34): "&quot;"})}">'
    )
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>"]) + "\n"


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

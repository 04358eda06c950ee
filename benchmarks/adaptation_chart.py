"""A picture of the page on adaptation: F1 of every way to read, base and adapted, as bars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from adaptation_settings import PRUNED, WHOLE
from adaptation_values import ADAPTED, BASE, SIDES, of_side, settings_of
from quality_chart import drawn_line, drawn_text
from quality_values import Measured

from rag.evaluation.statistics import bootstrap_interval

WIDTH, LEFT, RIGHT = 520.0, 144.0, 56.0
TOP, BOTTOM = 72.0, 44.0
BAR, ROW, GAP = 11.0, 34.0, 14.0
TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
STYLE = """
svg { background: #ffffff; font-family: system-ui, sans-serif; font-size: 11px; fill: #24292f }
.title { font-size: 14px; font-weight: 600 }
.axis { stroke: #d0d7de; stroke-width: 1 }
.base { fill: #afb8c1 }
.adapted { fill: #0969da }
.whisker { stroke: #24292f; stroke-width: 1 }
.quiet { fill: #57606a }
"""
GROUPS = {"what the pruner keeps": PRUNED, "whole passages": WHOLE}


def chart(sets: Mapping[str, Measured]) -> str:
    """Return an SVG image with a panel a data set that has answers.

    Bars are means over all questions that a side was asked, with 95 % bootstrap intervals.
    """
    panels = {data: one for data, one in sets.items() if settings_of(one, *SIDES)}
    drawn = [_panel(data, one) for data, one in panels.items()]
    height = max((tall for _, tall in drawn), default=TOP) + BOTTOM
    width = WIDTH * max(1, len(drawn))
    parts = [
        f'<g transform="translate({place * WIDTH:.0f} 0)">{"".join(marks)}</g>\n'
        for place, (marks, _) in enumerate(drawn)
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}"'
    said = "F1 of the base model and of the adapted one by how passages are read"
    return (
        f'{head} width="{width:.0f}" height="{height:.0f}" role="img">\n'
        f"<title>{said}</title>\n<style>{STYLE}</style>\n{''.join(parts)}</svg>\n"
    )


def _panel(data: str, one: Measured) -> tuple[list[str], float]:
    """Return the marks of a data set's panel, and how far down its bars reach."""
    known = settings_of(one, *SIDES)
    marks: list[str] = []
    y = TOP
    for title, settings in GROUPS.items():
        names = [setting.name for setting in settings if setting.name in known]
        if names:
            marks.append(drawn_text(8, y + 4, title, "quiet"))
            y += GAP
        for name in names:
            marks += _row(one, name, y)
            y += ROW
    axis = [
        part
        for tick in TICKS
        for part in (
            drawn_line(_across(tick), TOP - 6, _across(tick), y, "axis"),
            drawn_text(_across(tick), y + 16, f"{tick:g}", anchor="middle"),
        )
    ]
    middle = (_across(0.0) + _across(1.0)) / 2
    head = [drawn_text(8, 22, data, "title"), *_legend(one)]
    return [*head, *axis, drawn_text(middle, y + 34, "F1", anchor="middle"), *marks], y


def _legend(one: Measured) -> Iterator[str]:
    for place, side in enumerate(SIDES):
        counts = _counts(one, side)
        if counts:
            x = 8 + 170 * place
            yield f'<rect class="{side}" x="{x}" y="34" width="12" height="{BAR:.0f}"/>'
            yield drawn_text(x + 18, 44, f"{side} (n = {counts})")


def _counts(one: Measured, side: str) -> str:
    drawn = {setting.name for settings in GROUPS.values() for setting in settings}
    numbers: Sequence[int] = sorted(
        {len(one.of(of_side(side, name), "f1")) for name in settings_of(one, side) if name in drawn}
    )
    if len(numbers) > 1:
        return f"{numbers[0]} to {numbers[-1]}"
    return f"{numbers[0]}" if numbers else ""


def _row(one: Measured, name: str, y: float) -> Iterator[str]:
    """Yield a setting's two bars, each with its interval and its mean."""
    yield drawn_text(LEFT - 8, y + BAR + 4, name.removeprefix("whole-"), anchor="end")
    for place, side in enumerate((BASE, ADAPTED)):
        values = one.of(of_side(side, name), "f1")
        if not values:
            continue
        found, top = bootstrap_interval(values), y + place * (BAR + 1)
        middle = top + BAR / 2
        yield (
            f'<rect class="{side}" x="{LEFT:.1f}" y="{top:.1f}"'
            f' width="{_across(found.mean) - LEFT:.1f}" height="{BAR:.0f}"/>'
        )
        yield drawn_line(_across(found.low), middle, _across(found.high), middle, "whisker")
        for end in (found.low, found.high):
            yield drawn_line(_across(end), middle - 3, _across(end), middle + 3, "whisker")
        yield drawn_text(_across(found.high) + 6, middle + 4, f"{found.mean:.2f}")


def _across(f1: float) -> float:
    return LEFT + f1 * (WIDTH - LEFT - RIGHT)

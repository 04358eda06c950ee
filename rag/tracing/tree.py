"""A trace as a tree of lines for a terminal: steps with bars, and what happened in each."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rag.tracing.nesting import Node, nested
from rag.tracing.wording import line_of, milliseconds, short

if TYPE_CHECKING:
    from rich.console import Console

    from rag.tracing.trace import Trace

Line = list[tuple[str, str]]
"""Pieces of a line, each a text and its style."""

_BAR = 24
_LABEL = 52


def as_text(trace: Trace, width: int = 100) -> str:
    """Return the tree as plain text; lines of events are cut at `width` columns.

    Control characters of a document or model never reach the terminal: they are shown as `�`.
    """
    return "\n".join("".join(text for text, _ in line).rstrip() for line in _lines(trace, width))


def draw(trace: Trace, console: Console) -> None:
    """Print the same tree with colours."""
    from rich.text import Text

    for line in _lines(trace, console.width):
        console.print(Text.assemble(*line), soft_wrap=True)


def _lines(trace: Trace, width: int) -> Iterator[Line]:
    root = nested(trace)
    yield _head(trace.run, root)
    for fact in _facts(trace.run):
        yield [(_safe(short(fact, width)), "dim")]
    labels = {id(node): _label(node) for _, node in root.walk()}
    column = max((3 * depth + 3 + len(labels[id(node)]) for depth, node in root.walk()), default=0)
    yield from _below(root, "", labels, (min(column, _LABEL), width, root.ended_ms))
    for note in trace.notes:
        yield [(_safe(note), "yellow")]


def _head(run: Mapping[str, Any], root: Node) -> Line:
    name = run.get("pipeline") or "run"
    started = str(run.get("started", "")).replace("T", " ")[:19]
    facts = [started and f"{started} UTC", milliseconds(root.ended_ms), str(run.get("id", ""))[:8]]
    return [(_safe(str(name)), "bold"), ("  " + ", ".join(filter(None, facts)), "dim")]


def _facts(run: Mapping[str, Any]) -> list[str]:
    facts = [f"question: {run['question']}"] if "question" in run else []
    inputs = run.get("inputs")
    if isinstance(inputs, Mapping):
        facts += [f"{name}: {value}" for name, value in inputs.items()]
    if run.get("overrides"):
        facts.append(f"changed: {', '.join(map(str, run['overrides']))}")
    return facts


def _below(
    node: Node, indent: str, labels: dict[int, str], sizes: tuple[int, int, float]
) -> Iterator[Line]:
    column, width, total_ms = sizes
    for event in node.events:
        bars = indent + ("│  " if node.children else "   ")
        said = _safe(line_of(event))
        yield [(bars, "dim"), (short(said, max(20, width - len(bars))), _style(event))]
    for child in node.children:
        last = child is node.children[-1]
        label = labels[id(child)]
        shown = indent + ("└─ " if last else "├─ ")
        padding = " " * max(1, column - len(shown) - len(label) + 2)
        yield [
            (shown, "dim"),
            (label, "red" if child.span and child.span.get("error") else "bold"),
            (f"{padding}{milliseconds(child.wall_ms):>10} ", ""),
            (f"▕{_bar(child, total_ms)}▏", "cyan"),
            (_marks(child), "yellow"),
        ]
        yield from _below(child, indent + ("   " if last else "│  "), labels, sizes)


def _label(node: Node) -> str:
    use = str(node.span.get("use", "")) if node.span else ""
    return _safe(short(f"{node.name}  {use}" if use else node.name, _LABEL))


def _bar(node: Node, total_ms: float) -> str:
    """Return where in the run a step ran, at least one cell wide."""
    scale = _BAR / total_ms if total_ms > 0 else 0.0
    begin = min(int(node.began_ms * scale), _BAR - 1)
    end = min(_BAR, max(begin + 1, round(node.ended_ms * scale)))
    return " " * begin + "█" * (end - begin) + " " * (_BAR - end)


def _marks(node: Node) -> str:
    if node.span is None:
        return ""
    marks = [word for word in ("skipped", "cached") if node.span.get(word)]
    batch = node.span.get("batch", 1)
    marks += [f"batch of {batch}"] if batch != 1 else []
    marks += [f"error: {_safe(short(node.span['error']))}"] if node.span.get("error") else []
    return f" {', '.join(marks)}" if marks else ""


def _style(event: Mapping[str, Any]) -> str:
    if event["name"] == "kv":
        return "green" if not event.get("misses") else "yellow"
    return "" if event["name"] in ("generated", "judge", "route") else "dim"


def _safe(text: str) -> str:
    """Return a text without control characters, which could write over the terminal."""
    return "".join("�" if unicodedata.category(char) in ("Cc", "Cf") else char for char in text)

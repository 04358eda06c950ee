"""Tables of metrics: drawn on a terminal, aligned columns of plain text elsewhere."""

import sys
from collections.abc import Sequence

from pipelines.cli.terminal import say


def draw_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first column is text and whose others are numbers, as strings.

    Args:
        header: one a column.
        rows: as wide as the header.
    """
    if sys.stdout.isatty():
        _draw(header, rows)
        return
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for first, *others in table:
        cells = [
            first.ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True)),
        ]
        say("  ".join(cells).rstrip())


def number(value: float, *, sign: bool = False) -> str:
    """Return a metric's value as a person reads it: shares to 3 places, larger numbers to 4 digits.

    Args:
        value: of a metric, or a difference of two.
        sign: whether to write a plus.
    """
    places = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:{'+' if sign else ''},.{places}f}"


def p_value(p: float) -> str:
    """Return a p value to 4 places; a smaller one as a bound."""
    return "<0.0001" if p < 1e-4 else f"{p:.4f}"


def _draw(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for place, name in enumerate(header):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console().print(table)

"""Parts of a model card as Markdown: lists, tables, and nested settings laid flat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def bullets(lines: Sequence[str]) -> str:
    """Return a list of lines."""
    return "\n".join(f"- {line}" for line in lines)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table; cells must hold no `|`."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def settings_table(recipe: Mapping[str, Any]) -> str:
    """Return nested settings by name, those of an inner mapping as `outer.inner`."""
    return table(("setting", "value"), sorted(flat(recipe).items()))


def flat(recipe: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested settings as `outer.inner`; text that a table cannot hold is quoted."""
    found: dict[str, Any] = {}
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{name}.")
        else:
            said = str(value)
            found[before + name] = f"`{said}`".replace("|", "\\|") if "|" in said else said
    return found

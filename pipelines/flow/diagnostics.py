"""Mistakes in a pipeline: where each one is, what was allowed, and what was probably meant."""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rag.errors import DovetailError


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in a file something stands; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with a pipeline, or worth a note.

    Attributes:
        code: stable, such as `unknown-option`; programs and searches rely on it.
        message: what is wrong and what was allowed.
        place: where; None for a pipeline built in Python.
        hint: what was probably meant, or what to do.
        level: a `note` does not make the pipeline invalid.
    """

    code: str
    message: str
    place: Place | None = None
    hint: str = ""
    level: Literal["error", "note"] = "error"

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}{self.message}{f'; {self.hint}' if self.hint else ''}"


class InvalidPipelineError(DovetailError):
    """A pipeline that cannot run; the message shows every mistake with its line of the file.

    Attributes:
        mistakes: all of them, in the order of the file.
    """

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("the pipeline is not valid\n" + as_text(mistakes))


def nearest(name: str, names: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the nearest name, or what the names are, or nothing."""
    known = list(names)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(known)}" if 0 < len(known) <= 12 else ""


def in_order(mistakes: Iterable[Mistake]) -> list[Mistake]:
    """Return mistakes without repetition, by place; those without one come first."""
    once = dict.fromkeys(mistakes)
    return sorted(once, key=lambda m: (m.place is not None, m.place or Place("", 0, 0)))


def as_text(mistakes: Iterable[Mistake]) -> str:
    """Return mistakes for a person: each with the line it is in and a caret."""
    lines: dict[str, list[str]] = {}
    shown = []
    for mistake in mistakes:
        note = "note: " if mistake.level == "note" else ""
        where = f"{mistake.place}: " if mistake.place else ""
        hint = f"; {mistake.hint}" if mistake.hint else ""
        shown.append(f"{where}{note}{mistake.message}{hint} [{mistake.code}]")
        if mistake.place is not None:
            shown.extend(_excerpt(mistake.place, lines))
    return "\n".join(shown)


def as_json(mistakes: Iterable[Mistake]) -> str:
    """Return mistakes as a JSON list of `{code, message, file, line, column, hint}`."""
    return json.dumps([_fields(mistake) for mistake in mistakes], ensure_ascii=False, indent=2)


def as_github(mistakes: Iterable[Mistake]) -> str:
    """Return mistakes as workflow commands, which code hosts show beside the line."""
    shown = []
    for mistake in mistakes:
        level = "notice" if mistake.level == "note" else "error"
        message = mistake.message + (f"; {mistake.hint}" if mistake.hint else "")
        where = ""
        if mistake.place is not None:
            place = mistake.place
            where = f"file={_property(place.file)},line={place.line},col={place.column},"
        shown.append(f"::{level} {where}title={_property(mistake.code)}::{_data(message)}")
    return "\n".join(shown)


def _fields(mistake: Mistake) -> dict[str, str | int | None]:
    place = mistake.place
    return {
        "code": mistake.code,
        "message": mistake.message,
        "file": place.file if place else None,
        "line": place.line if place else None,
        "column": place.column if place else None,
        "hint": mistake.hint,
        **({"level": "note"} if mistake.level == "note" else {}),
    }


def _excerpt(place: Place, files: dict[str, list[str]]) -> list[str]:
    if place.file not in files:
        try:
            files[place.file] = Path(place.file).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            files[place.file] = []
    lines = files[place.file]
    if not 0 < place.line <= len(lines):
        return []
    number = str(place.line)
    line = lines[place.line - 1].replace("\t", " ")
    return [f"  {number} | {line}", f"  {' ' * len(number)} | {' ' * (place.column - 1)}^"]


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

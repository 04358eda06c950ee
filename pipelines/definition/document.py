"""YAML as nodes that know their place; scalars stay text until a type is known.

YAML 1.1 reads `no` as false, `010` as 8, `1e-5` as text, and keeps the last of two equal keys. None
of that happens here, and no tag, object or unbounded expansion is ever followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from pipelines.definition.nodes import DEEPEST, MOST_NODES, Fields, Items, Node, Scalar, shape
from pipelines.flow.diagnostics import Mistake, Place

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_QUOTED = ("'", '"', "|", ">")
_LARGEST_FILE = 2**20


def read_file(path: Path, file: str) -> tuple[Node | None, list[Mistake]]:
    """Return a file as a node, and everything that is wrong with it as YAML.

    Args:
        path: of the file; at most 1 MiB of UTF-8.
        file: what places call it: the path as the user gave it.
    """
    start = Place(file, 1, 1)
    try:
        with path.open("rb") as opened:
            data = opened.read(_LARGEST_FILE + 1)
    except OSError as error:
        return None, [Mistake("no-such-file", f"cannot read {file}: {error.strerror}", start)]
    if len(data) > _LARGEST_FILE:
        return None, [Mistake("too-large", f"{file} has more than {_LARGEST_FILE} bytes", start)]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        line = before.count("\n") + 1
        place = Place(file, line, len(before) - (before.rfind("\n") + 1) + 1)
        return None, [Mistake("encoding", "the file is not UTF-8", place, "save it as UTF-8")]
    return read_text(text, file)


def read_text(
    text: str, file: str, *, at: Callable[[int, int], Place] | None = None
) -> tuple[Node | None, list[Mistake]]:
    """Return a text as a node, None if there is no whole one, and everything wrong with it.

    Args:
        text: one YAML document.
        file: what places call it.
        at: makes a place of line and column from 1; for a text that stands inside another.
    """
    reader = _Reader(text, at or (lambda line, column: Place(file, line, column)))
    return reader.read(), reader.mistakes


class _UnreadableError(Exception):
    """Ends the reading; the mistake is noted already."""


class _Reader:
    def __init__(self, text: str, at: Callable[[int, int], Place]) -> None:
        self.mistakes: list[Mistake] = []
        self._text = text
        self._at = at
        self._events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._open: set[str] = set()
        self._nodes = 0

    def read(self) -> Node | None:
        try:
            return self._document()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self._place(mark) if mark else self._at(1, 1)
            said = ", ".join(part for part in (error.context, error.problem) if part)
            self._note("syntax", f"not YAML: {said}", place)
        except yaml.reader.ReaderError as error:
            place = self._place_of_control_character()
            self._note("syntax", f"not YAML: {error.reason}", place)
        except _UnreadableError:
            pass
        return None

    def _document(self) -> Node | None:
        found: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if found is not None:
                    self._note(
                        "several-documents",
                        "a file holds one document, but another begins here",
                        self._place(event.start_mark),
                        "remove the line ---",
                    )
                    return found
                found = self._node(next(self._events), 0)
        if found is None:
            self._note("empty-file", "there is nothing in it", self._at(1, 1))
        return found

    def _node(self, event: Any, depth: int) -> Node:
        place = self._place(event.start_mark)
        self._count(1, depth, place)
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event.anchor, place)
        if event.tag is not None:
            self._note("tag", f"tags such as {_tag(event.tag)} are not allowed", place)
        before = self._nodes
        if event.anchor is not None:
            self._open.add(event.anchor)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(event.value, event.style in _QUOTED, place)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Items(tuple(self._items(depth)), place)
        else:
            node = self._fields(place, depth)
        if event.anchor is not None:
            self._open.discard(event.anchor)
            self._anchors[event.anchor] = (node, self._nodes - before)
        return node

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _fields(self, place: Place, depth: int) -> Fields:
        values: dict[str, Node] = {}
        places: dict[str, Place] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if not isinstance(key, Scalar):
                self._note("key", f"a key is text, got {shape(key)}", key.place)
            elif key.text == "<<" and not key.quoted:
                self._note("merge-key", "<< is not supported", key.place, "use extends or vars")
            elif key.text in values:
                first = places[key.text]
                self._note(
                    "duplicate-key",
                    f"{key.text!r} is written twice",
                    key.place,
                    f"first in line {first.line}",
                )
            else:
                values[key.text], places[key.text] = value, key.place
        return Fields(values, places, place)

    def _aliased(self, anchor: Any, place: Place) -> Node:
        if anchor in self._open:
            self._note("cycle", f"*{anchor} stands inside &{anchor}", place)
            raise _UnreadableError
        if anchor not in self._anchors:
            known = f"known: {', '.join(self._anchors)}" if self._anchors else ""
            self._note("unknown-anchor", f"there is no &{anchor} before *{anchor}", place, known)
            raise _UnreadableError
        node, nodes = self._anchors[anchor]
        self._count(nodes, 0, place)
        return node

    def _count(self, nodes: int, depth: int, place: Place) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            self._note("too-large", f"more than {MOST_NODES} values, aliases written out", place)
            raise _UnreadableError
        if depth > DEEPEST:
            self._note("too-large", f"nested more than {DEEPEST} deep", place)
            raise _UnreadableError

    def _place(self, mark: Any) -> Place:
        return self._at(mark.line + 1, mark.column + 1)

    def _place_of_control_character(self) -> Place:
        found = yaml.reader.Reader.NON_PRINTABLE.search(self._text)
        before = self._text[: found.start()] if found else ""
        return self._at(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)

    def _note(self, code: str, message: str, place: Place, hint: str = "") -> None:
        self.mistakes.append(Mistake(code, message, place, hint))


def _tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")

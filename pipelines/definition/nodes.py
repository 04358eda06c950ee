"""What a pipeline file is made of: texts, lists and maps that know where they stand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from pipelines.flow.diagnostics import Place

MOST_NODES = 50_000
DEEPEST = 64


@dataclass(frozen=True, slots=True)
class Scalar:
    """A piece of text.

    Attributes:
        text: as it is meant, escapes and references resolved.
        quoted: whether it is text although it looks like a number, a flag or null.
        place: where it begins.
        secrets: values of the environment inside it, which a trace has to mask.
        written: the text with its references to the environment, if it has any.
        unresolved: whether a reference in it is wrong, so that what it means is not known; that
            is a mistake already, and it is not to be reported as another one.
    """

    text: str
    quoted: bool
    place: Place = field(compare=False, repr=False)
    secrets: tuple[str, ...] = field(default=(), compare=False, repr=False)
    written: str = field(default="", compare=False, repr=False)
    unresolved: bool = field(default=False, compare=False, repr=False)

    def __repr__(self) -> str:
        shown = "***" if self.secrets else self.text
        return f"Scalar({shown!r}{', quoted=True' if self.quoted else ''})"

    @property
    def secret(self) -> bool:
        """Whether a value of the environment is inside."""
        return bool(self.secrets)


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Node, ...]
    place: Place = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Fields:
    """A map; every key is text and stands once.

    Attributes:
        values: key to value, in the order written.
        key_places: key to where it stands.
        place: where the map begins.
    """

    values: dict[str, Node]
    key_places: dict[str, Place] = field(compare=False, repr=False)
    place: Place = field(compare=False, repr=False)

    def having(self, key: str, value: Node, place: Place | None = None) -> Fields:
        """Return the map with one value more, or another one."""
        places = self.key_places | {key: place or self.key_places.get(key, value.place)}
        return replace(self, values=self.values | {key: value}, key_places=places)

    def without(self, key: str) -> Fields:
        """Return the map less one key."""
        values = {name: value for name, value in self.values.items() if name != key}
        places = {name: place for name, place in self.key_places.items() if name != key}
        return replace(self, values=values, key_places=places)


Node: TypeAlias = Scalar | Items | Fields


def unresolved(node: object) -> bool:
    """Return whether a node is text with a reference that is wrong."""
    return isinstance(node, Scalar) and node.unresolved


def shape(node: Node) -> str:
    """Return what a node is, for a message."""
    if isinstance(node, Scalar):
        return "a value of the environment" if node.secret else repr(node.text)
    return "a list" if isinstance(node, Items) else "a map"

"""Variables that are defined at one place of a flow, and what was done with them so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipelines.flow.checked import After


class Scope:
    """Variables by name, with their types.

    Attributes:
        types: of the variables that are defined here.
        written: variables that a block in this scope may have written.
        replaced: those that are certain to have been written, so that what they held is gone.
        forgotten: those that were defined and are not any more.
        read: variables whose value from outside this scope a block may have read.
    """

    def __init__(self, types: Mapping[str, Any]) -> None:
        """Begin with variables from outside."""
        self.types = dict(types)
        self.written: set[str] = set()
        self.replaced: set[str] = set()
        self.forgotten: set[str] = set()
        self.read: set[str] = set()

    def inner(self, types: Mapping[str, Any] | None = None) -> Scope:
        """Return a scope inside this one, with more variables or others of the same names."""
        return Scope({**self.types, **(types or {})})

    def reads(self, name: str) -> None:
        """Take note that a block reads a variable."""
        if name not in self.replaced:
            self.read.add(name)

    def writes(self, name: str, kind: Any, *, certain: bool = True) -> None:
        """Take note that a block writes a variable; not `certain` if what was there may stay."""
        self.types[name] = kind
        self.written.add(name)
        self.forgotten.discard(name)
        if certain:
            self.replaced.add(name)

    def forgets(self, name: str) -> None:
        """Take note that a variable is not defined any more."""
        self.types.pop(name, None)
        self.forgotten.add(name)

    def reads_of(self, inner: Scope, bound: Iterable[str] = ()) -> None:
        """Take over what an inner scope read, except the variables that its block binds."""
        for name in inner.read.difference(bound):
            self.reads(name)

    def joins(self, ends: Sequence[Scope], *, except_for: Iterable[str] = ()) -> After:
        """Go on after one of several arms: what has the same type in all of them stays."""
        kept, gone = set(), set()
        for name in {name for end in ends for name in end.touched}.difference(except_for):
            kinds = [end.types.get(name) for end in ends]
            if kinds[0] is not None and all(kind == kinds[0] for kind in kinds):
                certain = all(name in end.replaced for end in ends)
                self.writes(name, kinds[0], certain=certain)
                kept.add(name)
            else:
                gone.add(name)
                self.forgets(name)
        return After(frozenset(kept), frozenset(gone))

    def drops(self, ends: Sequence[Scope], *, except_for: Iterable[str]) -> After:
        """Go on after several arms at once: nothing stays of what any of them wrote."""
        gone = {name for end in ends for name in end.touched}.difference(except_for)
        for name in gone:
            self.forgets(name)
        return After(gone=frozenset(gone))

    @property
    def touched(self) -> set[str]:
        """Variables that are not what they were outside."""
        return self.written | self.forgotten

"""Groups of things that belong together, and a draw of whole groups, for splits without leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def linked_groups(links: Iterable[tuple[K, K]]) -> dict[K, K]:
    """Return the group of every key, named by one of its members: union-find.

    Args:
        links: pairs of keys that belong to one group; a key alone is a pair with itself.
    """
    parent: dict[K, K] = {}

    def root(key: K) -> K:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for one, other in links:
        parent[root(one)] = root(other)
    return {key: root(key) for key in list(parent)}


def drawn_groups(members: Mapping[K, Sequence[str]], room: int, seed: int) -> set[K]:
    """Return groups that hold at most `room` members together.

    They are taken in the order of a hash of the seed and their smallest member; a group that would
    go past the room is passed over. So the draw depends on content and seed, not on any order.

    Args:
        members: ids of the members of each group, at least one.
        room: most members of all groups that are taken.
        seed: of the draw.
    """
    drawn = sorted(members, key=lambda group: _place(min(members[group]), seed))
    taken: set[K] = set()
    for group in drawn:
        if len(members[group]) <= room:
            taken.add(group)
            room -= len(members[group])
    return taken


def _place(id_: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{id_}".encode()).digest()

"""The keys of a pipeline file: which ones each part may have, and which it must."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.definition.nodes import Fields
from pipelines.flow.diagnostics import Mistake, nearest


@dataclass(frozen=True)
class Keys:
    """The keys of one part.

    Attributes:
        needed: key to the reason why it must be there, or an empty text.
        optional: the other keys.
    """

    needed: Mapping[str, str]
    optional: tuple[str, ...] = field(default=())

    @property
    def names(self) -> tuple[str, ...]:
        """All keys."""
        return (*self.needed, *self.optional)


BLOCKS = ("route", "branch", "map", "loop", "recurse", "pipeline")
COMPARED = ("equals", "in", "above", "below", "empty", "contains", "true")

KEYS: Mapping[str, Keys] = {
    "pipeline": Keys(
        {"steps": ""},
        ("version", "name", "description", "extends", "vars", "resources", "inputs", "outputs"),
    ),
    "resource": Keys({"use": ""}, ("with",)),
    "step": Keys({"use": ""}, ("id", "with", "in", "out", "when", "cache")),
    "route": Keys({"by": "", "arms": ""}, ("policy", "threshold", "else", "merge")),
    "branch": Keys({"arms": "", "merge": "nothing else of its arms survives"}),
    "map": Keys(
        {"over": "", "as": "", "steps": "", "collect": "nothing else leaves it"},
        ("into", "max_parallel"),
    ),
    "loop": Keys({"times": "every loop is bounded", "steps": ""}, ("until", "carry")),
    "recurse": Keys(
        {
            "seed": "",
            "steps": "",
            "children": "",
            "max_depth": "every recursion is bounded",
            "max_nodes": "every recursion is bounded",
            "collect": "nothing else leaves it",
        },
        ("as", "into"),
    ),
    "nested": Keys({}, ("file", "name", "id", "in", "out", "with")),
    "condition": Keys({}, ("var", *COMPARED, "all", "any", "not", "judge")),
}


def unknown_keys(part: str, fields: Fields, *, called: str = "") -> list[Mistake]:
    """Return a mistake for every key that a part cannot have.

    Args:
        part: a key of `KEYS`.
        fields: the part.
        called: how messages call it; as in `KEYS` by default.
    """
    allowed = KEYS[part].names
    others = (*BLOCKS, "include") if part == "step" else ()
    return [
        Mistake(
            "unknown-key",
            f"{called or part} has no key {key!r}",
            fields.key_places[key],
            nearest(key, (*allowed, *others)),
        )
        for key in fields.values
        if key not in allowed
    ]


def missing_keys(part: str, fields: Fields) -> list[Mistake]:
    """Return a mistake for every key that a part must have and does not."""
    return [
        Mistake("missing-key", f"{part} needs {key}{f': {why}' if why else ''}", fields.place)
        for key, why in KEYS[part].needed.items()
        if key not in fields.values
    ]

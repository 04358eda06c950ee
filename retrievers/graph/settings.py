"""What a corpus graph is made of, and what each kind of edge counts in a walk."""

from dataclasses import dataclass, fields
from typing import Literal

RULES = 2
"""Number of the rules by which texts are read; raised whenever they change."""
KINDS = ("mention", "phrase", "reference", "triple", "metadata", "seq", "parent", "knn")
"""Kinds of edges, those that say most first."""


@dataclass(frozen=True, slots=True)
class GraphSettings:
    """How a corpus graph is made.

    Attributes:
        neighbours: edges `knn` that leave a passage, at least 0; 0 makes none.
        floor: the least cosine of such an edge, in (0, 1].
        name_passages: a name that more passages bear gives no edge `mention`, at least 1.
        phrase_passages: a phrase or metadata value that more passages share gives no edge, at
            least 2.
        fields: metadata fields whose shared values give edges `metadata`.
    """

    neighbours: int = 10
    floor: float = 0.3
    name_passages: int = 32
    phrase_passages: int = 30
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("neighbours", 0), ("name_passages", 1), ("phrase_passages", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0.0 < self.floor <= 1.0:
            raise ValueError(f"floor must be in (0, 1], got {self.floor}")


@dataclass(frozen=True, slots=True)
class EdgeWeights:
    """What an edge of each kind counts in a walk; 0 leaves the kind out.

    The defaults were found on 2WikiMultihopQA, HotpotQA, MuSiQue and SQuAD, whose corpora have
    neither `reference`, `triple`, `metadata`, `seq` nor `parent`: these five are guesses. On all
    four, `knn` edges add nothing to links and dilute them.

    Attributes:
        mention: a passage mentions another's title, heading, alias or defined term.
        phrase: two share a capitalised phrase.
        reference: one links to the other's document.
        triple: the user's file says so.
        metadata: two share a value of a metadata field.
        seq: one follows the other.
        parent: two belong to the same section.
        knn: their vectors are near.
        knn_symmetry: `mutual` keeps a `knn` edge that both ends have, `union` one that either has.
        degree_cap: edges that leave a passage, the heaviest; at least 1.
    """

    mention: float = 1.0
    phrase: float = 0.4
    reference: float = 1.0
    triple: float = 1.0
    metadata: float = 0.3
    seq: float = 0.1
    parent: float = 0.1
    knn: float = 0.0
    knn_symmetry: Literal["mutual", "union"] = "mutual"
    degree_cap: int = 64

    def __post_init__(self) -> None:
        for kind in KINDS:
            if not 0.0 <= self.of(kind) < float("inf"):
                raise ValueError(f"{kind} must be finite and at least 0, got {self.of(kind)}")
        if self.knn_symmetry not in ("mutual", "union"):
            raise ValueError(f"knn_symmetry must be mutual or union, got {self.knn_symmetry!r}")
        if self.degree_cap < 1:
            raise ValueError(f"degree_cap must be at least 1, got {self.degree_cap}")

    def of(self, kind: str) -> float:
        """Return what an edge of a kind counts."""
        return float(getattr(self, kind))

    @classmethod
    def only(cls, *kinds: str) -> "EdgeWeights":
        """Return the default weights of some kinds, 0 for the others; `knn` counts 1 if named.

        Raises:
            ValueError: for a kind that does not exist.
        """
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown:
            raise ValueError(f"kinds must be among {', '.join(KINDS)}, got {', '.join(unknown)}")
        default = {field.name: field.default for field in fields(cls)} | {"knn": 1.0}
        return cls(**{kind: default[kind] if kind in kinds else 0.0 for kind in KINDS})  # type: ignore[arg-type]

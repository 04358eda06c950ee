"""Encodings to learn: ways in which inference reads passages, and the draw of some of them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from rag.generation.cached import GenerateCached
from rag.generation.context_plan import keeps

if TYPE_CHECKING:
    from rag.generation.plan import EncodingPlan
    from rag.generation.prompt import PromptEncoder
    from rag.records import ModelIdentity, Passage, Query


@dataclass(frozen=True, slots=True)
class Encoding:
    """One way to read passages, as options of the generator that reads so at inference.

    Attributes:
        name: short, of letters, digits and dashes.
        options: field values of `GenerateCached`; the others keep their defaults.
        whole: whether passages are read whole, whatever a pruner kept of them.
        weight: how often it is drawn, relative to the others; above 0.

    Raises:
        ValueError: for an empty name or a weight that is not above 0.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = False
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("-", "").isalnum():
            raise ValueError(
                f"name must be of letters, digits and dashes and not be empty, got {self.name!r}"
            )
        if not self.weight > 0.0:
            raise ValueError(f"weight must be above 0, got {self.weight}")

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name, options of several settings as objects."""
        options = {name: _plain(value) for name, value in self.options.items()}
        told = {"name": self.name, "options": options, "weight": self.weight}
        return told | ({"whole": True} if self.whole else {})


SEQUENTIAL = Encoding("sequential", {"mode": "prefix"})
"""The plain prompt. Mode `prefix` has the same attention as `sequential`, but lets the questions of
one pass share the prefix."""
CACHED = (
    Encoding("ape", {"mode": "ape"}),
    Encoding("ape-serial", {"mode": "ape", "positions": "serial", "repack": False}, weight=0.5),
    Encoding("block", {"mode": "block"}),
    Encoding("parallel", {"mode": "parallel"}, weight=0.5),
    Encoding("graph", {"mode": "graph"}),
)
"""Passages side by side with the generator's weights; the same at the places that they have in the
whole prompt, with gaps; one after another; side by side with neutral weights; all but the best side
by side, and the best over them."""


def drawn_encodings(
    mix: Sequence[Encoding], count: int, rng: random.Random
) -> tuple[Encoding, ...]:
    """Return different encodings of a mix, drawn by weight, in the order of the mix.

    Args:
        mix: to draw from.
        count: how many; all of them if there are no more.
        rng: draws.
    """
    # Efraimidis and Spirakis 2006: the largest of u^(1/w) are a weighted draw without replacement.
    keys = [rng.random() ** (1.0 / one.weight) for one in mix]
    best = sorted(range(len(mix)), key=lambda row: -keys[row])[: max(0, count)]
    return tuple(mix[row] for row in sorted(best))


@dataclass(frozen=True, slots=True)
class _PlansOnly:
    """Stands for an engine where plans are made and nothing runs."""

    identity: ModelIdentity
    reuses: bool = True
    cache: None = None


class Plans:
    """Makes plans for questions, by the very code that makes them at inference."""

    def __init__(self, prompt: PromptEncoder, encodings: Sequence[Encoding]) -> None:
        """Make a generator an encoding.

        Args:
            prompt: tokenises for the model.
            encodings: those that plans are asked for; names must differ.

        Raises:
            ValueError: if two have one name, or `GenerateCached` refuses an option.
        """
        names = [one.name for one in encodings]
        if len(set(names)) != len(names):
            raise ValueError(f"names of encodings must differ, got {', '.join(names)}")
        plain = GenerateCached(cast("Any", _PlansOnly(prompt.identity)), prompt)
        self._generators: dict[str, GenerateCached] = {}
        for one in encodings:
            try:
                self._generators[one.name] = replace(plain, **one.options)
            except (TypeError, ValueError) as error:
                raise ValueError(f"encoding {one.name!r}: {error}") from error

    def plan(
        self, encoding: Encoding, query: Query, passages: Sequence[Passage], *, whole: bool = False
    ) -> EncodingPlan:
        """Return the plan of a question.

        Args:
            encoding: one of those known.
            query: the question.
            passages: best first; one of which nothing is kept is not read.
            whole: read all sentences, as if nothing had been pruned.

        Raises:
            ValueError: if nothing is left to read.
        """
        if whole or encoding.whole:
            passages = [replace(one, kept=None) for one in passages]
        read = [one for one in passages if keeps(one)]
        return self._generators[encoding.name].plan(query, read)


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value

"""Copying heads: the few attention heads that look at the words which an answer repeats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from rag.generation.attention_citations import HEADS, Heads
from rag.text.normalise import normalised_answer

if TYPE_CHECKING:
    from torch import Tensor

    from rag.generation.attention_mass import Unit
    from rag.records import Passage


class CopyingHeads:
    """Counts how often each head attends most to the passage that an answer was copied from.

    An answer counts if just one of the passages read has its words, in order and unbroken, once
    both are normalised as SQuAD does. No labels are needed, and whether an answer is right does not
    matter: what is looked for is where the model took it from.

    Source: the retrieval heads of Wu et al. 2024, arXiv:2404.15574, which counts the tokens that a
    head attends to most as they are copied; here the unit is a passage.

    Attributes:
        answers: how many have counted.
    """

    def __init__(self) -> None:
        """Start from no answer."""
        self.answers = 0
        self._hits: Tensor | None = None

    def add(
        self, mass: Tensor, units: Sequence[Unit], passages: Sequence[Passage], answer: str
    ) -> bool:
        """Count an answer; return whether it counts.

        Args:
            mass: (layers, heads, units + 1), summed over the tokens of the answer.
            units: what the columns of `mass` stand for, without the last.
            passages: what was read.
            answer: the answer, without marks.

        Raises:
            ValueError: if the masses of two answers are not of the same model, or a unit is of a
                passage that is not given.
        """
        places = {passage.id: place for place, passage in enumerate(passages)}
        unknown = sorted({unit.passage for unit in units} - places.keys())
        if unknown:
            raise ValueError(f"units must be of the passages given, got {', '.join(unknown)}")
        words = normalised_answer(answer)
        having = [
            place
            for place, passage in enumerate(passages)
            if words and f" {words} " in f" {normalised_answer(passage.text)} "
        ]
        if len(having) != 1 or len(passages) == 1:
            return False
        if self._hits is None:
            self._hits = mass.new_zeros(mass.shape[:2], dtype=torch.int64)
        if self._hits.shape != mass.shape[:2]:
            raise ValueError(
                f"mass must be {tuple(self._hits.shape)} layers and heads as before, "
                f"got {tuple(mass.shape[:2])}"
            )
        found = mass.new_zeros(*mass.shape[:2], len(passages))
        columns = mass.new_tensor([places[unit.passage] for unit in units], dtype=torch.int64)
        found.index_add_(2, columns, mass[..., :-1])
        self._hits += found.argmax(-1) == having[0]
        self.answers += 1
        return True

    def best(self, count: int = HEADS) -> Heads:
        """Return the heads that were right most often, best first.

        Ties go to the lower layer, then to the lower head.

        Args:
            count: how many, at least 1; fewer if the model has fewer.

        Raises:
            ValueError: if `count` is below 1, or no answer has counted.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        if self._hits is None:
            raise ValueError("no answer has its words in just one of several passages; add more")
        hits = self._hits.flatten().tolist()
        order = sorted(range(len(hits)), key=lambda row: (-hits[row], row))
        width = self._hits.shape[1]
        return tuple(divmod(row, width) for row in order[:count])

"""Controls: scorers that do not read the query, for comparison with those that do."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pruners.decide import LEAST_SCORE
from rag.bounds import Bounds
from rag.records import Passage, PassageScores, Query


@dataclass(frozen=True)
class KeepAll:
    """Scorer that gives every sentence 1: what no pruning costs and finds."""

    name = "all"

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[PassageScores]:
        """Return 1 for each sentence; `query` is not read."""
        del query
        return [PassageScores((1.0,) * len(passage.sentences)) for passage in passages]


@dataclass(frozen=True)
class RandomSentences:
    """Scorer that lets chance choose: what a pruner of this rate finds without looking.

    A number u, uniform in (0, 1), becomes a score above 0.5 if it is below `rate`, the higher the
    smaller it is; so at threshold 0.5 each sentence stays with probability `rate`, and a larger
    rate only adds. u is a hash of seed, query, passage and row: no other passage, no order and no
    process changes it.

    Attributes:
        rate: share of sentences to keep at threshold 0.5, in [0, 1].
        seed: another one chooses others.
    """

    rate: Annotated[float, Bounds(0, 1)] = 0.5
    seed: int = 0

    name = "random"

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:
            raise ValueError(f"rate must be in [0, 1], got {self.rate}")

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[PassageScores]:
        """Return a random score for each sentence, in [1e-6, 1]."""
        return [
            PassageScores(
                tuple(
                    self._score(f"{self.seed}\0{query.text}\0{passage.id}\0{row}")
                    for row in range(len(passage.sentences))
                )
            )
            for passage in passages
        ]

    def _score(self, key: str) -> float:
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        u = (int.from_bytes(digest[:8], "big") + 0.5) / 2**64
        if u < self.rate:
            return 1.0 - 0.5 * u / self.rate
        return max(LEAST_SCORE, 0.5 - 0.5 * (u - self.rate) / (1.0 - self.rate))


@dataclass(frozen=True)
class LeadSentences:
    """Scorer that trusts the beginning: the first sentences of a passage, whatever the query.

    The first has 1, and each later one less; the first k are above the threshold 0.5, the others
    not. So another threshold moves the place where passages are cut.

    Attributes:
        k: sentences to keep of each passage at threshold 0.5, at least 0.
    """

    k: Annotated[int, Bounds(low=0)] = 3

    name = "lead"

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ValueError(f"k must be at least 0, got {self.k}")

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[PassageScores]:
        """Return a score for each sentence by its row alone; `query` is not read."""
        del query
        return [
            PassageScores(tuple(self._score(row) for row in range(len(passage.sentences))))
            for passage in passages
        ]

    def _score(self, row: int) -> float:
        """Return k / (k + row), or less: above 0.5 exactly for the rows before k."""
        return max(LEAST_SCORE, self.k / (self.k + row)) if self.k + row else LEAST_SCORE

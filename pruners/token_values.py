"""What a model says of the tokens of a passage, whatever model it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rag.records import Passage, Query, Span


@dataclass(frozen=True, slots=True)
class TokenValue:
    """One token and how useful it is.

    Attributes:
        span: the token in the passage's text, at least one character; tokens of one character's
            bytes share it.
        value: higher is more useful; what `TokenScorer.unit_score` takes.
    """

    span: Span
    value: float


class TokenScorer(Protocol):
    """Scores the tokens of passages for a query: what words and sentences are scored from."""

    @property
    def name(self) -> str:
        """Short name of the method."""

    def token_values(
        self, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[list[TokenValue]]]:
        """Return the tokens of each passage of each query, in the order of the text.

        Tokens without a visible character may be missing. A passage without sentences has none and
        costs nothing.
        """

    def unit_score(self, values: Sequence[float]) -> float:
        """Return the score of a unit, in [0, 1], from its tokens' values; it rises with their mean.

        Args:
            values: at least one.
        """

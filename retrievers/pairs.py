"""Queries and their passages, as a batch of questions is given."""

from collections.abc import Sequence

from rag.records import Passage, Query


def check_pairs(query: Sequence[Query], passages: Sequence[Sequence[Passage]]) -> None:
    """Raise ValueError if there is not one list of passages a query."""
    if len(query) != len(passages):
        raise ValueError(
            f"query and passages must be as long, got {len(query)} and {len(passages)}"
        )

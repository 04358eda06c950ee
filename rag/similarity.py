"""Similarity of queries and whole passages, by cosine of their vectors."""

from collections.abc import Sequence

from rag.protocols import Encoder
from rag.records import Passage, Query


def passage_cosines(
    encoder: Encoder, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
) -> list[list[float]]:
    """Return the cosine of each query with each of its passages, in their order, in [-1, 1].

    A passage stands with its title and its whole text, whatever was pruned, as it was indexed. All
    texts are encoded in one call; a passage of several queries is encoded once.

    Args:
        encoder: makes the vectors.
        queries: may be empty.
        passages: for each query its passages; each may be empty.

    Raises:
        ValueError: if the lengths differ.
    """
    if len(queries) != len(passages):
        raise ValueError(
            f"queries and passages must be as long, got {len(queries)} and {len(passages)}"
        )
    asked = [query.text for query, found in zip(queries, passages, strict=True) if found]
    read = [passage.searchable for found in passages for passage in found]
    texts = list(dict.fromkeys([*asked, *read]))
    if not texts:
        return [[] for _ in queries]
    row = {text: place for place, text in enumerate(texts)}
    vectors = encoder.encode(texts).astype("float64")  # (texts, dim)
    return [
        [
            min(1.0, max(-1.0, float(vectors[row[p.searchable]] @ vectors[row[query.text]])))
            for p in found
        ]
        for query, found in zip(queries, passages, strict=True)
    ]

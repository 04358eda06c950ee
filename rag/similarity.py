"""Similarity of queries and whole passages, by cosine of their vectors."""

from collections.abc import Sequence

from rag.protocols import Encoder
from rag.records import Passage, Query


def passage_cosines(
    encoder: Encoder, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
) -> list[list[float]]:
    """Return the cosine of each query with each of its passages, in their order, in [-1, 1].

    A passage stands with its title and its whole text, whatever was pruned, as it was indexed. All
    queries are encoded in one call and all passages in another, equal texts once.

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
    asked = list(dict.fromkeys(q.text for q, found in zip(queries, passages, strict=True) if found))
    read = list(dict.fromkeys(passage.searchable for found in passages for passage in found))
    if not asked:
        return [[] for _ in queries]
    of_query = dict(zip(asked, encoder.encode_queries(asked).astype("float64"), strict=True))
    of_passage = dict(zip(read, encoder.encode(read).astype("float64"), strict=True))
    return [
        [min(1.0, max(-1.0, float(of_passage[p.searchable] @ of_query[query.text]))) for p in found]
        for query, found in zip(queries, passages, strict=True)
    ]

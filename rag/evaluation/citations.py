"""Citation precision: how many citations point at the evidence that people labelled."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from rag.records import Citation, Passage


def citation_precision(
    citations: Sequence[Citation],
    passages: Sequence[Passage],
    supporting: Mapping[str, Sequence[int]],
    documents: AbstractSet[str],
) -> float | None:
    """Return the share of citations that are gold, in [0, 1]; None without citations or gold.

    A citation is gold if it quotes a gold sentence, or, where no sentence of its document is
    labelled, if its document is gold.

    Args:
        citations: of one answer.
        passages: what it cites.
        supporting: gold sentences by document, as rows from 0.
        documents: gold documents.

    Raises:
        ValueError: if a citation names a passage that is not given.
    """
    if not citations or not documents:
        return None
    by_id = {passage.id: passage for passage in passages}
    hits = 0
    for citation in citations:
        rows = supporting.get(citation.document, ())
        if rows:
            hits += _row(citation, by_id) in rows
        else:
            hits += citation.document in documents
    return hits / len(citations)


def _row(citation: Citation, by_id: Mapping[str, Passage]) -> int:
    """Return the row of the sentence in which a quote begins."""
    if citation.passage_id not in by_id:
        raise ValueError(f"citation of {citation.passage_id!r}, which is not among the passages")
    passage = by_id[citation.passage_id]
    start = citation.start - passage.span.start
    return next((row for row, s in enumerate(passage.sentences) if s.start <= start < s.end), -1)

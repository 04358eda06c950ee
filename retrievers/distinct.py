"""Reading a ranking of ids: the passages behind the best hits, none with the same text twice."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rag.ranking import Ranking
from rag.records import Hit, Passage

DEPTH = 1000  # hits that a retriever looks through, as copies are passed over


def distinct_passages(hits: Sequence[Hit], passages: Mapping[str, Passage], top_k: int) -> Ranking:
    """Return the best `top_k` passages with their scores, and the hits that follow as the tail.

    Of passages with the very same text only the best is returned: a second copy would take a place
    and tell the reader nothing. Hits of the tail are not read, so copies may stand there.

    Args:
        hits: best first, unique.
        passages: every indexed passage by id.
        top_k: most passages, at least 1.
    """
    found: dict[str, Passage] = {}
    for place, hit in enumerate(hits):
        if len(found) == top_k:
            return Ranking(found.values(), hits[place:])
        passage = passages[hit.id]
        found.setdefault(passage.text, replace(passage, score=hit.score))
    return Ranking(found.values())

"""Fusion of the corpora of one modality: by ranks, and no stretch of a document twice."""

from collections.abc import Sequence

from rag.corpus.nesting import covers
from rag.ranking import Ranking
from rag.records import Passage
from retrievers.falling_scores import tail_after
from retrievers.fusion.merging import in_order, merged, ranking_hits
from retrievers.fusion.rrf import reciprocal_rank_fusion


def fused_granularities(rankings: Sequence[Sequence[Passage]], *, rrf_k: int = 60) -> Ranking:
    """Return rankings over corpora of one modality as one, and no passage within another.

    Ranks are fused by `retrievers.fusion.rrf`. Corpora have no passage in common, so ranks tie all
    the time: ties go to the earlier ranking, then by id. Scores become `1 / rank`; those of one
    ranking alone stay. A passage that a better one covers, or that covers a better one, is passed
    over, for its text would be read twice: it goes to the tail. Tails of the rankings follow.

    Args:
        rankings: each best first with unique ids; the corpus that is trusted most comes first.
        rrf_k: how slowly the weight of a rank falls, at least 0.

    Raises:
        ValueError: if `rrf_k` is negative, or a ranking holds an id twice.
    """
    ranking = Ranking.of(rankings[0]) if len(rankings) == 1 else _fused(rankings, rrf_k)
    taken: list[Passage] = []
    for passage in ranking:
        if not any(covers(passage, one) or covers(one, passage) for one in taken):
            taken.append(passage)
    return ranking if len(taken) == len(ranking) else Ranking(taken, tail_after(taken, ranking))


def _fused(rankings: Sequence[Sequence[Passage]], rrf_k: int) -> Ranking:
    hits = ranking_hits(rankings)
    earliest: dict[str, int] = {}
    for place, of_one in enumerate(hits):
        for hit in of_one:
            earliest.setdefault(hit.id, place)
    found = reciprocal_rank_fusion(hits, (1.0,) * len(hits), k=rrf_k)
    found.sort(key=lambda hit: (-hit.score, earliest[hit.id], hit.id))
    known = {passage.id for ranking in rankings for passage in ranking}
    return merged(in_order([hit.id for hit in found]), rankings, len(known))

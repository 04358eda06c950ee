"""Retrieval metrics over ranked document ids, as ir-measures computes them."""

from collections.abc import Mapping, Sequence

from rag.errors import MissingExtraError

MEASURES = ("nDCG@10", "R@5", "R@10", "R@100", "RR@10", "AP")
ALL_AT_5 = "AllR@5"


def retrieval_metrics(
    rankings: Mapping[str, Sequence[str]], relevant: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, float]]:
    """Return every metric of each question that has a relevant document, all in [0, 1].

    nDCG, recall and average precision are trec_eval's (gain is the relevance itself), and RR is cut
    at 10. `AllR@5` is 1 if every relevant document is among the first 5. Documents are handed over
    in exactly the given order, so no tie rule applies.

    Args:
        rankings: document ids of each question, best first; may be empty.
        relevant: relevance of judged documents of each question; above 0 is relevant. A question
            without a relevant one is left out, as recall means nothing there.

    Raises:
        MissingExtraError: if ir-measures is not installed.
        ValueError: if a ranking names a document twice.
    """
    try:
        import ir_measures
    except ImportError as error:
        raise MissingExtraError(
            "retrieval metrics need ir-measures: pip install ir-measures"
        ) from error
    judged = {id_: relevant.get(id_, {}) for id_ in rankings}
    judged = {id_: found for id_, found in judged.items() if max(found.values(), default=0) > 0}
    if not judged:
        return {}
    run = {id_: _falling(id_, rankings[id_]) for id_ in judged}
    values = {id_: {ALL_AT_5: _all_at_5(rankings[id_], judged[id_])} for id_ in judged}
    measures = [ir_measures.parse_measure(name) for name in MEASURES]
    for metric in ir_measures.iter_calc(measures, judged, run):
        values[metric.query_id][str(metric.measure)] = float(metric.value)
    return values


def first_occurrences(ids: Sequence[str]) -> list[str]:
    """Return the ids in order, each where it occurs first."""
    return list(dict.fromkeys(ids))


def _falling(question: str, documents: Sequence[str]) -> dict[str, float]:
    """Return scores that put documents in just this order."""
    scores = {document: float(-row) for row, document in enumerate(documents)}
    if len(scores) != len(documents):
        raise ValueError(f"the ranking of {question!r} must name each document once")
    return scores


def _all_at_5(ranking: Sequence[str], relevant: Mapping[str, int]) -> float:
    wanted = {id_ for id_, relevance in relevant.items() if relevance > 0}
    return float(wanted <= set(ranking[:5]))

"""BM25 over a handful of texts, as a pure function."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence


def bm25_scores(
    query: Sequence[str],
    texts: Sequence[Sequence[str]],
    *,
    k1: float = 0.9,
    b: float = 0.4,
    idf: Mapping[str, float] | None = None,
) -> list[float]:
    """Return the BM25 score of each text for a query, in the texts' order, each at least 0.

    `sum over t in query of idf(t) * f / (f + k1 * (1 - b + b * length / mean length))`, f being the
    count of t in the text; a term that the query repeats counts again. Lucene's form of Robertson
    and Zaragoza 2009, doi:10.1561/1500000019, with Anserini's k1 and b.

    Args:
        query: terms of the query.
        texts: terms of each text; may be empty, as may each text.
        k1: how slowly repetition saturates, at least 0.
        b: how far length counts, in [0, 1].
        idf: weight of each term in a larger corpus; a term that it lacks counts 0. Without it,
            `ln(1 + (N - n + 0.5) / (n + 0.5))` over the given texts.

    Raises:
        ValueError: for k1 or b out of range.
    """
    if not (k1 >= 0.0 and math.isfinite(k1)):
        raise ValueError(f"k1 must be at least 0 and finite, got {k1}")
    if not 0.0 <= b <= 1.0:
        raise ValueError(f"b must be in [0, 1], got {b}")
    counts = [Counter(text) for text in texts]
    mean_length = sum(map(len, texts)) / len(texts) if texts else 0.0
    if mean_length == 0.0:
        return [0.0] * len(texts)
    if idf is None:
        found = {term: sum(term in count for count in counts) for term in set(query)}
        idf = {t: math.log1p((len(texts) - n + 0.5) / (n + 0.5)) for t, n in found.items()}
    scores = []
    for text, count in zip(texts, counts, strict=True):
        norm = k1 * (1.0 - b + b * len(text) / mean_length)
        scores.append(
            sum(idf.get(t, 0.0) * count[t] / (count[t] + norm) for t in query if t in count)
        )
    return scores

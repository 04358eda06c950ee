"""Training of a route classifier: heads on all queries, calibration on queries left out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rag.protocols import Encoder
from rag.routing.calibration import fitted_temperature
from rag.routing.classifier import RouteClassifier
from rag.routing.heads import Heads
from rag.routing.labelled_queries import LabelledQuery, queries_hash
from rag.routing.labels import MODALITIES
from rag.routing.nearness import nearest_cosine
from rag.routing.ngrams import Counted, HashedNGrams, WeightedNGrams
from rag.routing.training.logistic import fitted_linear
from rag.training.watching import Unwatched, Watcher

if TYPE_CHECKING:
    from scipy.sparse import csr_array

NGRAMS = (HashedNGrams("words", 1, 2, 1 << 16), HashedNGrams("characters", 2, 5, 1 << 17))
"""Word and character n-grams that a router reads."""
FAR = 0.05
"""Share of the training queries that are further from the others than `trust` allows."""
_ENCODED = 64  # queries a step


def train_router(
    queries: Sequence[LabelledQuery],
    encoder: Encoder,
    *,
    seed: int = 0,
    folds: int = 5,
    multi_label: bool = False,
    modalities: Mapping[str, str] = MODALITIES,
    watcher: Watcher | None = None,
) -> RouteClassifier:
    """Return a router that has learned from all queries.

    Its temperature and its threshold of trust come from folds: each query is judged by heads that
    learned from the other folds. Equal texts are in one fold, and every fold has its share of each
    label. The same queries and seed give the same router, up to rounding.

    Args:
        queries: labelled; each label needs two different texts.
        encoder: makes the vectors of queries.
        seed: of the folds.
        folds: at least 2.
        multi_label: whether a query may need several labels.
        modalities: of labels.
        watcher: sees the stages.

    Raises:
        ValueError: for too few folds, labels or queries of a label; or for a query with several
            labels without `multi_label`.
    """
    labels = _labels(queries, multi_label=multi_label)
    if folds < 2:
        raise ValueError(f"folds must be at least 2, got {folds}")
    watcher = watcher or Unwatched()
    texts = [one.text for one in queries]
    vectors = _vectors(texts, encoder, watcher)
    wanted = np.array([[label in one.labels for label in labels] for one in queries], np.float64)
    part_of = stratified_parts(queries, folds, seed)

    parts = sorted(set(part_of.tolist()))
    counted = [[ngrams(text) for text in texts] for ngrams in NGRAMS]
    watcher.stage("training", len(parts) + 1)
    logits = np.empty_like(wanted)
    nearest = np.empty(len(queries))
    for part in parts:
        asked, learned = np.flatnonzero(part_of == part), np.flatnonzero(part_of != part)
        heads = _trained(
            [[of_kind[row] for row in learned] for of_kind in counted],
            vectors[learned],
            wanted[learned],
            independent=multi_label,
        )
        logits[asked] = heads.logits([texts[row] for row in asked], vectors[asked])
        nearest[asked] = nearest_cosine(vectors[asked], vectors[learned])
        watcher.advance()
    heads = _trained(counted, vectors, wanted, independent=multi_label)
    watcher.advance()
    return RouteClassifier(
        encoder=encoder,
        labels=labels,
        heads=heads,
        known=vectors,
        encoder_name=encoder.name,
        encoder_fingerprint=encoder.fingerprint,
        temperature=fitted_temperature(logits, wanted, independent=multi_label),
        trust=float(np.quantile(nearest, FAR)),
        modalities={label: modalities.get(label, label) for label in labels},
        multi_label=multi_label,
        about={
            "queries": len(queries),
            "data": queries_hash(queries),
            "seed": seed,
            "folds": folds,
            "queries_of_label": {
                label: int(count) for label, count in zip(labels, wanted.sum(axis=0), strict=True)
            },
        },
    )


def stratified_parts(queries: Sequence[LabelledQuery], folds: int, seed: int) -> np.ndarray:
    """Return the fold of each query, int64 (n,), from 0.

    Texts are ordered by their labels and then by the SHA-256 of `seed:text`, and dealt out in turn,
    so that the queries of a label are spread as evenly as can be.
    """
    labels_of: dict[str, tuple[str, ...]] = {}
    for one in queries:
        labels_of.setdefault(one.text, tuple(sorted(one.labels)))
    ordered = sorted(labels_of, key=lambda text: (labels_of[text], _digest(text, seed)))
    part = {text: place % folds for place, text in enumerate(ordered)}
    return np.array([part[one.text] for one in queries], np.int64)


def _labels(queries: Sequence[LabelledQuery], *, multi_label: bool) -> tuple[str, ...]:
    texts: dict[str, set[str]] = {}
    for one in queries:
        if len(one.labels) > 1 and not multi_label:
            raise ValueError(
                f"query {one.id!r} needs several labels, {', '.join(one.labels)}; train with "
                "multi_label (on the command line --multi-label), or give it one"
            )
        for label in one.labels:
            texts.setdefault(label, set()).add(one.text)
    if len(texts) < 2:
        raise ValueError(f"queries must have at least 2 different labels, got {sorted(texts)}")
    rare = sorted(label for label, of in texts.items() if len(of) < 2)
    if rare:
        raise ValueError(f"each label needs at least 2 different queries, got one of {rare}")
    return tuple(sorted(texts))


def _vectors(texts: Sequence[str], encoder: Encoder, watcher: Watcher) -> np.ndarray:
    watcher.stage("encoding", len(texts))
    found = []
    for start in range(0, len(texts), _ENCODED):
        some = texts[start : start + _ENCODED]
        found.append(np.asarray(encoder.encode_queries(some), np.float32))
        watcher.advance(len(some))
    return np.concatenate(found)


def _trained(
    counted: Sequence[Sequence[Counted]],
    vectors: np.ndarray,
    wanted: np.ndarray,
    *,
    independent: bool,
) -> Heads:
    """Return heads; `counted` holds for each kind of n-gram what it counts in each query."""
    ngrams = []
    for kind, of_kind in zip(NGRAMS, counted, strict=True):
        weighted = WeightedNGrams.fitted(kind, of_kind)
        features = _features(weighted, of_kind)
        ngrams.append((weighted, fitted_linear(features, wanted, independent=independent)))
    return Heads(fitted_linear(vectors, wanted, independent=independent), tuple(ngrams))


def _features(weighted: WeightedNGrams, counted: Sequence[Counted]) -> csr_array:
    from scipy.sparse import csr_array

    rows = [weighted.weighted(one) for one in counted]
    starts = np.cumsum([0, *(len(columns) for columns, _ in rows)])
    columns = np.concatenate([columns for columns, _ in rows])
    values = np.concatenate([values for _, values in rows])
    return csr_array((values, columns, starts), shape=(len(rows), len(weighted.kept)))


def _digest(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{text}".encode("utf-8", "surrogatepass")).digest()

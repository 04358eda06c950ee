"""Weights of `route.evidence`, fitted on questions that the benchmark does not ask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from routing_routers import CLASSIFIER, learned_routers
from routing_vectors import KeptVectors
from scipy.optimize import minimize
from universal_data import CORPORA, TUNED, Asked, folded, read_asked
from universal_rows import kept_encoder, known_queries, opened

from pipelines.catalogue.corpora import corpus_search
from rag.evaluation.router_validation import routed_by_folds
from rag.records import Query, Route
from rag.routing.labelled_queries import LabelledQuery
from rag.training.watching import Watcher

WEIGHTS = ("cosine_weight", "term_weight", "prior_weight")
_LEAST = 1e-6  # probability of a label that a router excludes


def fitted(folder: Path, routing: Path, out: Path, *, watcher: Watcher) -> dict[str, float]:
    """Return the weights under which the right corpora are the most probable.

    Args:
        folder: that `prepare` wrote.
        routing: labelled queries; a question of theirs gets the probabilities of a router that has
            not learned from it.
        out: folder of the vectors of questions.
        watcher: sees the stages.
    """
    encoder = kept_encoder(out)
    asked = read_asked(folder, TUNED)
    queries = [Query(one.text) for one in asked]
    vectors = encoder.encode_queries([one.text for one in asked])
    best = [
        corpus_search(opened(folder, name, encoder, watcher)).best(queries, vectors)
        for name in CORPORA
    ]
    routes = _priors(asked, known_queries(routing, read_asked(folder)), encoder, watcher)
    prior = np.array([[r.probs.get(name, 0.0) for name in CORPORA] for r in routes])
    told = np.concatenate(
        [
            np.array(best).transpose(1, 0, 2),
            np.log(np.maximum(prior, _LEAST))[:, :, None],
        ],
        axis=2,
    )  # (questions, corpora, weights)
    right = np.array([CORPORA.index(one.label) for one in asked])

    def nll(weights: np.ndarray) -> float:
        scores = told @ weights
        scores -= scores.max(axis=1, keepdims=True)
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return float(-logs[np.arange(len(right)), right].mean())

    found = minimize(nll, np.ones(len(WEIGHTS)), bounds=[(0.0, None)] * len(WEIGHTS))
    hit = float(((told @ found.x).argmax(axis=1) == right).mean())
    weights = dict(zip(WEIGHTS, (round(float(x), 3) for x in found.x), strict=True))
    return {**weights, "nll": round(float(found.fun), 4), "accuracy": hit, "n": len(asked)}


def _priors(
    asked: Sequence[Asked],
    known: Sequence[LabelledQuery],
    encoder: KeptVectors,
    watcher: Watcher,
) -> list[Route]:
    """Return the classifier's routes, of each question by one that has not learned from it."""
    make = learned_routers()[CLASSIFIER]
    whole = make(known, encoder)
    left_out = {
        folded(query.text): one.route
        for query, one in zip(
            known,
            routed_by_folds(known, lambda some: make(some, encoder), watcher=watcher),
            strict=True,
        )
    }
    routes = whole.batch([Query(one.text) for one in asked])
    return [left_out.get(folded(one.text), route) for one, route in zip(asked, routes, strict=True)]

"""Features of sentences: each on its own, in its passage, and among all passages given."""

from __future__ import annotations

import numpy as np

from pruners.features.asked import ASKED
from pruners.features.facts import SHAPE
from pruners.features.sentence_set import BRIDGES, RELATIONS, SentenceSet

_K1, _B = 0.9, 0.4  # Anserini's, as in rag.text.bm25
_TINY = 1e-6

_OWN = (
    "bm25",
    "match",
    "match_to_passage_best",
    "match_to_best",
    "passage_match",
    "passage_match_to_best",
    "left_match",
    "residual",
    "residual_to_passage_best",
    "subject_is_asked",
    "log_asked_subjects",
    "title_match",
    "title_match_to_best",
    "log_new_names",
    "asked_names",
    "passage_cosine",
    "passage_cosine_to_best",
    "centrality",
    "log_passages",
    "log_all_sentences",
    "best_cosine",
    "cosine_spread",
)
FEATURES = (
    *(f"cosine.{name}" for name in RELATIONS),
    *(f"bm25.{name}" for name in RELATIONS),
    *(f"overlap.{name}" for name in RELATIONS),
    *(f"rare_overlap.{name}" for name in RELATIONS),
    *(f"cosine.{name}" for name in BRIDGES),
    *_OWN,
    *SHAPE,
    *ASKED,
)
"""Columns of `sentence_features`."""


def sentence_features(sentences: SentenceSet) -> np.ndarray:
    """Return the features of the sentences, float32 (n, len(FEATURES)).

    Cosines, BM25 over the sentences given (title and sentence, as they were encoded) as a share of
    the best one, and shares of the question's terms, by count and by rarity in the set: each with
    its relations to neighbours, to the passage and to all passages. Then what the title, the rest
    of the passage and the other passages say.

    Args:
        sentences: at least one.
    """
    asked, passages, owner = sentences.asked, sentences.passages, sentences.owner
    wanted = asked.terms
    n = len(sentences)
    in_body = np.array([[c.get(t, 0) for t in wanted] for p in passages for c in p.counts], float)
    in_body = in_body.reshape(n, len(wanted))
    in_title = np.array([[p.title.get(t, 0) for t in wanted] for p in passages], float)
    count = in_body + in_title.reshape(len(passages), len(wanted))[owner]
    hit, seen = in_body > 0.0, count > 0.0
    found = seen.sum(axis=0)
    rarity = np.log1p((n - found + 0.5) / (found + 0.5))  # (terms,)
    title_terms = np.array([sum(p.title.values()) for p in passages], float)
    lengths = np.concatenate([p.lengths for p in passages]) + title_terms[owner]
    norm = _K1 * (1.0 - _B + _B * lengths / max(1.0, lengths.mean()))
    bm25 = (rarity * count / (count + norm[:, None])).sum(axis=1)
    weight = np.log1p(np.array([len(t) for t in wanted], float))  # long words say more
    weight /= max(_TINY, weight.sum())
    match = (seen * weight).sum(axis=1)
    whole = np.logical_or.reduceat(seen, sentences.starts, axis=0)  # (passages, terms)
    passage_match = (whole * weight).sum(axis=1)
    left = ~seen[int(sentences.cosine.argmax())]
    residual = _residual(sentences)
    subject = np.array([bool(p.subject) and p.subject in asked.line for p in passages], float)
    shared = [sum(term in wanted for term in p.title) / max(1, len(p.title)) for p in passages]
    title = np.array(shared, float)
    names = [(found - p.title.keys(), found) for p in passages for found in p.names]
    new = np.array([len(other - asked.names) for other, _ in names], float)
    known = np.array([len(found & asked.names) for _, found in names], float)
    means = sentences.passage_mean(sentences.vectors)
    passage = (means * sentences.query).sum(axis=1)
    own = [
        bm25,
        match,
        match - sentences.passage_best(match)[owner],
        match - match.max(),
        passage_match[owner],
        (passage_match - passage_match.max())[owner],
        hit[:, left].sum(axis=1) / max(1, int(left.sum())),
        residual,
        residual - sentences.passage_best(residual)[owner],
        subject[owner],
        np.full(n, np.log1p(subject.sum())),
        title[owner],
        (title - title.max())[owner],
        np.log1p(new),
        known / max(1, len(asked.names)),
        passage[owner],
        (passage - passage.max())[owner],
        (sentences.vectors * means[owner]).sum(axis=1),
        np.full(n, np.log(len(passages))),
        np.full(n, np.log(n)),
        np.full(n, sentences.cosine.max()),
        np.full(n, sentences.cosine.std()),
    ]
    columns = [
        *sentences.relations(sentences.cosine),
        *sentences.relations(bm25 / max(_TINY, float(bm25.max()))),
        *sentences.relations(hit.sum(axis=1) / max(1, len(wanted))),
        *sentences.relations((hit * rarity).sum(axis=1) / max(_TINY, float(rarity.sum()))),
        *sentences.bridges(sentences.cosine),
        *own,
    ]
    shape = np.concatenate([p.columns for p in passages])
    kinds = np.broadcast_to(asked.columns, (n, len(ASKED)))
    return np.column_stack([*columns, shape, kinds]).astype(np.float32)


def _residual(sentences: SentenceSet) -> np.ndarray:
    """Return the cosine with what a question asks beyond the best sentence elsewhere, (n,).

    The part of the question's vector along the best sentence of the best other passage is taken
    out; 0 for a passage alone.
    """
    if len(sentences.starts) == 1:
        return np.zeros(len(sentences))
    second, first = np.argsort(sentences.passage_best(sentences.cosine), kind="stable")[-2:]
    of = [sentences.dots(_beyond(sentences, int(place))) for place in (first, second)]
    return np.where(sentences.owner == first, of[1], of[0])


def _beyond(sentences: SentenceSet, place: int) -> np.ndarray:
    start, end = sentences.starts[place], sentences.ends[place]
    best = sentences.vectors[start + int(sentences.cosine[start:end].argmax())].astype(np.float64)
    rest: np.ndarray = sentences.query - (sentences.query @ best) * best
    return rest / max(_TINY, float(np.linalg.norm(rest)))

"""Scorer by a trained head over features: the framework's default pruner."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from pruners.cosine import SentenceVectors, vectors_of_sentences
from pruners.decide import LEAST_SCORE
from pruners.features.asked import question_facts
from pruners.features.facts import PassageFacts, passage_facts
from pruners.features.features import sentence_features
from pruners.features.head import DEFAULT_RECALL, FeatureHead
from pruners.features.sentence_set import SentenceSet
from rag.protocols import Encoder
from rag.records import Passage, PassageScores, Query

_REMEMBERED = 4096  # passages whose facts are kept: a few megabytes


class FeatureScorer:
    """Scores sentences by what relates them to the question, to their passage and to the others.

    A score is the calibrated probability that a person would keep the sentence for this question.
    It needs one encoded question and vectors that an index keeps; the rest is counting. Scores
    depend on the set of passages, not on their order; a passage alone is a set like any other.
    Facts of passages are remembered by title, text and sentences, so a passage that is retrieved
    again costs less.
    """

    name = "features"

    def __init__(
        self,
        encoder: Encoder,
        head: FeatureHead,
        sentence_vectors: SentenceVectors | None = None,
    ) -> None:
        """Make a scorer.

        Args:
            encoder: of the question, and of sentences without `sentence_vectors`; the one that the
                head was trained with.
            head: the trained part; `FeatureHead.load()` is the one of this package.
            sentence_vectors: gives the unit vectors, (sentences, dim), that the same encoder made
                of a passage's `sentence_texts`; None encodes them for each query.

        Raises:
            ValueError: if the head was trained with another encoder.
        """
        if head.encoder_fingerprint != encoder.fingerprint:
            raise ValueError(
                f"head was trained with encoder {head.encoder!r} "
                f"({head.encoder_fingerprint[:12]}), got {encoder.name!r} "
                f"({encoder.fingerprint[:12]}); use that encoder, or train a head for this one: "
                "dovetail train pruner DATA -o DIR --kind features"
            )
        self._encoder = encoder
        self._head = head
        self._sentence_vectors = sentence_vectors
        self._facts = lru_cache(_REMEMBERED)(_facts)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that scores depend on, besides question and passages."""
        return self._head.fingerprint

    @property
    def threshold(self) -> float | None:
        """The score that a sentence should exceed, as the head was tuned; None if unknown."""
        return self._head.thresholds.get(DEFAULT_RECALL)

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[PassageScores]:
        """Return the probability of each sentence, in [1e-6, 1].

        Raises:
            ValueError: if vectors have not the right shape, or are not finite.
        """
        return self.score_batch([query], [passages])[0]

    def score_batch(
        self, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[PassageScores]]:
        """Return the scores of each query's passages; all texts are encoded in one call.

        Raises:
            ValueError: as of a call.
        """
        with_text = [[p for p in of_query if p.sentences] for of_query in passages]
        if not any(with_text):
            return [[PassageScores(()) for _ in of_query] for of_query in passages]
        asked = self._encoder.encode_queries([query.text for query in queries])
        vectors = iter(self._vectors([p for of in with_text for p in of], asked.shape[1]))
        return [
            self._scored(query, vector, of_query, [next(vectors) for _ in of])
            for query, vector, of_query, of in zip(queries, asked, passages, with_text, strict=True)
        ]

    def _scored(
        self,
        query: Query,
        asked: np.ndarray,
        passages: Sequence[Passage],
        vectors: Sequence[np.ndarray],
    ) -> list[PassageScores]:
        if not vectors:
            return [PassageScores(()) for _ in passages]
        facts = [self._facts(_Known(p)) for p in passages if p.sentences]
        together = SentenceSet(question_facts(query.text), asked, facts, np.concatenate(vectors))
        odds = np.clip(self._head.logits(sentence_features(together)), -50.0, 50.0)
        scores = np.maximum(1.0 / (1.0 + np.exp(-odds)), LEAST_SCORE).tolist()
        found, start = [], 0
        for passage in passages:
            end = start + len(passage.sentences)
            found.append(PassageScores(tuple(scores[start:end])))
            start = end
        return found

    def _vectors(self, passages: Sequence[Passage], dim: int) -> list[np.ndarray]:
        """Return the vectors of the sentences of each passage, (sentences, dim), checked."""
        found = vectors_of_sentences(self._encoder, passages, self._sentence_vectors, dim)
        if not all(np.isfinite(vectors).all() for vectors in found):
            raise ValueError("sentence vectors must be finite, got some that are not")
        return found


class _Known:
    """A passage as the facts of it depend on it: title, text and sentences."""

    __slots__ = ("_key", "passage")

    def __init__(self, passage: Passage) -> None:
        self.passage = passage
        self._key = (passage.title, passage.text, passage.sentences)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and self._key == other._key


def _facts(known: _Known) -> PassageFacts:
    return passage_facts(known.passage)

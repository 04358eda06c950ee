"""Cosine of query and sentence, each encoded alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from pruners.decide import LEAST_SCORE
from pruners.scored_texts import sentence_texts
from rag.protocols import Encoder
from rag.records import Passage, PassageScores, Query

if TYPE_CHECKING:
    import numpy as np

SentenceVectors = Callable[[Passage], "np.ndarray"]
"""Gives the unit vectors, (sentences, dim), of a passage's `sentence_texts`."""


@dataclass(frozen=True)
class CosineSentences:
    """Scorer by the cosine of the query's vector and each sentence's.

    A negative cosine, which says no more than 0, counts as 1e-6. So a threshold is a cosine, as
    people know them; `(1 + cosine) / 2` would crowd all that matters into the upper half. This is
    LlamaIndex's `SentenceEmbeddingOptimizer`, but the passage's title stands before each sentence.

    Attributes:
        encoder: makes the vectors of the query, and of sentences without `sentence_vectors`.
        sentence_vectors: gives the unit vectors, (sentences, dim), that the same encoder made of a
            passage's `sentence_texts`; None encodes them for each query.
    """

    encoder: Encoder
    sentence_vectors: SentenceVectors | None = None

    name = "cosine"

    def __call__(self, query: Query, passages: Sequence[Passage]) -> list[PassageScores]:
        """Return the cosine of each sentence, in [1e-6, 1].

        Raises:
            ValueError: if `sentence_vectors` or the encoder gives no finite vectors of the right
                shape.
        """
        return self.score_batch([query], [passages])[0]

    def score_batch(
        self, queries: Sequence[Query], passages: Sequence[Sequence[Passage]]
    ) -> list[list[PassageScores]]:
        """Return the scores of each query's passages; each text is encoded once.

        Raises:
            ValueError: as of a call.
        """
        cosines = sentence_cosines(self.encoder, queries, passages, self.sentence_vectors)
        return [[PassageScores(_clipped(found)) for found in of_query] for of_query in cosines]


def sentence_cosines(
    encoder: Encoder,
    queries: Sequence[Query],
    passages: Sequence[Sequence[Passage]],
    sentence_vectors: SentenceVectors | None = None,
) -> list[list[list[float]]]:
    """Return the cosines of each query with the sentences of its passages, one a sentence.

    Args:
        encoder: makes vectors of queries, and of sentences where there are none yet.
        queries: of n passages each; nothing is encoded if none has a sentence.
        passages: of each query.
        sentence_vectors: gives the vectors of a passage's sentences; None encodes them.

    Raises:
        ValueError: if vectors have not the right shape, or cosines are not finite.
    """
    import numpy as np

    held = list(chain.from_iterable(passages))
    if not any(passage.sentences for passage in held):
        return [[[] for _ in of_query] for of_query in passages]
    asked = encoder.encode_queries([query.text for query in queries]).astype(np.float64)
    vectors = iter(vectors_of_sentences(encoder, held, sentence_vectors, asked.shape[1]))
    return [
        [_cosines(next(vectors), vector) for _ in of_query]
        for vector, of_query in zip(asked, passages, strict=True)
    ]


def vectors_of_sentences(
    encoder: Encoder,
    passages: Sequence[Passage],
    sentence_vectors: SentenceVectors | None,
    dim: int,
) -> list[np.ndarray]:
    """Return the vectors of each passage's sentences, (sentences, dim), any float.

    Args:
        encoder: makes them where there are none yet, each different text once.
        passages: of which one at least has a sentence.
        sentence_vectors: gives those of a passage's sentences; None encodes them.
        dim: width of a vector.

    Raises:
        ValueError: if vectors have not the right shape.
    """
    import numpy as np

    if sentence_vectors is not None:
        found = [sentence_vectors(p) if p.sentences else np.zeros((0, dim)) for p in passages]
    else:
        texts = [sentence_texts(passage) for passage in passages]
        rows = {text: row for row, text in enumerate(dict.fromkeys(chain.from_iterable(texts)))}
        encoded = encoder.encode(list(rows))
        if encoded.shape != (len(rows), dim):
            raise ValueError(f"sentence vectors must be {(len(rows), dim)}, got {encoded.shape}")
        found = [encoded[[rows[text] for text in of_passage]] for of_passage in texts]
    for passage, vectors in zip(passages, found, strict=True):
        if vectors.shape != (len(passage.sentences), dim):
            wanted = (len(passage.sentences), dim)
            raise ValueError(f"sentence vectors must be {wanted}, got {vectors.shape}")
    return found


def _cosines(vectors: np.ndarray, asked: np.ndarray) -> list[float]:
    import numpy as np

    cosines: np.ndarray = vectors.astype(np.float64) @ asked
    if not np.isfinite(cosines).all():
        raise ValueError("sentence vectors must be finite, got some that are not")
    found: list[float] = cosines.tolist()
    return found


def _clipped(cosines: Sequence[float]) -> tuple[float, ...]:
    return tuple(min(1.0, max(LEAST_SCORE, cosine)) for cosine in cosines)

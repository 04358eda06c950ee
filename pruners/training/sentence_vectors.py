"""Vectors of sentences, made once a text and kept for the length of a training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pruners.scored_texts import sentence_texts
from rag.protocols import Encoder
from rag.records import Passage
from rag.training.watching import Unwatched, Watcher, counting_up


class RememberedVectors:
    """Gives the vectors of a passage's sentences and encodes each different text only once.

    Satisfies the `sentence_vectors` of scorers. Memory grows by `4 * dim` bytes a text.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: dict[str, np.ndarray] = {}

    def learn(self, passages: Sequence[Passage], watcher: Watcher | None = None) -> None:
        """Encode the sentences of passages that are not known yet, in one go.

        Args:
            passages: any number.
            watcher: sees a stage `encode`, a step for each text.
        """
        texts = dict.fromkeys(text for one in passages for text in sentence_texts(one))
        new = [text for text in texts if text not in self._known]
        watcher = watcher or Unwatched()
        watcher.stage("encode", len(new))
        if not new:
            return
        found = self._encoder.encode(new, progress=counting_up(watcher))
        self._known.update(zip(new, found, strict=True))

    def __call__(self, passage: Passage) -> np.ndarray:
        """Return unit vectors, float32 (sentences, dim), of one passage."""
        texts = sentence_texts(passage)
        if not texts:
            return np.zeros((0, self._encoder.dim), np.float32)
        if any(text not in self._known for text in texts):
            self.learn([passage])
        return np.stack([self._known[text] for text in texts])

"""An encoder whose vectors can be read: how often each of a few words occurs."""

import numpy as np
import pytest

WORDS = ("cat", "dog", "sun", "sea")


class Words:
    """Counts of four words and a constant, at norm 1."""

    name = "words"
    fingerprint = "w" * 64
    dim = 5

    def __init__(self):
        self.calls = 0

    def encode_queries(self, texts):
        return self.encode(texts)

    def encode(self, texts, *, progress=None):
        self.calls += 1
        vectors = np.array([[0.1, *(text.count(word) for word in WORDS)] for text in texts])
        vectors = vectors.reshape(-1, self.dim).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def words():
    return Words()

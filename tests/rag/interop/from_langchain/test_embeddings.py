"""LangChain embeddings as encoders: unit vectors, identity, asymmetry, errors."""

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding

from rag.interop.langchain import as_embeddings, from_embeddings
from rag.protocols import Encoder


class Letters:
    """Counts of five letters, of any norm; `model` names it."""

    model = "letters"

    def embed_documents(self, texts):
        return [[1.0 + text.count(letter) for letter in "aeiou"] for text in texts]

    def embed_query(self, text):
        return self.embed_documents([text])[0]


def test_vectors_have_unit_length_and_the_models_direction():
    encoder = from_embeddings(Letters())
    vectors = encoder.encode(["aaa", "e"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[0], np.array([4, 1, 1, 1, 1]) / 20**0.5, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)


def test_it_is_an_encoder_that_knows_name_and_width():
    encoder = from_embeddings(Letters())
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.dim) == ("letters", 5)
    assert from_embeddings(Letters(), name="mine").name == "mine"
    assert from_embeddings(DeterministicFakeEmbedding(size=4)).name == "DeterministicFakeEmbedding"


def test_no_texts_give_no_rows_and_progress_tells_the_rest():
    seen = []
    encoder = from_embeddings(Letters())
    assert encoder.encode([]).shape == (0, 5)
    encoder.encode(["a", "b"], progress=seen.append)
    assert seen == [2]


def test_an_encoder_that_went_to_langchain_comes_back(word_encoder):
    encoder = from_embeddings(as_embeddings(word_encoder))
    np.testing.assert_allclose(encoder.encode(["a"]), word_encoder.encode(["a"]), rtol=1e-6)


class Weights:
    """A random projection of letter counts, with a little noise."""

    def __init__(self, seed, noise=0.0):
        self.matrix = np.random.default_rng(seed).normal(size=(26, 40))
        self.noise = noise

    def embed_documents(self, texts):
        counts = [[text.count(chr(97 + letter)) for letter in range(26)] for text in texts]
        return (np.array(counts) @ self.matrix * (1 + self.noise * np.arange(40))).tolist()


def test_the_fingerprint_tells_models_apart_and_forgives_small_noise():
    def fingerprint(embeddings):
        return from_embeddings(embeddings).fingerprint

    assert fingerprint(Weights(0)) == fingerprint(Weights(0)) == fingerprint(Weights(0, 1e-6))
    assert fingerprint(Weights(0)) != fingerprint(Weights(1))
    letters, other = Letters(), Letters()
    other.model = "other"
    assert fingerprint(letters) != fingerprint(other)


def test_queries_are_embedded_in_the_models_own_way():
    class Asymmetric(Letters):
        def embed_query(self, text):
            return [-value for value in super().embed_query(text)]

    encoder = from_embeddings(Asymmetric())
    np.testing.assert_array_equal(encoder.encode_queries(["ab"]), -encoder.encode(["ab"]))
    assert encoder.encode_queries([]).shape == (0, 5)
    plain = from_embeddings(Letters())
    np.testing.assert_array_equal(plain.encode_queries(["ab"]), plain.encode(["ab"]))


def test_a_query_vector_of_another_width_is_an_error():
    embeddings = Letters()
    encoder = from_embeddings(embeddings)
    embeddings.embed_query = lambda text: [1.0, 2.0]
    with pytest.raises(ValueError, match="of width 5, got 2"):
        encoder.encode_queries(["a"])


@pytest.mark.parametrize(
    ("vectors", "error"),
    [
        ([[0.0, 0.0]], "finite and not zero"),
        ([[float("nan"), 1.0]], "finite and not zero"),
        ([[1.0, 0.0]] * 2, r"must return \(1, 5\), got \(2, 2\)"),
        ([1.0, 2.0], r"one vector a text, got shape \(2,\)"),
    ],
)
def test_vectors_that_cannot_be_used_are_errors(vectors, error):
    embeddings = Letters()
    encoder = from_embeddings(embeddings)
    embeddings.embed_documents = lambda texts: vectors
    with pytest.raises(ValueError, match=error):
        encoder.encode(["a"])


def test_what_are_no_embeddings_is_an_error():
    with pytest.raises(ValueError, match=r"^embeddings must have embed_documents, got"):
        from_embeddings(object())

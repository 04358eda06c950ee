"""Our encoders as LangChain embeddings."""

import pytest

from rag.interop.langchain import as_embeddings


def test_vectors_are_the_encoders(word_encoder):
    embeddings = as_embeddings(word_encoder)
    assert embeddings.embed_documents(["a", "b"]) == word_encoder.encode(["a", "b"]).tolist()
    assert embeddings.embed_query("a") == embeddings.embed_documents(["a"])[0]
    assert embeddings.embed_documents([]) == []


def test_something_else_is_an_error():
    with pytest.raises(ValueError, match=r"^encoder must have name, fingerprint, dim and encode"):
        as_embeddings(object())

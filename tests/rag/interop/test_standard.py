"""LangChain's own standard tests of retrievers, embeddings and chat models, on our adapters."""

import pytest

pytest.importorskip("langchain_tests")

from langchain_tests.integration_tests import (
    ChatModelIntegrationTests,
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
)
from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests

from rag.interop.to_langchain.chat_model import ChatDovetail
from rag.interop.to_langchain.embeddings import DovetailEmbeddings
from rag.interop.to_langchain.retriever import DovetailRetriever


@pytest.fixture(autouse=True)
def stand_ins(request, shelf, length_model, word_encoder):
    if request.instance is not None:
        request.instance.shelf = shelf
        request.instance.length_model = length_model
        request.instance.word_encoder = word_encoder


class TestRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self):
        return DovetailRetriever

    @property
    def retriever_constructor_params(self):
        return {"operator": self.shelf}

    @property
    def retriever_query_example(self):
        return "why does bread rise"


class TestEmbeddings(EmbeddingsUnitTests):
    @property
    def embeddings_class(self):
        return DovetailEmbeddings

    @property
    def embedding_model_params(self):
        return {"encoder": self.word_encoder}


class TestEmbeddingsIntegration(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self):
        return DovetailEmbeddings

    @property
    def embedding_model_params(self):
        return {"encoder": self.word_encoder}


class OurChatModel:
    """What both kinds of chat model tests are told; local models know no keys and no time-outs."""

    @property
    def chat_model_class(self):
        return ChatDovetail

    @property
    def chat_model_params(self):
        return {"lm": self.length_model}

    @property
    def standard_chat_model_params(self):
        return {"temperature": 0.0, "max_tokens": 100, "stop": []}

    @property
    def supports_model_override(self):
        return False


class TestChatModel(OurChatModel, ChatModelUnitTests):
    pass


class TestChatModelIntegration(OurChatModel, ChatModelIntegrationTests):
    pass

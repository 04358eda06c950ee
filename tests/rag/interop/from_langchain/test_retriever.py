"""LangChain retrievers as ours: order, scores, unique ids, async, batch, errors."""

import asyncio
from types import SimpleNamespace

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda

from rag.interop.langchain import as_retriever, from_retriever
from rag.records import Query

FOUND = [Document("B.", id="b"), Document("A.", id="a"), Document("B.", id="b")]


def test_documents_become_passages_with_falling_scores():
    found = from_retriever(RunnableLambda(lambda text: FOUND))(Query("why"))
    assert [(p.id, p.text, p.score) for p in found] == [("b", "B.", 1.0), ("a", "A.", 0.5)]


def test_the_query_goes_over_as_text():
    found = from_retriever(RunnableLambda(lambda text: [Document(text)]))(Query("why"))
    assert found[0].text == "why"


def test_our_own_passages_come_back_as_they_were(shelf):
    assert from_retriever(as_retriever(shelf))(Query("why")) == list(shelf.passages)


def test_top_k_cuts(shelf):
    assert len(from_retriever(as_retriever(shelf), top_k=2)(Query("why"))) == 2
    with pytest.raises(ValueError, match=r"^top_k must be at least 1, got 0$"):
        from_retriever(as_retriever(shelf), top_k=0)


def test_async_and_batch_equal_the_call(shelf):
    operator = from_retriever(as_retriever(shelf))
    one = operator(Query("why"))
    assert asyncio.run(operator.acall(Query("why"))) == one
    assert operator.batch(query=[Query("why"), Query("how")]) == [one, one]
    assert operator.batch(query=[]) == []


def test_anything_with_invoke_will_do():
    operator = from_retriever(SimpleNamespace(invoke=lambda text: FOUND[:1]))
    assert [p.id for p in operator(Query("why"))] == ["b"]
    assert asyncio.run(operator.acall(Query("why"))) == operator(Query("why"))
    assert operator.batch(query=[Query("why")]) == [operator(Query("why"))]


def test_nothing_found_is_an_empty_list():
    assert from_retriever(SimpleNamespace(invoke=lambda text: []))(Query("why")) == []


def test_what_is_not_a_retriever_is_an_error():
    with pytest.raises(ValueError, match=r"^retriever must have invoke, got builtins.int$"):
        from_retriever(3)
    with pytest.raises(ValueError, match=r"^retriever must return documents, got str$"):
        from_retriever(SimpleNamespace(invoke=lambda text: ["text"]))(Query("why"))
    with pytest.raises(NotImplementedError, match="hands back no vectors"):
        from_retriever(SimpleNamespace(invoke=lambda text: [])).vectors(["a"])

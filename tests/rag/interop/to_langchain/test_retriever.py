"""Our retrievers as LangChain's: documents, k, callbacks, pruned passages, errors."""

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from rag.interop.langchain import as_passage, as_retriever
from rag.records import Passage, Query


def test_gives_the_operators_passages_as_documents(shelf):
    found = as_retriever(shelf).invoke("why")
    assert [as_passage(d) for d in found] == list(shelf.passages)


def test_async_and_batch_give_the_same(shelf):
    retriever = as_retriever(shelf)
    one = retriever.invoke("why")
    assert asyncio.run(retriever.ainvoke("why")) == one
    assert retriever.batch(["why", "how"]) == [one, one]


def test_k_sets_top_k_of_an_operator_that_has_it(shelf):
    wide = type(shelf)(top_k=1)
    assert len(as_retriever(wide).invoke("why")) == 1
    assert len(as_retriever(wide, k=3).invoke("why")) == 3
    assert len(as_retriever(wide, k=3).invoke("why", k=2)) == 2


def test_k_cuts_the_list_of_any_other_operator(shelf):
    def find(query: Query) -> list[Passage]:
        return list(shelf.passages)

    assert len(as_retriever(find, k=2).invoke("why")) == 2


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_an_error(shelf, k):
    with pytest.raises(ValueError, match=rf"^k must be at least 1, got {k}$"):
        as_retriever(shelf).invoke("why", k=k)


def test_an_unknown_argument_is_an_error(shelf):
    with pytest.raises(TypeError, match="kk"):
        as_retriever(shelf).invoke("why", kk=2)


def test_handlers_see_the_run_under_the_operators_name(shelf, recorder):
    as_retriever(shelf).invoke("why", config={"callbacks": [recorder]})
    assert recorder.seen == [("retriever start", "Shelf"), ("retriever end", 3)]


def test_a_pruned_passage_shows_what_is_kept_and_an_empty_one_is_left_out(shelf, keep_first):
    def find(query: Query) -> list[Passage]:
        return keep_first(query, shelf(query))

    found = as_retriever(find, k=2).invoke("why")
    assert [d.page_content for d in found] == ["Yeast makes dough rise. ", "The reef is long. "]
    assert as_passage(found[0]).text == shelf.passages[0].text


def test_an_async_operator_is_awaited(shelf):
    @dataclass(frozen=True)
    class Slow:
        async def __call__(self, query: Query) -> list[Passage]:
            await asyncio.sleep(0)
            return shelf(query)

    assert len(asyncio.run(as_retriever(Slow()).ainvoke("why"))) == 3
    assert len(as_retriever(Slow()).invoke("why")) == 3


def test_a_pipeline_that_gives_passages_is_a_retriever(shelf):
    pipeline = SimpleNamespace(
        name="find",
        definition=SimpleNamespace(inputs={"query": "Query"}, outputs=("passages",)),
        run=lambda query: SimpleNamespace(outputs={"passages": shelf(Query(query))}),
    )
    retriever = as_retriever(pipeline)
    assert retriever.name == "find"
    assert [d.id for d in retriever.invoke("why")] == ["bread", "chess", "reef"]


def test_an_operator_without_passages_is_an_error():
    with pytest.raises(ValueError, match=r"^a retriever must return passages, got str$"):
        as_retriever(lambda query: "text").invoke("why")
    with pytest.raises(ValueError, match=r"must be callable, got int$"):
        as_retriever(3)

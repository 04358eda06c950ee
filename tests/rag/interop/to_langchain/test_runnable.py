"""Operators, generators and pipelines as runnables: inputs, batches, streams, callbacks."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda

from rag.interop.langchain import as_document, as_generator_runnable, as_runnable
from rag.records import Answer, Passage, Query


@dataclass
class Token:
    text: str
    step: str = "generate"
    path: str = "generate"


@dataclass
class StepEnded:
    step: str = "retrieve"


@dataclass
class Finished:
    result: object


@dataclass
class FakePipeline:
    """What the adapter knows of a pipeline: upper-cases the question, says it word by word."""

    outputs: tuple = ("answer",)
    name: str = "shout"
    batches: list = field(default_factory=list)

    @property
    def definition(self):
        inputs = {"query": "Query", "passages": "list[Passage]"}
        return SimpleNamespace(inputs=inputs, outputs=self.outputs)

    def run(self, *, query, passages=()):
        if not query:
            raise ValueError("no question")
        ids = [p.id for p in passages]
        found = {"answer": Answer(" ".join([query.upper(), *ids])), "query": Query(query)}
        return SimpleNamespace(outputs={name: found[name] for name in self.outputs})

    def batch(self, inputs):
        self.batches.append(len(inputs))
        return [self.run(**item) for item in inputs]

    def stream(self, **inputs):
        result = self.run(**inputs)
        yield StepEnded()
        for number, word in enumerate(inputs["query"].upper().split()):
            yield Token(word, path=f"map[{number % 2}]/generate")
        yield Finished(result)

    async def arun(self, **inputs):
        return self.run(**inputs)

    async def abatch(self, inputs):
        return self.batch(inputs)

    async def astream(self, **inputs):
        for event in self.stream(**inputs):
            yield event


async def collected(stream):
    return [item async for item in stream]


def test_a_text_goes_to_the_query_of_a_pipeline():
    runnable = as_runnable(FakePipeline())
    assert runnable.invoke("why me") == Answer("WHY ME")
    assert asyncio.run(runnable.ainvoke("why me")) == Answer("WHY ME")


def test_several_outputs_come_as_a_dict():
    runnable = as_runnable(FakePipeline(outputs=("answer", "query")))
    assert runnable.invoke({"query": "why"}) == {"answer": Answer("WHY"), "query": Query("why")}


def test_documents_become_passages_under_either_name(shelf):
    runnable = as_runnable(FakePipeline())
    documents = [as_document(p) for p in shelf.passages]
    for name in ("passages", "documents"):
        assert runnable.invoke({"query": "why", name: documents}).text == "WHY bread chess reef"


def test_a_batch_is_one_call_and_equals_a_loop():
    pipeline = FakePipeline()
    runnable = as_runnable(pipeline)
    inputs = ["a", {"query": "b"}, "c"]
    found = runnable.batch(inputs)
    assert pipeline.batches == [3]
    assert found == [runnable.invoke(item) for item in inputs]
    assert asyncio.run(runnable.abatch(inputs)) == found
    assert runnable.batch([]) == []


def test_a_failure_stays_with_its_item_if_asked_for():
    runnable = as_runnable(FakePipeline())
    inputs = ["a", {"query": ""}, "c"]
    with pytest.raises(ValueError, match="no question"):
        runnable.batch(inputs)
    for found in (
        runnable.batch(inputs, return_exceptions=True),
        asyncio.run(runnable.abatch(inputs, return_exceptions=True)),
    ):
        assert [found[0], found[2]] == [Answer("A"), Answer("C")]
        assert str(found[1]) == "no question"


def test_a_stream_gives_pieces_and_the_output_last():
    runnable = as_runnable(FakePipeline())
    expected = ["WHY", "ME", "NOW", Answer("WHY ME NOW")]
    assert list(runnable.stream("why me now")) == expected
    assert asyncio.run(collected(runnable.astream("why me now"))) == expected


def test_handlers_see_the_run_and_its_output(recorder):
    config = {"callbacks": [recorder], "run_name": "mine"}
    as_runnable(FakePipeline()).invoke("why", config=config)
    assert recorder.seen == [("chain start", "mine"), ("chain end", Answer("WHY"))]


def test_handlers_see_the_tokens_of_each_text_in_a_run_of_its_own(recorder):
    expected = [
        ("chain start", "shout"),
        ("model start", "shout"),
        ("token", "A"),
        ("model start", "shout"),
        ("token", "B"),
        ("token", "C"),
        ("model end", "AC"),
        ("model end", "B"),
        ("chain end", Answer("A B C")),
    ]
    runnable = as_runnable(FakePipeline())
    list(runnable.stream("a b c", config={"callbacks": [recorder]}))
    assert recorder.seen == expected
    recorder.seen.clear()
    asyncio.run(collected(runnable.astream("a b c", config={"callbacks": [recorder]})))
    assert recorder.seen == expected


def test_a_run_that_fails_while_streaming_ends_as_an_error(recorder):
    class Breaks:
        def __call__(self, query: Query) -> Answer:
            raise AssertionError

        def stream(self, query):
            yield "a"
            raise ValueError("broken")

    for read in (
        lambda runnable, config: list(runnable.stream("why", config)),
        lambda runnable, config: asyncio.run(collected(runnable.astream("why", config))),
    ):
        recorder.seen.clear()
        with pytest.raises(ValueError, match="broken"):
            read(as_runnable(Breaks()), {"callbacks": [recorder]})
        assert recorder.seen[2:] == [
            ("token", "a"),
            ("model error", "broken"),
            ("chain error", "broken"),
        ]


def test_it_composes_with_other_runnables(shelf):
    chain = RunnableLambda(str.strip) | as_runnable(shelf) | RunnableLambda(len)
    assert chain.invoke(" why ") == 3
    assert list(chain.stream(" why ")) == [3]


def test_an_operators_batch_gets_all_items_at_once(shelf):
    class Counting(type(shelf)):
        calls = 0

        def batch(self, *, query):
            type(self).calls += 1
            return [self(one) for one in query]

    runnable = as_runnable(Counting())
    assert [len(found) for found in runnable.batch(["a", "b"])] == [3, 3]
    assert Counting.calls == 1
    assert asyncio.run(runnable.abatch(["a"])) == runnable.batch(["a"])


def test_items_that_fill_different_ports_are_looped_over():
    class Optional:
        def __call__(self, query: Query, text: str = "-") -> str:
            return query.text + text

        def batch(self, *, query, text):
            raise AssertionError

    assert as_runnable(Optional()).batch(["a", {"query": "b", "text": "+"}]) == ["a-", "b+"]


def test_plain_data_become_the_records_of_the_annotations():
    def count(queries: Sequence[Query], passages: Sequence[Passage]) -> list[str]:
        return [type(one).__name__ for one in (*queries, *passages)]

    documents = [Document("A.")]
    found = as_runnable(count).invoke({"queries": ["a", "b"], "passages": documents})
    assert found == ["Query", "Query", "Passage"]


def test_a_function_without_annotations_gets_a_query():
    runnable = as_runnable(lambda query: query)
    assert runnable.invoke("why") == Query("why")


def test_an_async_function_is_awaited_everywhere():
    async def shout(query: Query) -> str:
        await asyncio.sleep(0)
        return query.text.upper()

    runnable = as_runnable(shout)
    assert runnable.name == "shout"
    assert runnable.invoke("a") == "A"
    assert asyncio.run(runnable.ainvoke("a")) == "A"
    assert runnable.batch(["a", "b"]) == ["A", "B"]
    assert asyncio.run(runnable.abatch(["a", "b"])) == ["A", "B"]
    assert asyncio.run(collected(runnable.astream("a"))) == ["A"]


def test_an_operator_with_a_call_to_await_is_awaited():
    class Both:
        def __call__(self, query: Query) -> str:
            return "blocking"

        async def acall(self, query):
            return "awaited"

    runnable = as_runnable(Both())
    assert runnable.invoke("a") == "blocking"
    assert asyncio.run(runnable.ainvoke("a")) == "awaited"
    assert asyncio.run(runnable.abatch(["a"])) == ["awaited"]
    assert asyncio.run(collected(runnable.astream("a"))) == ["awaited"]


def test_a_generator_reads_documents_and_streams(echo, shelf):
    runnable = as_generator_runnable(echo)
    given = {"query": "why", "documents": [as_document(p) for p in shelf.passages]}
    answer = runnable.invoke(given)
    assert answer == Answer("why bread chess reef", shelf.passages)
    pieces = ["why ", "bread ", "chess ", "reef "]
    assert list(runnable.stream(given)) == [*pieces, answer]
    assert asyncio.run(collected(runnable.astream(given))) == [*pieces, answer]


def test_errors_name_what_was_allowed(echo, shelf):
    with pytest.raises(ValueError, match=r"^Shelf has no input 'k'; inputs are query$"):
        as_runnable(shelf).invoke({"query": "why", "k": 3})
    with pytest.raises(ValueError, match=r"^query: the question must not be empty"):
        as_runnable(shelf).invoke(" ")
    with pytest.raises(ValueError, match=r"^a generator must take query and passages, Shelf takes"):
        as_generator_runnable(shelf)
    with pytest.raises(ValueError, match=r"given an object with a, b, got str$"):
        as_runnable(lambda a, b: a).invoke("text")
    with pytest.raises(ValueError, match=r"must be callable, got int$"):
        as_runnable(3)

"""Real pipelines as runnables, and every block of the page about LangChain."""

import asyncio
import re
from pathlib import Path

import pytest

from pipelines.indexing import build_index
from rag import LocalModel, Pipeline, load_pipeline
from rag.interop.langchain import as_retriever, as_runnable, from_retriever
from rag.models.language_model import LoadedModel
from rag.records import Answer, Query

PAGE = Path(__file__).parents[3] / "docs" / "langchain.md"
QUESTION = "What is about bridges?"


@pytest.fixture
def model(tiny_model, tiny_tokenizer, identity):
    loaded = tiny_model(max_position_embeddings=4096)
    return LoadedModel(loaded, tiny_tokenizer, identity())


@pytest.fixture
def index(word_encoder, monkeypatch, tmp_path):
    """The folder `notes.idx` in the working folder, of two notes."""
    for name in ("apples", "bridges"):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n\nOne is about {name}. So is two.\n")
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("rag.models.encoder.load_encoder", lambda name, **_: word_encoder)
    monkeypatch.chdir(tmp_path)
    build_index([str(tmp_path)], tmp_path / "notes.idx", encoder=word_encoder)
    return tmp_path / "notes.idx"


def facts(answer):
    assert isinstance(answer, Answer)
    return answer.text, answer.passages, answer.citations, answer.prompt


def test_python_yaml_and_langchain_give_the_same_answer(index, model):
    lm = LocalModel(model)
    steps = ["retrieve.hybrid", "prune.sentences", "generate.cached"]
    short = {"max_tokens": 6}
    with (
        Pipeline("ask", steps).with_options("generate", **short).bind(index=index, lm=lm) as python,
        load_pipeline("ask").with_options("generate", **short).bind(index=index, lm=lm) as yaml,
    ):
        expected = facts(python.run(QUESTION).outputs["answer"])
        assert facts(yaml.run(QUESTION).outputs["answer"]) == expected
        for chain in (as_runnable(python), as_runnable(yaml)):
            *pieces, last = chain.stream(QUESTION)
            assert facts(last) == expected
            assert "".join(pieces).strip() == expected[0]
            assert facts(chain.invoke(QUESTION)) == expected
            assert facts(asyncio.run(chain.ainvoke({"query": QUESTION}))) == expected
            assert [facts(a) for a in chain.batch([QUESTION, Query(QUESTION)])] == [expected] * 2


def test_our_retriever_by_way_of_langchain_gives_the_same_answer(index, model, shelf):
    lm = LocalModel(model)
    found = []
    for retriever in (shelf, from_retriever(as_retriever(shelf))):
        given = Pipeline("p", [retriever, "generate.cached"]).with_options("generate", max_tokens=6)
        with given.bind(index=index, lm=lm) as pipeline:
            found.append(facts(pipeline.run(QUESTION).outputs["answer"]))
    assert found[0] == found[1]


def test_the_blocks_of_the_page_run(index, model, monkeypatch):
    monkeypatch.setattr("rag.models.language_model.load_language_model", lambda *_, **__: model)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(names["documents"]) == 2
    assert 1 <= len(names["shorter"]) <= 2
    assert names["last"].text == names["answer"].text == names["answers"][0].text
    assert names["result"].outputs["answer"].passages
    names["index"].close()
    names["pipeline"].close()
    names["chain"].called.pipeline.close()

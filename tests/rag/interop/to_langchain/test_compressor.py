"""Our pruners as LangChain compressors: shorter texts, whole passages behind them."""

import asyncio

import pytest
from langchain_core.documents import Document

from pruners import SentencePruner
from rag.interop.langchain import as_compressor, as_document, as_passage
from rag.records import Query


def test_documents_are_shortened_and_empty_ones_dropped(shelf, keep_first):
    documents = [as_document(passage) for passage in shelf.passages]
    found = as_compressor(keep_first).compress_documents(documents, "why")
    assert [d.page_content for d in found] == ["Yeast makes dough rise. ", "The reef is long. "]
    bread, _, reef = keep_first(Query("why"), shelf.passages)
    assert [as_passage(d) for d in found] == [bread, reef]


def test_async_gives_the_same(shelf, keep_first):
    documents = [as_document(passage) for passage in shelf.passages]
    compressor = as_compressor(keep_first)
    found = asyncio.run(compressor.acompress_documents(documents, "why"))
    assert found == compressor.compress_documents(documents, "why")


def test_foreign_documents_keep_their_metadata_and_their_whole_text_behind(keep_first):
    metadata = {"tags": ["x"], "source": "a.pdf", "who": None}
    documents = [Document("One. Two.", metadata=metadata)]
    (found,) = as_compressor(keep_first).compress_documents(documents, "why")
    assert found.page_content == "One. "
    assert {k: found.metadata[k] for k in metadata} == metadata
    assert as_passage(found).text == "One. Two."
    assert as_passage(found).kept_rows == (0,)
    assert documents[0].metadata == metadata


def test_compressing_twice_starts_from_the_whole_passage(shelf, keep_first):
    compressor = as_compressor(keep_first)
    once = compressor.compress_documents([as_document(shelf.passages[2])], "why")
    assert compressor.compress_documents(once, "why") == once


def test_a_reranker_changes_the_order(shelf):
    def reverse(query: Query, passages: list) -> list:
        return passages[::-1]

    documents = [as_document(passage) for passage in shelf.passages]
    found = as_compressor(reverse).compress_documents(documents, "why")
    assert [d.id for d in found] == ["reef", "chess", "bread"]


def test_our_sentence_pruner_keeps_everything_at_threshold_0(shelf, word_encoder):
    documents = [as_document(passage) for passage in shelf.passages]
    compressor = as_compressor(SentencePruner(word_encoder, threshold=0.0))
    found = compressor.compress_documents(documents, "why")
    assert [d.page_content for d in found] == [p.text for p in shelf.passages]


def test_no_documents_give_none(keep_first):
    assert as_compressor(keep_first).compress_documents([], "why") == []


def test_something_without_passages_is_an_error(shelf):
    with pytest.raises(ValueError, match=r"^Shelf has no input 'passages'; inputs are query$"):
        as_compressor(shelf).compress_documents([], "why")

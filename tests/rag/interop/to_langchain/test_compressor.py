"""Our pruners as LangChain compressors: shorter texts, whole passages behind them."""

import asyncio
import re
from itertools import pairwise

import pytest
from langchain_core.documents import Document

from pruners import SentencePruner, ThresholdPruner
from rag.interop.langchain import as_compressor, as_document, as_passage
from rag.records import PassageScores, Query, Span


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


class ByLength:
    """The longer a sentence or passage, the better; words where asked for."""

    name = "length"

    def __init__(self, words=False):
        self.words = words

    def __call__(self, query, passages):
        found = []
        for p in passages:
            spans = p.sentences
            if self.words:
                ends = [0, *(m.end() for m in re.finditer(r"\S+\s*", p.text))]
                spans = tuple(Span(a, b) for a, b in pairwise(ends))
            scores = tuple(min(1.0, len(span) / 100) for span in spans)
            found.append(PassageScores(scores, float(len(p.text)), spans if self.words else None))
        return found


def test_a_pruner_that_reorders_and_cuts_decides_the_order_and_keeps_metadata(shelf):
    documents = [as_document(passage) for passage in shelf.passages]
    for document in documents:
        document.metadata["shelf"] = document.id
    pruner = ThresholdPruner(ByLength(), threshold=0.0, reorder=True, top_k=2)
    found = as_compressor(pruner).compress_documents(documents, "why")
    longest = sorted(shelf.passages, key=lambda p: -len(p.text))[:2]
    assert [d.id for d in found] == [p.id for p in longest]
    assert [d.metadata["shelf"] for d in found] == [p.id for p in longest]
    assert [as_passage(d).score for d in found] == [len(p.text) for p in longest]


@pytest.mark.parametrize("words", [False, True])
def test_offsets_of_what_stays_count_in_the_whole_passage(shelf, words):
    documents = [as_document(passage) for passage in shelf.passages]
    pruner = ThresholdPruner(ByLength(words), threshold=0.06 if words else 0.18, min_keep=0)
    found = as_compressor(pruner).compress_documents(documents, "why")
    assert 0 < sum(len(d.page_content) for d in found) < sum(len(p.text) for p in shelf.passages)
    for document in found:
        whole = as_passage(document)
        assert whole.text in {p.text for p in shelf.passages}
        assert whole.kept.unit == ("word" if words else "sentence")
        assert "".join(s.of(whole.text) for s in whole.kept.spans) == document.page_content


def test_a_pruner_that_fails_gives_the_originals(shelf):
    def broken(query, passages):
        raise RuntimeError("out of memory")

    broken.name = "broken"
    documents = [as_document(passage) for passage in shelf.passages]
    with pytest.warns(RuntimeWarning, match="out of memory"):
        found = as_compressor(ThresholdPruner(broken)).compress_documents(documents, "why")
    assert [d.page_content for d in found] == [p.text for p in shelf.passages]


def test_no_documents_give_none(keep_first):
    assert as_compressor(keep_first).compress_documents([], "why") == []


def test_something_without_passages_is_an_error(shelf):
    with pytest.raises(ValueError, match=r"^Shelf has no input 'passages'; inputs are query$"):
        as_compressor(shelf).compress_documents([], "why")

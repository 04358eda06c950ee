"""LangChain compressors as ours: selections where they fit, honest new passages where not."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from rag.interop.langchain import as_compressor, from_compressor
from rag.records import Passage, Query, Selection, SentenceScore, Span, text_sha
from rag.text import split_sentences

REEF = "The reef is long. It lies in the sea. Corals built it."
WHY = Query("why")


def passage_of(text, sentences=None):
    return Passage("reef", "r.md", text, Span(5, 5 + len(text)), sentences or split_sentences(text))


def compressing(edit):
    """Return our operator over a compressor that applies `edit` to the list of documents."""
    return from_compressor(
        SimpleNamespace(compress_documents=lambda documents, query: edit(documents))
    )


def saying(*texts):
    """Return our operator over a compressor that gives these texts for the first document."""
    return compressing(lambda ds: [Document(text, metadata=ds[0].metadata) for text in texts])


def test_whole_sentences_become_a_selection():
    (found,) = saying("The reef is long.\nCorals built it.")(WHY, [passage_of(REEF)])
    assert replace(found, kept=None) == passage_of(REEF)
    assert found.kept_rows == (0, 2)
    assert found.kept.method == "SimpleNamespace"
    assert found.kept.text(REEF) == "The reef is long. Corals built it."
    assert [s.score for s in found.kept.sentences] == [1.0, 0.0, 1.0]


def test_the_whole_text_leaves_the_passage_as_it_was():
    assert saying(REEF)(WHY, [passage_of(REEF)]) == [passage_of(REEF)]
    assert saying(" ".join(REEF.split()) + "\n")(WHY, [passage_of(REEF)]) == [passage_of(REEF)]


def test_several_pieces_of_one_passage_join():
    (found,) = saying("Corals built it.", "The reef is long.")(WHY, [passage_of(REEF)])
    assert found.kept_rows == (0, 2)


def test_a_sentence_that_begins_like_another_is_told_apart():
    text = "No. No way. No. Never."
    sentences = tuple(Span(*ends) for ends in ((0, 4), (4, 12), (12, 16), (16, 22)))
    passage = passage_of(text, sentences)
    for said, rows in [("No way. No.", (1, 2)), ("No. No.", (0, 2)), ("No.", (0,))]:
        (found,) = saying(said)(WHY, [passage])
        assert found.kept_rows == rows
    joined = replace(passage, text="No No way", sentences=(Span(0, 3), Span(3, 9)), span=Span(0, 9))
    assert saying("No way")(WHY, [joined])[0].kept_rows == (1,)


@given(st.sets(st.integers(0, 5), min_size=1))
def test_any_subset_of_sentences_is_recognised(rows):
    text = " ".join(f"Sentence number {n} stands here." for n in range(6))
    passage = passage_of(text)
    shown = " ".join(passage.sentences[row].of(text).strip() for row in sorted(rows))
    (found,) = saying(shown)(WHY, [passage])
    assert found.kept_rows == tuple(sorted(rows))


@pytest.mark.parametrize(
    "text", ["Reefs are long.", "The reef is", "Corals built it. The reef is long."]
)
def test_any_other_text_is_a_passage_of_its_own(text):
    (found,) = saying(text)(WHY, [replace(passage_of(REEF), next="b", score=0.5)])
    assert found.id.startswith("reef~")
    assert len(found.id) == len("reef~") + 8
    assert (found.text, found.span, found.parent) == (text, Span(0, len(text)), "reef")
    assert (found.document, found.next, found.kept) == ("r.md", None, None)
    assert found.sentences == split_sentences(text)


def test_a_passage_of_which_no_text_is_left_is_dropped():
    assert saying(" ")(WHY, [passage_of(REEF)]) == []


def test_a_passage_that_was_pruned_before_can_only_lose_more(keep_first):
    (pruned,) = keep_first(WHY, [passage_of(REEF)])
    assert saying("The reef is long.")(WHY, [pruned]) == [pruned]
    (found,) = saying("Corals built it.")(WHY, [pruned])
    assert found.id.startswith("reef~")


def test_documents_are_known_by_their_id_or_their_metadata(shelf):
    by_id = compressing(lambda ds: [Document(d.page_content, id=d.id) for d in ds])
    by_record = compressing(lambda ds: [Document(d.page_content, metadata=d.metadata) for d in ds])
    assert [p.id for p in by_id(WHY, shelf.passages)] == ["bread", "chess", "reef"]
    assert by_record(WHY, shelf.passages) == by_id(WHY, shelf.passages) == list(shelf.passages)


def test_a_document_from_elsewhere_is_a_passage_of_its_own(shelf):
    (found,) = compressing(lambda ds: [Document("New.", id="new")])(WHY, shelf.passages)
    assert (found.id, found.text) == ("new", "New.")


def test_a_filter_drops_passages_and_keeps_scores(shelf):
    found = compressing(lambda ds: ds[1:])(WHY, shelf.passages)
    assert found == list(shelf.passages[1:])


def test_a_reranker_sets_scores_or_its_order_does(shelf):
    def reranked(documents):
        for score, document in zip((0.1, 0.9, 0.2), documents, strict=True):
            document.metadata["relevance_score"] = score
        return sorted(documents, key=lambda d: -d.metadata["relevance_score"])

    found = compressing(reranked)(WHY, shelf.passages)
    assert [(p.id, p.score) for p in found] == [("chess", 0.9), ("reef", 0.2), ("bread", 0.1)]
    found = compressing(lambda ds: ds[::-1])(WHY, shelf.passages)
    assert [(p.id, p.score) for p in found] == [("reef", 1.0), ("chess", 0.5), ("bread", 1 / 3)]


def test_a_relevance_score_from_before_replaces_nothing(make_passage):
    old = make_passage("a", "A.", score=0.3, metadata={"relevance_score": 0.9})
    assert compressing(lambda ds: ds)(WHY, [old]) == [old]


def test_unscored_passages_stay_so_unless_their_order_changes(make_passage):
    passages = [make_passage("a", "A."), make_passage("b", "B.")]
    assert [p.score for p in compressing(lambda ds: ds)(WHY, passages)] == [None, None]
    assert [p.score for p in compressing(lambda ds: ds[::-1])(WHY, passages)] == [1.0, 0.5]


def test_async_gives_the_same_and_no_passages_ask_nothing(shelf, keep_first):
    operator = from_compressor(as_compressor(keep_first))
    found = operator(WHY, shelf.passages)
    assert [p.kept_rows for p in found] == [(0,), (0,)]
    assert asyncio.run(operator.acall(WHY, shelf.passages)) == found
    plain = compressing(lambda ds: ds)
    assert asyncio.run(plain.acall(WHY, shelf.passages)) == plain(WHY, shelf.passages)
    assert operator(WHY, []) == asyncio.run(operator.acall(WHY, [])) == []


def test_what_is_no_compressor_is_an_error():
    with pytest.raises(ValueError, match=r"^compressor must have compress_documents, got"):
        from_compressor(object())


def test_a_compressor_after_a_pruner_of_words_chooses_among_these():
    text = "Red cats sat. Dogs bark."
    words = [Span(*ends) for ends in ((0, 3), (3, 8), (8, 12), (12, 14), (14, 18), (18, 24))]
    scores = tuple(SentenceScore(s, 0.5, kept=row in {1, 2, 5}) for row, s in enumerate(words))
    passage = passage_of(text)
    kept = Selection("reef", text_sha(text), scores, "words", unit="word")
    pruned = replace(passage, kept=kept)
    assert compressing(lambda ds: ds)(WHY, [pruned]) == [pruned]
    (found,) = saying("cats\nbark.")(WHY, [pruned])
    assert (found.kept.unit, found.kept.kept_rows) == ("word", (1, 5))
    assert found.kept.text(text) == " cats bark."
    (other,) = saying("Red cats")(WHY, [pruned])
    assert (other.parent, other.kept) == ("reef", None)

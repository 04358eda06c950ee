"""Passage to LangChain document and back: lossless, and honest about what was edited."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("langchain_core")

from langchain_core.documents import Document

from rag.interop.langchain import as_document, as_passage
from rag.interop.langchain_documents import ranked, with_passages
from rag.records import Passage, Selection, SentenceScore, Span, text_sha
from rag.text import split_sentences

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
names = st.text("abcdefgh/.-", min_size=1, max_size=8)
numbers = st.floats(allow_nan=False)
metadata_of = st.dictionaries(
    names | st.sampled_from(["source", "title", "page_label", "dovetail"]),
    texts | st.integers() | numbers | st.booleans(),
    max_size=3,
)


@st.composite
def passages(draw):
    text = draw(texts)
    sentences = split_sentences(text)
    start = draw(st.integers(0, 99))
    kept = None
    if draw(st.booleans()):
        scores = tuple(SentenceScore(s, draw(numbers), draw(st.booleans())) for s in sentences)
        threshold, rerank = draw(st.none() | numbers), draw(st.none() | numbers)
        kept = Selection("id", text_sha(text), scores, "some", threshold, rerank)
    return Passage(
        id=draw(names),
        document=draw(names),
        text=text,
        span=Span(start, start + len(text)),
        sentences=sentences,
        title=draw(texts),
        page=draw(st.none() | st.integers(1, 9)),
        modality=draw(st.sampled_from(["text", "table"])),
        previous=draw(st.none() | names),
        next=draw(st.none() | names),
        parent=draw(st.none() | names),
        metadata=draw(metadata_of),
        score=draw(st.none() | numbers),
        kept=kept,
    )


@given(passages())
def test_a_passage_survives_the_way_there_and_back(passage):
    document = as_document(passage)
    assert as_passage(document) == passage
    assert type(document.metadata["dovetail"]) is str


@given(passages(), st.text(max_size=5))
def test_it_survives_a_store_that_renames_and_reads_json(passage, other_id):
    document = as_document(passage)
    stored = json.loads(json.dumps(document.metadata))
    again = Document(id=other_id or None, page_content=document.page_content, metadata=stored)
    assert as_passage(again) == passage


def test_the_text_of_a_pruned_passage_is_what_was_kept(make_passage, keep_first):
    passage = make_passage("reef", "The reef is long. It lies in the sea.", title="Reef", page=2)
    (pruned,) = keep_first(None, [passage])
    document = as_document(pruned)
    assert document.page_content == "The reef is long. "
    assert document.id == "reef"
    shown = {k: v for k, v in document.metadata.items() if k != "dovetail"}
    assert shown == {"source": "reef.md", "title": "Reef", "page_label": "2"}


def test_a_passages_own_metadata_win_over_what_we_add(make_passage):
    document = as_document(make_passage("a", "A.", metadata={"source": "mine", "year": 1999}))
    assert document.metadata["source"] == "mine"
    assert document.metadata["year"] == 1999


def test_edited_text_keeps_ids_and_drops_what_no_longer_fits(make_passage, keep_first):
    passage = make_passage(
        "reef", "The reef is long. It lies in the sea.", title="Reef", page=2, next="b", score=0.5
    )
    (pruned,) = keep_first(None, [replace(passage, span=Span(70, 107))])
    document = as_document(pruned)
    document.page_content = "Reefs are long!  Seas are wet."
    found = as_passage(document)
    assert (found.id, found.document, found.title, found.page, found.score) == (
        "reef",
        "reef.md",
        "Reef",
        2,
        0.5,
    )
    assert found.text == document.page_content
    assert found.span == Span(0, 30)
    assert found.sentences == (Span(0, 17), Span(17, 30))
    assert (found.next, found.kept) == (None, None)


def test_text_that_was_only_prolonged_is_edited_too(make_passage):
    document = as_document(make_passage("a", "One. Two."))
    document.page_content += " Three."
    assert len(as_passage(document).sentences) == 3


def test_metadata_that_changed_in_the_document_change_in_the_passage(make_passage):
    document = as_document(make_passage("a", "A.", metadata={"year": 1, "lang": "en", "n": 2}))
    del document.metadata["lang"]
    document.metadata |= {"year": 3, "tags": ["x", "y"], "nothing": None, "source": "elsewhere"}
    found = as_passage(document)
    assert found.metadata == {"year": 3, "n": 2, "tags": '["x", "y"]', "source": "elsewhere"}
    assert found.document == "a.md"


def test_a_foreign_document_becomes_a_passage():
    metadata = {"source": "x.pdf", "title": "X", "page_label": "7", "tags": [1], "who": None}
    found = as_passage(Document("One. Two.", id="d1", metadata=metadata))
    assert found == Passage(
        "d1",
        "x.pdf",
        "One. Two.",
        Span(0, 9),
        (Span(0, 5), Span(5, 9)),
        title="X",
        page=7,
        metadata={"source": "x.pdf", "title": "X", "page_label": "7", "tags": "[1]"},
    )


def test_a_foreign_document_without_id_gets_one_of_source_and_text():
    first, same = (as_passage(Document("Text.", metadata={"source": "a"})) for _ in range(2))
    other = as_passage(Document("Text.", metadata={"source": "b"}))
    bare = as_passage(Document("Text."))
    assert first.id == same.id != other.id
    assert first.id.startswith("lc-")
    assert (other.document, bare.document) == ("b", bare.id)
    assert as_passage(Document("Text.", metadata={"id": 5})).document == "5"


@pytest.mark.parametrize("label", ["0", "iv", "²", "-1", ""])
def test_a_page_label_that_is_no_page_number_is_no_page(label):
    assert as_passage(Document("A.", metadata={"page_label": label})).page is None


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_foreign_document_has_no_sentences(text):
    assert as_passage(Document(text)).sentences == ()


@pytest.mark.parametrize("note", ["yes", 5, "{}", '{"passage": {"id": 3}, "shown": ""}', "[]"])
def test_a_foreign_record_under_our_key_is_an_error(note):
    with pytest.raises(ValueError, match=r"metadata\['dovetail'\] of document 'd' must be what"):
        as_passage(Document("A.", id="d", metadata={"dovetail": note}))


def test_the_same_id_with_another_text_gets_the_next_free_number():
    documents = [Document(text, id="d") for text in ("A.", "B.", "A.", "C.", "B.")]
    found = with_passages([*documents, Document("D.", id="d#2")])
    assert [(p.id, p.text) for p, _ in found] == [
        ("d", "A."),
        ("d#2", "B."),
        ("d#3", "C."),
        ("d#2#2", "D."),
    ]
    assert [d.page_content for _, d in found] == ["A.", "B.", "C.", "D."]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], []),
        ([None], [1.0]),
        ([0.3], [0.3]),
        ([3.0, 3.0, -1.0], [3.0, 3.0, -1.0]),
        ([1.0, 2.0], [1.0, 0.5]),
        ([9.0, None, 1.0], [1.0, 0.5, 1 / 3]),
    ],
)
def test_scores_that_rise_or_lack_become_one_over_rank(make_passage, scores, expected):
    found = ranked([make_passage(str(i), "A.", score=s) for i, s in enumerate(scores)])
    assert [p.score for p in found] == expected
